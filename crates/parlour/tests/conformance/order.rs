use std::thread;

use super::api::{Setting, settings};
use super::link::each_way;
use crate::support::{data, trials};

trials! {
    for setting in settings() =>
        ten_thousand_messages_arrive_in_order;
}

const COUNT: usize = 10_000;

fn ten_thousand_messages_arrive_in_order(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..COUNT {
                    sender.send(data::message(number, length_of(number))).unwrap();
                }
                sender.close().unwrap();
            });
            let mut message = Vec::new();
            for number in 0..COUNT {
                assert!(receiver.recv_into(&mut message).unwrap().is_some(), "end of file before message {number}");
                data::check(&message, number, length_of(number));
            }
            assert!(receiver.recv_into(&mut message).unwrap().is_none(), "a message after the last one");
        });
    });
}

/// Mostly short, but every 500th message is longer than any buffer.
fn length_of(number: usize) -> usize {
    match number % 500 {
        499 => 100_000,
        _ => number % 97,
    }
}
