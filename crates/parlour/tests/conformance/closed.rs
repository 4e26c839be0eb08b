use std::time::Duration;

use parlour::ErrorKind;

use super::EVENTS;
use super::api::{Connection, Setting, settings};
use super::link::each_way;
use crate::support::wait::Sleeper;
use crate::support::{DEADLINE, data, trials};

trials! {
    for setting in settings() =>
        the_end_of_the_peer_is_seen_before_its_messages_are_received unless setting.is_a_hub(EVENTS),
        the_end_of_the_peer_wakes_this_side unless setting.is_a_hub(EVENTS),
        a_peer_that_only_ends_sending_has_not_closed unless setting.is_a_hub(EVENTS),
        a_peer_that_only_stops_receiving_has_not_closed unless setting.is_a_hub(EVENTS),
        a_side_that_has_ended_sending_sees_the_end_of_the_peer unless setting.is_a_hub(EVENTS),
        a_wait_for_the_end_loses_no_message unless setting.is_a_hub(EVENTS),
        a_wait_for_the_end_hinders_no_send unless setting.is_a_hub(EVENTS);
}

const SHORT: Duration = Duration::from_millis(20);

fn is_open(end: &mut Connection) -> bool {
    assert!(!end.is_closed());
    end.wait_closed(SHORT).is_err_and(|error| error.kind() == ErrorKind::TimedOut) && !end.is_closed()
}

fn the_end_of_the_peer_is_seen_before_its_messages_are_received(setting: Setting) {
    let ends: [fn(Connection); 3] = [|end| end.close().unwrap(), drop, Connection::abort];
    for (number, end) in ends.into_iter().enumerate() {
        each_way(setting, |mut first, mut second| {
            second.send(data::message(1, 1000)).unwrap();
            assert!(is_open(&mut first));
            end(second);
            first.wait_closed(DEADLINE).unwrap();
            assert!(first.is_closed());
            data::check(&first.recv().unwrap().expect("the message that was sent before"), 1, 1000);
            assert_eq!(first.recv().is_err(), number == 2, "only an abort is an error");
            first.wait_closed(Duration::ZERO).unwrap();
        });
    }
}

fn the_end_of_the_peer_wakes_this_side(setting: Setting) {
    each_way(setting, |mut first, second| {
        let sleeper = Sleeper::start(move || first.wait_closed(DEADLINE));
        drop(second);
        sleeper.result().0.unwrap();
    });
}

fn a_peer_that_only_ends_sending_has_not_closed(setting: Setting) {
    each_way(setting, |mut first, mut second| {
        second.finish().unwrap();
        assert!(is_open(&mut first));
        assert_eq!(first.recv().unwrap(), None);
        assert!(is_open(&mut first));
        first.send(b"still here").unwrap();
        assert_eq!(second.recv().unwrap().expect("a message"), b"still here");
        drop(second);
        first.wait_closed(DEADLINE).unwrap();
    });
}

fn a_peer_that_only_stops_receiving_has_not_closed(setting: Setting) {
    each_way(setting, |mut first, second| {
        let (mut sender, receiver) = second.split();
        drop(receiver);
        for number in 0..3 {
            sender.send(data::message(number, 1000)).unwrap();
            assert!(is_open(&mut first));
            data::check(&first.recv_timeout(DEADLINE).unwrap().expect("a message"), number, 1000);
            assert!(is_open(&mut first));
        }
        drop(sender);
        first.wait_closed(DEADLINE).unwrap();
        assert_eq!(first.recv().unwrap(), None);
    });
}

fn a_side_that_has_ended_sending_sees_the_end_of_the_peer(setting: Setting) {
    each_way(setting, |mut first, mut second| {
        first.finish().unwrap();
        assert_eq!(second.recv().unwrap(), None);
        assert!(is_open(&mut first));
        second.send(b"an answer").unwrap();
        assert!(is_open(&mut first));
        drop(second);
        first.wait_closed(DEADLINE).unwrap();
        assert_eq!(first.recv().unwrap().expect("a message"), b"an answer");
    });
}

/// Messages arrive before a wait that is given up, and while this side waits.
fn a_wait_for_the_end_loses_no_message(setting: Setting) {
    each_way(setting, |mut first, mut second| {
        for number in 0..3 {
            second.send(data::message(number, 1000)).unwrap();
            assert!(is_open(&mut first));
            data::check(&first.recv_timeout(DEADLINE).unwrap().expect("a message"), number, 1000);
            assert!(is_open(&mut first));
        }
        let sleeper = Sleeper::start(move || {
            first.wait_closed(DEADLINE).unwrap();
            first
        });
        for number in 0..10 {
            second.send(data::message(number, 1000)).unwrap();
        }
        second.close().unwrap();
        let (mut first, _) = sleeper.result();
        for number in 0..10 {
            data::check(&first.recv().unwrap().expect("a message"), number, 1000);
        }
        assert_eq!(first.recv().unwrap(), None);
    });
}

/// The channel becomes full, and has space again after a wait that was given up.
fn a_wait_for_the_end_hinders_no_send(setting: Setting) {
    each_way(setting, |mut first, mut second| {
        let mut sent = 0;
        while first.try_send(data::message(sent, 1000)).is_ok() {
            sent += 1;
            assert!(sent < 1_000_000, "the channel is unbounded");
        }
        assert!(is_open(&mut first));
        let reader = std::thread::spawn(move || {
            let mut received = 0;
            while let Some(message) = second.recv().unwrap() {
                data::check(&message, received, 1000);
                received += 1;
            }
            received
        });
        first.send(data::message(sent, 1000)).unwrap();
        first.close().unwrap();
        assert_eq!(reader.join().unwrap(), sent + 1);
    });
}
