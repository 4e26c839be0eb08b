use parlour::Payload;
use std::io::IoSlice;
use std::thread;

use super::api::{Setting, settings};
use super::link::each_way;
use crate::support::{data, trials};

trials! {
    for setting in settings() =>
        a_message_in_parts_arrives_as_one;
}

fn a_message_in_parts_arrives_as_one(setting: Setting) {
    // More parts than one system call takes, with empty parts among them, and parts that are longer than the channel.
    let cases = [(0, 0), (1, 0), (1, 100), (2, 3), (40, 1), (40, 1000), (40, 0), (1500, 3), (3, 500_000)];
    each_way(setting, |mut sender, mut receiver| {
        thread::scope(|scope| {
            scope.spawn(move || {
                for (seed, (count, length)) in cases.into_iter().enumerate() {
                    let whole = data::message(seed, count * length);
                    let mut parts: Vec<_> =
                        (0..count).map(|at| IoSlice::new(&whole[at * length..][..length])).collect();
                    if count > 2 {
                        parts.insert(count / 2, IoSlice::new(b""));
                        parts.push(IoSlice::new(b""));
                    }
                    sender.send(Payload::vectored(&parts)).unwrap();
                }
            });
            for (seed, (count, length)) in cases.into_iter().enumerate() {
                data::check(&receiver.recv().unwrap().expect("a message"), seed, count * length);
            }
            assert_eq!(receiver.recv().unwrap(), None);
        });
    });
}
