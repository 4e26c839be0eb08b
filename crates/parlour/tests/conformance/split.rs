use std::thread;

use parlour::ErrorKind;

use super::api::{Setting, settings};
use super::link::{self, assert_disconnected, directions, each_way};
use crate::support::wait::Sleeper;
use crate::support::{data, trials};

const HALVES: &str = "a hub has no separate halves";

trials! {
    for setting in settings() =>
        the_halves_work_in_two_threads,
        dropping_the_sender_ends_only_its_direction unless setting.is_a_hub(HALVES),
        dropping_the_receiver_ends_only_its_direction unless setting.is_a_hub(HALVES),
        dropping_the_receiver_wakes_a_sender_that_waits unless setting.is_a_hub(HALVES),
        dropping_the_sender_does_not_disturb_a_receiver_that_waits;
}

fn the_halves_work_in_two_threads(setting: Setting) {
    let (client, served) = link::ends(setting);
    thread::scope(|scope| {
        for ((mut sender, mut receiver), count) in directions(client, served).into_iter().zip([2000, 500]) {
            assert_eq!((sender.transport(), receiver.transport()), (setting.transport, setting.transport));
            assert_eq!(sender.peer().uid(), receiver.peer().uid());
            scope.spawn(move || {
                for number in 0..count {
                    sender.send(data::message(number, number)).unwrap();
                }
            });
            scope.spawn(move || {
                for number in 0..count {
                    data::check(&receiver.recv().unwrap().expect("a message"), number, number);
                }
                assert_eq!(receiver.recv().unwrap(), None, "the sender was dropped");
            });
        }
    });
}

fn dropping_the_sender_ends_only_its_direction(setting: Setting) {
    each_way(setting, |first, mut second| {
        let (mut sender, mut receiver) = first.split();
        sender.send(b"last").unwrap();
        drop(sender);
        assert_eq!(second.recv().unwrap().expect("a message"), b"last");
        assert_eq!(second.recv().unwrap(), None);
        for number in 0..100 {
            second.send(data::message(number, 1000)).unwrap();
            data::check(&receiver.recv().unwrap().expect("a message"), number, 1000);
        }
        drop(receiver);
        assert_disconnected(|| second.send(b"too late"));
    });
}

fn dropping_the_receiver_ends_only_its_direction(setting: Setting) {
    each_way(setting, |first, mut second| {
        let (mut sender, receiver) = first.split();
        drop(receiver);
        assert_disconnected(|| second.send(b"too late"));
        for number in 0..100 {
            sender.send(data::message(number, 1000)).unwrap();
            data::check(&second.recv().unwrap().expect("a message"), number, 1000);
        }
        drop(sender);
        assert_eq!(second.recv().unwrap(), None);
    });
}

fn dropping_the_receiver_wakes_a_sender_that_waits(setting: Setting) {
    each_way(setting, |first, mut second| {
        let (_sender, receiver) = first.split();
        let sleeper = Sleeper::start(move || {
            loop {
                if let Err(error) = second.send(data::message(0, 50_000)) {
                    return error.kind();
                }
            }
        });
        drop(receiver);
        assert_eq!(sleeper.result().0, ErrorKind::Disconnected);
    });
}

fn dropping_the_sender_does_not_disturb_a_receiver_that_waits(setting: Setting) {
    each_way(setting, |first, mut second| {
        let (sender, mut receiver) = first.split();
        let sleeper = Sleeper::start(move || receiver.recv().unwrap());
        drop(sender);
        assert_eq!(second.recv().unwrap(), None);
        second.send(b"for the waiting receiver").unwrap();
        assert_eq!(sleeper.result().0.expect("a message"), b"for the waiting receiver");
    });
}
