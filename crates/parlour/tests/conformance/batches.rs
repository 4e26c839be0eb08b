//! Messages that are received where they are.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;

use parlour::{ConnectOptions, Payload};

use super::api::{Setting, settings};
use super::link::{self, Link};
use crate::support::{DEADLINE, data, eventually, trials};

const NO_BATCHES: &str = "a hub has events";

trials! {
    for setting in settings() =>
        batches_have_every_message_in_order,
        a_batch_that_is_dropped_loses_no_message,
        a_batch_has_what_arrived_before_an_error,
        messages_in_batches_are_counted unless setting.is_a_pair("a pair has no server"),
        a_batch_waits_as_a_message_does unless setting.is_not_blocking("a runtime has its own timeouts"),
        a_message_with_descriptors_begins_a_batch unless setting.is_not_blocking(NO_BATCHES);
}

/// Lengths of messages that fit in the buffer of a receiver, with some in between that do not.
fn length(number: usize) -> usize {
    match number % 500 {
        499 => 70_000,
        250 => 20_000,
        rest => rest % 70,
    }
}

fn batches_have_every_message_in_order(setting: Setting) {
    const COUNT: usize = 2000;
    link::each_way(setting, |mut sender, mut receiver| {
        thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..COUNT {
                    sender.feed(data::message(number, length(number))).unwrap();
                }
                sender.close().unwrap();
            });
            let mut number = 0;
            while let Some(batch) = receiver.recv_batch(usize::MAX).unwrap() {
                assert!(!batch.is_empty());
                for message in batch {
                    data::check(&message, number, length(number));
                    number += 1;
                }
            }
            assert_eq!(number, COUNT);
            assert!(receiver.recv_batch(usize::MAX).unwrap().is_none(), "the stream has ended");
        });
    });
}

fn a_batch_that_is_dropped_loses_no_message(setting: Setting) {
    const COUNT: usize = 300;
    link::each_way(setting, |mut sender, mut receiver| {
        thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..COUNT {
                    sender.feed(data::message(number, length(number))).unwrap();
                }
                sender.close().unwrap();
            });
            let mut number = 0;
            let mut turn = 0;
            while number < COUNT {
                turn += 1;
                let messages = match turn % 4 {
                    0 => vec![receiver.recv().unwrap().expect("a message").into_vec()],
                    1 => {
                        let mut message = Vec::new();
                        receiver.recv_into(&mut message).unwrap().expect("a message");
                        vec![message]
                    }
                    // The batch may have more messages.
                    taken => receiver.recv_batch(taken - 1).unwrap().expect("a batch"),
                };
                for message in messages {
                    data::check(&message, number, length(number));
                    number += 1;
                }
            }
            assert!(receiver.recv().unwrap().is_none());
        });
    });
}

fn a_batch_has_what_arrived_before_an_error(setting: Setting) {
    link::each_way(setting, |mut sender, mut receiver| {
        for number in 0..10 {
            sender.feed(data::message(number, 20)).unwrap();
        }
        sender.flush().unwrap();
        sender.abort();
        let mut number = 0;
        let error = loop {
            match receiver.recv_batch(usize::MAX) {
                Ok(batch) => {
                    for message in batch.expect("the end is an error") {
                        data::check(&message, number, 20);
                        number += 1;
                    }
                }
                Err(error) => break error,
            }
        };
        assert_eq!(number, 10, "{error:?}");
    });
}

fn messages_in_batches_are_counted(setting: Setting) {
    let Link { mut client, mut served, server, base: _base, .. } = Link::new(setting);
    for number in 0..100 {
        client.feed(data::message(number, 7)).unwrap();
    }
    client.flush().unwrap();
    let mut received = 0;
    while received < 100 {
        received += served.recv_batch(usize::MAX).unwrap().expect("a batch").len();
    }
    let counted = server.stats().received;
    assert_eq!((counted.messages, counted.bytes), (100, 700));
    // The first message of another batch stays.
    client.send("one").unwrap();
    client.send("two").unwrap();
    eventually("both messages were received", || {
        served.recv_batch(1).unwrap();
        server.stats().received.messages == 102
    });
}

fn a_batch_waits_as_a_message_does(setting: Setting) {
    link::each_way(setting, |sender, receiver| {
        let (mut sender, mut receiver) = (sender.into_blocking(), receiver.into_blocking());
        assert!(receiver.try_recv_batch().is_err_and(|error| error.is_empty()));
        let error = receiver.recv_batch_timeout(std::time::Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.kind(), parlour::ErrorKind::TimedOut);
        // Waiting for an answer sends the request.
        sender.feed("request").unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut batch = receiver.recv_batch_timeout(DEADLINE).unwrap().expect("a batch");
                assert_eq!(batch.next_message(), Some(&b"request"[..]));
                assert_eq!(batch.next_message(), None);
                drop(batch);
                receiver.send("answer").unwrap();
            });
            let mut batch = sender.recv_batch().unwrap().expect("a batch");
            assert_eq!(batch.next_message(), Some(&b"answer"[..]));
        });
    });
}

fn a_message_with_descriptors_begins_a_batch(setting: Setting) {
    let (mut sender, mut receiver) = ConnectOptions::new().fds_max(1).pair(setting.transport).unwrap();
    if !sender.capabilities().descriptors {
        return;
    }
    let (mut end, file) = UnixStream::pair().unwrap();
    for text in ["one", "two"] {
        sender.feed(text).unwrap();
    }
    sender.send(Payload::new(b"three").fds(&[file.as_fd()])).unwrap();
    drop(file);
    for text in ["four", "five"] {
        sender.feed(text).unwrap();
    }
    sender.close().unwrap();
    let mut texts = Vec::new();
    while let Some(mut batch) = receiver.recv_batch().unwrap() {
        let before = texts.len();
        while let Some(message) = batch.next_message() {
            assert!(message != b"three" || texts.len() == before, "it is the first of its batch");
            texts.push(String::from_utf8(message.to_vec()).unwrap());
        }
    }
    assert_eq!(texts, ["one", "two", "three", "four", "five"]);
    // The descriptor of the message was closed.
    assert!(end.write(b"x").is_err());
}
