//! Tests of the model: order, filter, selection and keys.

#![allow(clippy::unwrap_used)]

use super::keys;
use super::model::{Effect, Model, OF_CLIENTS, View};
use super::process::Process;
use super::samples::{client, name, stuck, traffic};
use crate::args::TopOrder;

/// Three names; the server of `slow` has a client that is stuck.
fn names() -> Model {
    let mut model = Model::new(View::Names, None, String::new());
    let at = |messages: u64, uptime| {
        vec![
            name("quiet", uptime, Vec::new()),
            name("busy", uptime, vec![client(1, traffic(messages, 10), traffic(0, 0)); 2]),
            name("slow", uptime, vec![stuck(1, 5)]),
        ]
    };
    model.read_names(at(0, 1), 0.0);
    model.read_names(at(100, 2), 1.0);
    model
}

/// The clients of one name: 1 sends most, 2 is stuck, 3 receives most bytes.
fn clients() -> Model {
    let mut model = Model::new(View::Clients("/base/room".to_owned()), None, String::new());
    let all = |count: u64| {
        let clients =
            [client(1, traffic(9 * count, 9), traffic(0, 0)), stuck(2, 7), client(3, traffic(0, 0), traffic(1, count))];
        name("room", 1 + count, clients.to_vec())
    };
    model.read_name(all(0), 0.0);
    model.read_name(all(100), 100.0);
    model
}

fn shown(model: &Model) -> Vec<&str> {
    model.names().iter().map(|row| &*row.name.name).collect()
}

fn numbers(model: &Model) -> Vec<u64> {
    model.clients().iter().map(|row| row.client.number).collect()
}

fn press(model: &mut Model, keys: &[u8]) -> Vec<Effect> {
    keys::parse(keys).into_iter().map(|key| model.press(key)).collect()
}

#[test]
fn names_with_stuck_clients_come_first_and_s_goes_through_the_orders() {
    let mut model = names();
    assert_eq!(shown(&model), ["slow", "busy", "quiet"]);
    for (order, expected) in [
        (TopOrder::Messages, ["busy", "quiet", "slow"]),
        (TopOrder::Bytes, ["busy", "quiet", "slow"]),
        (TopOrder::Held, ["slow", "busy", "quiet"]),
        (TopOrder::Clients, ["busy", "slow", "quiet"]),
        (TopOrder::Name, ["busy", "quiet", "slow"]),
        (TopOrder::Stuck, ["slow", "busy", "quiet"]),
    ] {
        press(&mut model, b"s");
        assert_eq!((model.order, shown(&model)), (order, expected.to_vec()));
    }
    press(&mut model, b"r");
    assert_eq!(shown(&model), ["busy", "quiet", "slow"], "the reverse, and names that are equal by their names");
}

#[test]
fn clients_are_sorted_by_each_order() {
    let mut model = clients();
    let expected = [[2, 1, 3], [1, 2, 3], [3, 1, 2], [2, 1, 3], [3, 2, 1], [1, 2, 3]].into_iter().zip(OF_CLIENTS);
    for (numbers_of, order) in expected {
        model.order = order;
        assert_eq!(numbers(&model), numbers_of, "{order:?}");
    }
}

#[test]
fn a_filter_is_typed_and_escape_clears_it() {
    let mut model = names();
    press(&mut model, b"/BUq");
    assert!(model.is_typing && shown(&model).is_empty(), "q is a letter of the filter");
    press(&mut model, b"\x7f");
    assert_eq!(shown(&model), ["busy"]);
    press(&mut model, b"\rs");
    assert_eq!((model.is_typing, &*model.filter, model.order), (false, "BU", TopOrder::Messages));
    press(&mut model, b"\x1b");
    assert_eq!(shown(&model).len(), 3);
    press(&mut model, b"/x\x1b");
    assert_eq!((model.is_typing, &*model.filter), (false, ""));
    press(&mut model, b"t");
    assert_eq!(shown(&model), ["slow"]);
}

#[test]
fn a_filter_finds_clients_by_process_and_program() {
    let mut model = clients();
    let process = Process { program: "Plugin".to_owned(), is_stopped: false };
    model.add_processes([(3, process)].into());
    for (filter, expected) in [("1002", vec![2]), ("plug", vec![3]), ("unix", vec![2, 1, 3]), ("none", vec![])] {
        model.filter = filter.to_owned();
        assert_eq!(numbers(&model), expected);
    }
}

