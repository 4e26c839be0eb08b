use std::thread;
use std::time::{Duration, Instant};

use parlour::ErrorKind;

use super::api::{Connection, Setting, TrySendError, settings};
use super::link::{self, directions, each_way};
use crate::support::{data, trials};

trials! {
    for setting in settings() =>
        when_both_directions_are_full_every_message_arrives_once,
        when_both_directions_are_full_receiving_also_sends,
        a_send_that_times_out_has_sent_nothing_or_keeps_the_rest,
        a_send_to_a_full_channel_continues_when_the_peer_reads;
}

/// Lengths that are not multiples of a page. No kernel takes the longer ones whole when little space is left, so the
/// channel becomes full in the middle of a message.
fn length_of(number: usize) -> usize {
    [3001, 40_009, 700, 100_003][number % 4]
}

const SHORT: Duration = Duration::from_millis(20);

/// Sends without blocking until the channel is full, then with a deadline. Returns the number of accepted messages,
/// which are numbered from 0.
fn fill(end: &mut Connection) -> usize {
    let mut count = 0;
    loop {
        let message = data::message(count, length_of(count));
        match end.try_send(message) {
            Ok(()) => count += 1,
            Err(TrySendError::Full(payload)) => {
                assert_eq!(payload.to_vec(), message, "the payload is returned");
                break;
            }
            Err(TrySendError::Failed(error)) => panic!("{error}"),
        }
        assert!(count < 1_000_000, "the channel is unbounded");
    }
    if !end.capabilities().boundaries {
        assert!(end.try_flush().unwrap_err().is_full(), "the rest of a partially written message is buffered");
    }
    for _ in 0..3 {
        let before = Instant::now();
        match end.send_timeout(data::message(count, length_of(count)), SHORT) {
            Ok(()) => count += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                assert!(before.elapsed() >= SHORT, "the send timed out after {:?}", before.elapsed());
            }
        }
    }
    count
}

fn when_both_directions_are_full_every_message_arrives_once(setting: Setting) {
    let (mut client, mut served) = link::ends(setting);
    let counts = [fill(&mut client), fill(&mut served)];
    thread::scope(|scope| {
        for ((mut sender, mut receiver), count) in directions(client, served).into_iter().zip(counts) {
            scope.spawn(move || {
                sender.flush().unwrap();
                sender.send(b"last").unwrap();
            });
            scope.spawn(move || {
                for number in 0..count {
                    data::check(&receiver.recv().unwrap().expect("a message"), number, length_of(number));
                }
                assert_eq!(receiver.recv().unwrap().expect("a message"), b"last");
                assert_eq!(receiver.recv().unwrap(), None);
            });
        }
    });
}

/// Neither side flushes. Each side sends its buffered rest while it waits in `recv`.
fn when_both_directions_are_full_receiving_also_sends(setting: Setting) {
    let (mut client, mut served) = link::ends(setting);
    let (from_client, from_server) = (fill(&mut client), fill(&mut served));
    thread::scope(|scope| {
        for (mut end, count) in [(client, from_server), (served, from_client)] {
            scope.spawn(move || {
                for number in 0..count {
                    data::check(&end.recv().unwrap().expect("a message"), number, length_of(number));
                }
                end.close().unwrap();
            });
        }
    });
}

fn a_send_that_times_out_has_sent_nothing_or_keeps_the_rest(setting: Setting) {
    let length = 4 << 20;
    each_way(setting, |mut sender, mut receiver| {
        let mut expected = Vec::new();
        for seed in 0..3 {
            match sender.send_timeout(data::message(seed, length), SHORT) {
                Ok(()) => expected.push(seed),
                Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
            }
        }
        if sender.try_flush().is_err() {
            // No message may overtake the buffered rest of an earlier one.
            assert!(sender.try_send(b"x").unwrap_err().is_full());
            assert_eq!(sender.send_timeout(b"x", SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
        }
        thread::scope(|scope| {
            scope.spawn(move || {
                sender.send(b"last").unwrap();
            });
            for seed in expected {
                data::check(&receiver.recv().unwrap().expect("a message"), seed, length);
            }
            assert_eq!(receiver.recv().unwrap().expect("a message"), b"last");
            assert_eq!(receiver.recv().unwrap(), None);
        });
    });
}

fn a_send_to_a_full_channel_continues_when_the_peer_reads(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        let count = fill(&mut sender);
        thread::scope(|scope| {
            scope.spawn(move || {
                for number in count..count + 100 {
                    sender.send_timeout(data::message(number, length_of(number)), crate::support::DEADLINE).unwrap();
                }
            });
            for number in 0..count + 100 {
                data::check(&receiver.recv().unwrap().expect("a message"), number, length_of(number));
            }
            assert_eq!(receiver.recv().unwrap(), None);
        });
    });
}
