use std::thread;

use super::api::{Setting, settings};
use super::link::{self, directions};
use crate::support::{data, trials};

trials! {
    for setting in settings() =>
        every_length_from_0_to_70_000_arrives_whole;
}

const LONGEST: usize = 70_000;

/// Both directions run at the same time, one of them from the longest to the shortest message.
fn every_length_from_0_to_70_000_arrives_whole(setting: Setting) {
    let (client, served) = link::ends(setting);
    thread::scope(|scope| {
        for ((mut sender, mut receiver), down) in directions(client, served).into_iter().zip([false, true]) {
            let lengths = move || (0..=LONGEST).map(move |step| if down { LONGEST - step } else { step });
            scope.spawn(move || lengths().for_each(|length| sender.send(data::message(length, length)).unwrap()));
            scope.spawn(move || {
                let mut message = Vec::new();
                for length in lengths() {
                    assert!(receiver.recv_into(&mut message).unwrap().is_some(), "end of file before length {length}");
                    data::check(&message, length, length);
                }
                assert!(receiver.recv_into(&mut message).unwrap().is_none(), "a message after the last length");
            });
        }
    });
}
