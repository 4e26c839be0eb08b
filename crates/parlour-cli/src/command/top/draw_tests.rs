//! Tests of the drawing, in a terminal that exists in memory, and the picture of the documentation.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::Path;

use ratatui_core::backend::TestBackend;
use ratatui_core::buffer::Buffer;
use ratatui_core::style::{Color, Modifier};
use ratatui_core::terminal::Terminal;

use super::draw::draw;
use super::keys;
use super::model::{Model, View};
use super::picture::svg;
use super::process::Process;
use super::reading::{Client, Name, Wait};
use super::samples::{client, name, stuck, traffic};

/// Draws the model in a terminal of this size.
fn drawn(model: &mut Model, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(model, frame.area(), frame.buffer_mut())).unwrap();
    terminal.backend().buffer().clone()
}

/// Returns the lines of a screen without the spaces at their ends.
fn lines(buffer: &Buffer) -> Vec<String> {
    let line = |y| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..buffer.area.height).map(line).collect()
}

/// Returns so many clients: the second one is stuck, and the third one is stopped. Each has sent `count` messages.
fn clients(number: u64, count: u64) -> Vec<Client> {
    let one = |number| match number {
        2 => stuck(2, 72),
        3 => Client { wait: Wait::Idle(std::time::Duration::from_secs(9)), ..client(3, traffic(0, 0), traffic(0, 0)) },
        number => client(number, traffic(count, 100 * count), traffic(count, 50 * count)),
    };
    (1..=number).map(one).collect()
}

/// Returns a view of one name with so many clients.
fn room(number: u64) -> Model {
    let mut model = Model::new(View::Clients("/base/room".to_owned()), None, String::new());
    model.read_name(name("room", 60, clients(number, 0)), 0.0);
    model.read_name(name("room", 70, clients(number, 20)), 10.0);
    let process = |number| Process { program: format!("worker-{number}"), is_stopped: number == 3 };
    model.add_processes((1..=number).map(|number| (number, process(number))).collect());
    model
}

#[test]
fn three_clients_on_a_small_screen() {
    let screen = drawn(&mut room(3), 80, 24);
    let mut expected = vec![
        "room   live   up 1m10s   pid 77, uid 1000, /usr/bin/server",
        "3 clients (1 stuck)  in 2/s  out 2/s  300 bytes/s  4.1k held  3 accepted, 0 ref…",
        "last minute                                          █████████ max 4/s",
        "stuck for 1m12s: the server waits for the client to read, pid 1002 (worker-2)",
        "    PID PROGRAM    VIA      IN/S  OUT/S BYTES/S   HELD STATE",
        "   1002 worker-2   unix        0      0       0   4.1k stuck 1m12s, not reading",
        "   1003 worker-3   unix        0      0       0      0 stopped, idle 9s",
        "   1001 worker-1   unix        2      2     300      0 active",
    ];
    expected.resize(23, "");
    expected.push("q quit  Esc back  / filter  t stuck  s sort: messages  r reverse  space pause");
    assert_eq!(lines(&screen), expected);
    assert_eq!((screen[(4, 5)].fg, screen[(4, 6)].fg), (Color::Red, Color::Yellow));
    assert!(screen[(4, 5)].modifier.contains(Modifier::REVERSED), "the first row is selected");
    assert!(screen[(55, 4)].modifier.contains(Modifier::REVERSED), "the order is that of the state");
}

#[test]
fn no_clients_and_a_thousand_fill_a_screen_of_any_size() {
    for (width, height) in [(80, 24), (200, 60), (1, 1), (30, 5), (120, 7)] {
        for number in [0, 3, 1000] {
            let mut model = room(number);
            let screen = lines(&drawn(&mut model, width, height));
            assert_eq!(screen.len(), usize::from(height));
            if width < 80 || height < 24 {
                continue;
            }
            let shown = screen[5..screen.len() - 1].iter().filter(|line| !line.is_empty()).count();
            assert_eq!(shown, usize::from(height - 6).min(number as usize), "{screen:#?}");
            assert!(screen[1].starts_with(&format!("{number} clients")), "{screen:#?}");
            assert_eq!(screen[3].contains("pid 1002 (worker-2)"), number > 0, "{screen:#?}");
        }
    }
    let wide = lines(&drawn(&mut room(1000), 200, 60));
    assert!(wide[4].contains("UID") && wide[4].contains("CONNECTED"), "{}", wide[4]);
    assert!(wide[5].ends_with("stuck 1m12s, not reading"), "{}", wide[5]);
}

