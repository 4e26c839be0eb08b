use std::sync::mpsc;
use std::thread;

use super::api::{Connection, Setting, TryRecvError, echo, settings};
use super::link::each_way;
use crate::support::wait::Sleeper;
use crate::support::{DEADLINE, data, trials};

const BOUNDED: &str = "the write buffer of a hub is bounded, also for fed messages";

trials! {
    for setting in settings() =>
        fed_messages_arrive_apart_and_in_order,
        receiving_sends_fed_messages_before_it_blocks,
        feeding_more_than_64_kib_sends_without_a_flush,
        fed_messages_of_any_length_arrive_whole_and_in_order,
        a_long_message_is_fed_without_waiting_for_others_and_overtakes_none,
        every_way_to_close_sends_fed_messages,
        closing_waits_until_fed_messages_are_sent unless setting.is_a_hub(BOUNDED);
}

fn fed_messages_arrive_apart_and_in_order(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        for number in 0..100 {
            sender.feed(data::message(number, number % 5)).unwrap();
        }
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)), "fed messages are buffered until a flush");
        sender.send(data::message(100, 10)).unwrap();
        sender.feed(data::message(101, 11)).unwrap();
        sender.flush().unwrap();
        assert!(sender.try_flush().is_ok(), "the write buffer is empty");
        for number in 0..100 {
            data::check(&receiver.recv().unwrap().expect("a message"), number, number % 5);
        }
        data::check(&receiver.recv().unwrap().expect("a message"), 100, 10);
        data::check(&receiver.recv().unwrap().expect("a message"), 101, 11);
    });
}

fn receiving_sends_fed_messages_before_it_blocks(setting: Setting) {
    let calls: [fn(&mut Connection) -> Vec<u8>; 3] = [
        |end| end.recv().unwrap().expect("a reply").into_vec(),
        |end| end.recv_timeout(DEADLINE).unwrap().expect("a reply").into_vec(),
        |end| {
            let mut message = Vec::new();
            assert!(end.recv_into(&mut message).unwrap().is_some());
            message
        },
    ];
    for receive in calls {
        each_way(setting, |mut first, second| {
            thread::scope(|scope| {
                scope.spawn(move || echo(second));
                for number in 0..10 {
                    first.feed(data::message(number, 100)).unwrap();
                    data::check(&receive(&mut first), number, 100);
                }
                drop(first);
            });
        });
    }
}

/// The sender does not flush. The receiver still gets everything beyond the last 64 KiB.
fn feeding_more_than_64_kib_sends_without_a_flush(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        let length = 100;
        for number in 0..600 {
            sender.feed(data::message(number, length)).unwrap();
        }
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)), "62,400 bytes stay in the buffer");
        thread::scope(|scope| {
            let (all_received, is_over) = mpsc::channel::<()>();
            scope.spawn(move || {
                for number in 600..2000 {
                    sender.feed(data::message(number, length)).unwrap();
                }
                // Keeps the sender open, because closing it would flush.
                let _ = is_over.recv();
            });
            // At most 64 KiB stay in the buffer.
            for number in 0..2000 - 64 * 1024 / length {
                data::check(&receiver.recv_timeout(DEADLINE).unwrap().expect("a message"), number, length);
            }
            drop(all_received);
        });
    });
}

/// The channel is full again and again, also within messages that it takes in pieces.
fn fed_messages_of_any_length_arrive_whole_and_in_order(setting: Setting) {
    const COUNT: usize = 20_000;
    let length_of = |number: usize| match number % 8000 {
        2000 => 65_532,
        4000 => 65_533,
        6000 => 3 << 20,
        rest => rest % 97,
    };
    each_way(setting, |mut sender, mut receiver| {
        thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..COUNT {
                    sender.feed(data::message(number, length_of(number))).unwrap();
                    if number % 1000 == 999 {
                        sender.flush().unwrap();
                    }
                }
                sender.close().unwrap();
            });
            for number in 0..COUNT {
                // Messages that were read together with others are known to be there.
                let message = match receiver.has_message() {
                    true => receiver.try_recv().unwrap(),
                    false => receiver.recv_timeout(DEADLINE).unwrap(),
                };
                data::check(&message.expect("a message"), number, length_of(number));
            }
            assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), None);
        });
    });
}

fn a_long_message_is_fed_without_waiting_for_others_and_overtakes_none(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        thread::scope(|scope| {
            let (all_received, is_over) = mpsc::channel::<()>();
            scope.spawn(move || {
                for number in 0..10 {
                    sender.feed(data::message(number, 100)).unwrap();
                }
                sender.feed(data::message(10, 200_000)).unwrap();
                let _ = is_over.recv();
            });
            for number in 0..=10 {
                let length = if number < 10 { 100 } else { 200_000 };
                data::check(&receiver.recv_timeout(DEADLINE).unwrap().expect("a message"), number, length);
            }
            drop(all_received);
        });
    });
}

fn every_way_to_close_sends_fed_messages(setting: Setting) {
    let ends: [fn(Connection); 5] = [
        |end| end.close().unwrap(),
        // The channel has space, so dropping sends the fed messages.
        drop,
        |mut end| end.finish().unwrap(),
        |end| drop(end.split().0),
        |end| {
            let (mut sender, _receiver) = end.split();
            sender.finish().unwrap();
        },
    ];
    for end in ends {
        each_way(setting, |mut sender, mut receiver| {
            for number in 0..10 {
                sender.feed(data::message(number, 1000)).unwrap();
            }
            end(sender);
            for number in 0..10 {
                data::check(&receiver.recv().unwrap().expect("a message"), number, 1000);
            }
            assert_eq!(receiver.recv().unwrap(), None);
        });
    }
}

fn closing_waits_until_fed_messages_are_sent(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        let mut count = 0;
        while sender.try_send(data::message(count, 3001)).is_ok() {
            count += 1;
        }
        let fed = 10;
        for number in count..count + fed {
            sender.feed(data::message(number, 3001)).unwrap();
        }
        let sleeper = Sleeper::start(move || sender.close().unwrap());
        for number in 0..count + fed {
            data::check(&receiver.recv().unwrap().expect("a message"), number, 3001);
        }
        assert_eq!(receiver.recv().unwrap(), None);
        sleeper.result();
    });
}
