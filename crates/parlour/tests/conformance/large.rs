use std::thread;

use super::api::Setting;
use super::link::{Link, directions, each_way};
use crate::support::data;

const MIB: usize = 1 << 20;
const LENGTHS: [usize; 6] = [MIB, 16 * MIB, MIB - 1, 16 * MIB - 3, MIB + 1, MIB];

pub fn large_messages_pass_each_way(setting: Setting) {
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

pub fn large_messages_pass_both_ways_at_once(setting: Setting) {
    let (client, served) = Link::new(setting).ends();
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