#[test]
fn the_last_of_a_thousand_clients_is_reached_by_keys_after_a_change_of_the_size() {
    let mut model = room(1000);
    for (width, height) in [(200, 60), (80, 24)] {
        drawn(&mut model, width, height);
        for key in keys::parse(b"\x1b[F") {
            model.press(key);
        }
        let screen = lines(&drawn(&mut model, width, height));
        let last = &screen[screen.len() - 2];
        assert!(last.contains("2000") && last.contains("worker-10"), "{screen:#?}");
    }
}

/// Returns a view of three names over a minute, during which the traffic rises and falls.
fn names() -> Model {
    let mut model = Model::new(View::Names, None, String::new());
    let mut messages = 0;
    for second in 0..=60_u64 {
        messages += 400 + 90 * (second % 13) + 20 * second;
        let mut builds = name("builds", 3600 + second, clients(3, messages));
        let mut index =
            name("index", 86_400 + second, vec![client(1, traffic(messages / 40, messages), traffic(0, 0)); 12]);
        let other = Name {
            name: "mail".to_owned(),
            place: "/m".to_owned(),
            state: "live, of another user".to_owned(),
            ..Name::default()
        };
        (builds.pid, index.pid) = (4021, 815);
        model.read_names(vec![builds, index, other], second as f64);
    }
    model
}

#[test]
fn names_have_rates_and_a_graph_and_those_without_counters_a_reason() {
    let screen = lines(&drawn(&mut names(), 80, 24));
    assert_eq!(screen[0], "parlour   3 names   15 clients   1 stuck");
    assert_eq!(screen[1], "builds: stuck for 1m12s: the server waits for the client to read, pid 1002");
    assert_eq!(screen[23], "q quit  Enter open  / filter  t stuck  s sort: messages  r reverse  space pause");
    assert!(screen[2].starts_with("NAME               CLIENTS STUCK  MSG/S BYTES/S   HELD LAST MINUTE STATE"));
    assert!(screen[3].starts_with("builds                   3     1   4.6k    348k   4.1k "), "{}", screen[3]);
    assert!(screen[3].contains('█') && screen[3].ends_with(" live"), "{}", screen[3]);
    assert!(screen[5].starts_with("mail                     -     -      -       -      - "), "{}", screen[5]);
    let wide = lines(&drawn(&mut names(), 200, 60));
    assert!(wide[5].ends_with("live, of another user"), "{}", wide[5]);
}

#[test]
fn a_failure_and_a_filter_are_shown() {
    let mut model = room(3);
    model.fail("no server serves the name".to_owned(), 11.0);
    let screen = lines(&drawn(&mut model, 80, 24));
    assert_eq!(screen[..2], ["parlour   /base/room", "no server serves the name"]);
    let mut model = room(3);
    for key in keys::parse(b"/work") {
        model.press(key);
    }
    let screen = lines(&drawn(&mut model, 80, 24));
    assert!(screen[23].starts_with("filter: work_"), "{}", screen[23]);
    for key in keys::parse(b"\r ") {
        model.press(key);
    }
    let screen = lines(&drawn(&mut model, 100, 24));
    assert!(screen[0].starts_with("room   [filter: work]   [paused]   live"), "{}", screen[0]);
}

/// `PARLOUR_BLESS=1` writes the picture anew.
#[test]
fn the_picture_of_the_documentation_is_what_is_drawn() {
    let mut model = names();
    let names = drawn(&mut model, 100, 8);
    let mut opened = room(9);
    for second in 1..=60_u64 {
        let count = 20 + second * second + 40 * (second % 7);
        opened.read_name(name("room", 70 + second, clients(9, count)), 10.0 + second as f64);
    }
    let clients = drawn(&mut opened, 100, 16);
    let picture = svg(&[names, clients]);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/images/top.svg");
    if std::env::var_os("PARLOUR_BLESS").is_some() {
        fs::write(&file, &picture).unwrap();
    }
    // The archive of this crate has no pages.
    if let Ok(kept) = fs::read_to_string(&file) {
        assert!(kept == picture, "docs/images/top.svg is out of date: run this test with PARLOUR_BLESS=1");
    }
}