#[test]
fn a_client_that_is_stopped_comes_behind_those_that_are_stuck_and_is_found_among_many() {
    let mut model = clients();
    model.add_processes([(3, Process { program: "x".to_owned(), is_stopped: true })].into());
    assert_eq!(numbers(&model), [2, 3, 1]);
    let mut model = Model::new(View::Clients("/base/room".to_owned()), None, String::new());
    let all = (1..=250).map(|number| client(number, traffic(0, 0), traffic(0, 0))).collect();
    model.read_name(name("room", 1, all), 0.0);
    let process = || Process { program: "x".to_owned(), is_stopped: false };
    model.add_processes((1..=250).map(|number| (number, process())).collect());
    model.fit(2);
    let looked: Vec<Vec<u64>> =
        (0..4).map(|_| model.wanted(10).iter().skip(2).map(|client| client.number).collect()).collect();
    let turns: Vec<Vec<u64>> = [1..=100, 101..=200, 201..=250, 1..=100].map(Iterator::collect).into();
    assert_eq!(looked, turns, "in turn");
}

#[test]
fn the_selection_stays_with_its_row_and_inside_the_rows() {
    let mut model = clients();
    model.page = 2;
    assert_eq!(press(&mut model, b"j"), [Effect::None]);
    assert_eq!((model.selected(), numbers(&model)[1]), (1, 1));
    model.order = TopOrder::Messages;
    assert_eq!(model.selected(), 0, "client 1 is the first in this order");
    press(&mut model, b"\x1b[6~");
    assert_eq!(model.selected(), 2);
    press(&mut model, b"jjj");
    assert_eq!(model.selected(), 2);
    press(&mut model, b"\x1b[H");
    assert_eq!(model.selected(), 0);
    press(&mut model, b"k\x1b[F");
    assert_eq!(model.selected(), 2);
    model.read_name(name("room", 500, Vec::new()), 200.0);
    press(&mut model, b"j");
    assert_eq!((model.selected(), numbers(&model).len()), (0, 0));
}

#[test]
fn enter_opens_a_name_and_escape_leaves_it() {
    let mut model = names();
    assert_eq!(press(&mut model, b"j\r"), [Effect::None, Effect::Read]);
    assert_eq!((&model.view, numbers(&model).len()), (&View::Clients("/base/busy".to_owned()), 2));
    model.order = TopOrder::Pid;
    assert_eq!(press(&mut model, b"\x1b"), [Effect::Read]);
    assert_eq!((&model.view, model.selected(), model.order), (&View::Names, 1, TopOrder::Stuck));
    assert_eq!(press(&mut model, b"\x1b\x1b[D"), [Effect::None; 2], "nothing is above the names");
    let mut empty = Model::new(View::Names, None, String::new());
    assert_eq!(press(&mut empty, b"\rjk"), [Effect::None; 3]);
}

#[test]
fn keys_end_suspend_and_redraw_the_view() {
    let mut model = names();
    assert_eq!(press(&mut model, b"\x1a\x0cq"), [Effect::Suspend, Effect::Redraw, Effect::Quit]);
    press(&mut model, b"/");
    assert_eq!(press(&mut model, b"q\x03"), [Effect::None, Effect::Quit]);
}

#[test]
fn a_name_that_cannot_be_read_has_no_rows_and_the_others_stay() {
    let mut model = names();
    press(&mut model, b"\r");
    model.fail("no server".to_owned(), 2.0);
    assert!(model.opened().is_none() && model.clients().is_empty());
    assert_eq!((model.failure.as_deref(), model.all_names().len()), (Some("no server"), 2));
    model.read_name(name("slow", 9, vec![stuck(1, 5)]), 3.0);
    assert_eq!((model.failure.as_deref(), model.clients().len()), (None, 1));
}

#[test]
fn the_selected_row_is_on_the_screen_and_its_process_is_wanted() {
    let mut model = Model::new(View::Clients("/base/room".to_owned()), Some(TopOrder::Pid), String::new());
    let all: Vec<_> = (1..=100).map(|number| client(number, traffic(0, 0), traffic(0, 0))).collect();
    model.read_name(name("room", 1, all), 0.0);
    model.fit(10);
    assert_eq!((model.top, model.page), (0, 10));
    press(&mut model, b"\x1b[F");
    model.fit(10);
    assert_eq!((model.top, model.selected()), (90, 99));
    let wanted: Vec<_> = model.wanted(3).iter().map(|client| client.number).collect();
    assert_eq!(wanted, [91, 92, 93, 94, 95, 96, 97, 98, 99, 100, 1, 2, 3]);
    press(&mut model, b"k");
    model.fit(10);
    assert_eq!((model.top, model.selected()), (90, 98));
    model.fit(50);
    assert_eq!(model.top, 50, "the screen is full");
    let process = Process { program: "cat".to_owned(), is_stopped: false };
    model.add_processes([(5, process.clone()), (500, process)].into());
    assert!(model.process(&client(5, traffic(0, 0), traffic(0, 0))).is_some());
    assert!(model.process(&client(500, traffic(0, 0), traffic(0, 0))).is_none(), "this client is gone");
}
