//! Iterators over received messages.

use parlour::Connection;

use super::api::{Setting, settings};
use super::link;
use crate::support::{eventually, trials};

const STREAMS: &str = "tasks have streams, and a hub has events";

trials! {
    for setting in settings() =>
        an_iterator_returns_every_message_and_ends_at_the_end_of_the_stream unless setting.is_not_blocking(STREAMS),
        an_iterator_that_does_not_block_returns_what_has_arrived unless setting.is_not_blocking(STREAMS);
}

fn each_way(setting: Setting, scene: impl Fn(Connection, Connection)) {
    link::each_way(setting, |first, second| scene(first.into_blocking(), second.into_blocking()));
}

fn an_iterator_returns_every_message_and_ends_at_the_end_of_the_stream(setting: Setting) {
    each_way(setting, |mut sender, receiver| {
        for number in 0..100u8 {
            sender.feed(&[number]).unwrap();
        }
        sender.finish().unwrap();
        let (_sending, mut receiver) = receiver.split();
        let mut messages = receiver.iter();
        for number in 0..100u8 {
            assert_eq!(messages.next().unwrap().unwrap(), &[number]);
        }
        assert!(messages.next().is_none());
        assert!(messages.next().is_none(), "the iterator is fused");
        assert_eq!((&mut receiver).into_iter().count(), 0);
    });
}

fn an_iterator_that_does_not_block_returns_what_has_arrived(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        assert_eq!(receiver.try_iter().count(), 0);
        sender.send(b"one").unwrap();
        sender.send(b"two").unwrap();
        let mut received = Vec::new();
        eventually("both messages arrive", || {
            received.extend(receiver.try_iter().map(|message| message.unwrap().into_vec()));
            received.len() == 2
        });
        assert_eq!(received, [b"one", b"two"]);
        drop(sender);
        assert_eq!((&mut receiver).into_iter().count(), 0);
        assert_eq!(receiver.iter().count(), 0);
        assert_eq!(receiver.try_iter().count(), 0);
    });
}
