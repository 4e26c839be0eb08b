use std::thread;

use super::api::{Setting, settings};
use super::link::{self, directions, each_way};
use crate::support::{data, trials};

trials! {
    for setting in settings() =>
        large_messages_pass_each_way,
        long_messages_pass_whatever_came_before_them,
        large_messages_pass_both_ways_at_once;
}

const MIB: usize = 1 << 20;
const LENGTHS: [usize; 6] = [MIB, 16 * MIB, MIB - 1, 16 * MIB - 3, MIB + 1, MIB];

fn large_messages_pass_each_way(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        thread::scope(|scope| {
            scope.spawn(move || {
                for (seed, length) in LENGTHS.into_iter().enumerate() {
                    sender.send(data::message(seed, length)).unwrap();
                }
            });
            for (seed, length) in LENGTHS.into_iter().enumerate() {
                data::check(&receiver.recv().unwrap().expect("a message"), seed, length);
            }
        });
    });
}

/// A receiver may expect a message to be as long as the one before it. A wrong expectation, or any number of short
/// messages before a long one, must not matter.
fn long_messages_pass_whatever_came_before_them(setting: Setting) {
    const AFTER: [usize; 16] =
        [20_000, 20_000, 20_000, 5, 20_000, 19_999, 20_001, 0, 65_536, 65_536, 70_000, 70_000, 4, MIB, MIB, 30_000];
    each_way(setting, |mut sender, mut receiver| {
        for short in [0, 1, 14, 15, 16, 40] {
            let lengths = || std::iter::repeat_n(7, short).chain(AFTER);
            thread::scope(|scope| {
                scope.spawn(|| {
                    for (seed, length) in lengths().enumerate() {
                        sender.send(data::message(seed, length)).unwrap();
                    }
                });
                for (seed, length) in lengths().enumerate() {
                    data::check(&receiver.recv().unwrap().expect("a message"), seed, length);
                }
            });
        }
    });
}

fn large_messages_pass_both_ways_at_once(setting: Setting) {
    let (client, served) = link::ends(setting);
    thread::scope(|scope| {
        for (mut sender, mut receiver) in directions(client, served) {
            scope.spawn(move || {
                for (seed, length) in LENGTHS.into_iter().enumerate() {
                    sender.send(data::message(seed, length)).unwrap();
                }
            });
            scope.spawn(move || {
                for (seed, length) in LENGTHS.into_iter().enumerate() {
                    data::check(&receiver.recv().unwrap().expect("a message"), seed, length);
                }
                assert_eq!(receiver.recv().unwrap(), None);
            });
        }
    });
}
