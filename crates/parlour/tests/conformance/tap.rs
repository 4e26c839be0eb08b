//! The messages of a server, as another process sees them.

use parlour::inspect::{self, Tap, TapDirection, TapMessage};
use parlour::{ConnectOptions, ErrorKind, ServerOptions};

use super::api::{Setting, settings};
use super::link::Link;
use crate::support::{DEADLINE, data, trials};

trials! {
    for setting in settings() =>
        messages_of_both_directions_are_tapped_as_they_pass,
        a_message_that_waits_for_space_is_recorded_once,
        a_server_without_taps_or_counters_cannot_be_tapped;
}

fn next(tap: &mut Tap) -> TapMessage {
    tap.recv_timeout(DEADLINE).unwrap().expect("a message has passed")
}

fn messages_of_both_directions_are_tapped_as_they_pass(setting: Setting) {
    const LENGTHS: [usize; 3] = [5, 0, 40_000];
    let Link { mut client, mut served, server: _server, address, base: _base } = Link::new(setting);
    client.send(b"before").unwrap();
    served.recv().unwrap().unwrap();
    let mut tap = inspect::tap(&address).unwrap();
    for length in LENGTHS {
        client.send(data::message(1, length)).unwrap();
        served.recv().unwrap().unwrap();
        served.send(data::message(2, length)).unwrap();
        served.flush().unwrap();
        client.recv().unwrap().unwrap();
    }
    // Two messages of one read, and those that are buffered or tried.
    client.feed(b"ab").unwrap();
    client.feed(b"cd").unwrap();
    client.flush().unwrap();
    for _ in 0..2 {
        assert_eq!(served.recv_into(&mut Vec::new()).unwrap(), Some(2));
    }
    client.feed(b"ef").unwrap();
    client.feed(b"gh").unwrap();
    client.flush().unwrap();
    let mut received = Vec::new();
    while received.len() < 2 {
        received.extend(served.recv_batch(2).unwrap().unwrap());
    }
    served.feed(b"fed").unwrap();
    served.flush().unwrap();
    served.try_send(b"tried").unwrap();
    served.flush().unwrap();
    let mut time = std::time::SystemTime::UNIX_EPOCH;
    for length in LENGTHS {
        for (direction, number) in [(TapDirection::In, 1), (TapDirection::Out, 2)] {
            let message = next(&mut tap);
            assert_eq!((message.direction, message.lost, message.length), (direction, 0, length as u64), "{length}");
            data::check(&message.bytes, number, length);
            assert_eq!((message.client, message.pid), (1, Some(std::process::id())));
            assert!(time <= message.at && message.at <= std::time::SystemTime::now());
            time = message.at;
        }
    }
    let rest: [(TapDirection, &[u8]); 6] = [
        (TapDirection::In, b"ab"),
        (TapDirection::In, b"cd"),
        (TapDirection::In, b"ef"),
        (TapDirection::In, b"gh"),
        (TapDirection::Out, b"fed"),
        (TapDirection::Out, b"tried"),
    ];
    for (direction, bytes) in rest {
        let message = next(&mut tap);
        assert_eq!((message.direction, &message.bytes[..], message.lost), (direction, bytes, 0));
    }
    assert!(tap.recv_timeout(std::time::Duration::ZERO).unwrap().is_none());
}

fn a_message_that_waits_for_space_is_recorded_once(setting: Setting) {
    // More than any channel takes, and less than the ring.
    const COUNT: usize = 48;
    let Link { mut client, mut served, server: _server, address, base: _base } = Link::new(setting);
    let mut tap = inspect::tap(&address).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..COUNT {
                data::check(&client.recv().unwrap().unwrap(), number, 60_000);
            }
        });
        for number in 0..COUNT {
            served.send(data::message(number, 60_000)).unwrap();
        }
        served.flush().unwrap();
    });
    for number in 0..COUNT {
        let message = next(&mut tap);
        assert_eq!((message.direction, message.lost), (TapDirection::Out, 0), "{number}");
        data::check(&message.bytes, number, 60_000);
    }
    assert!(tap.recv_timeout(std::time::Duration::ZERO).unwrap().is_none());
}

fn a_server_without_taps_or_counters_cannot_be_tapped(setting: Setting) {
    for options in [ServerOptions::new().tap(false), ServerOptions::new().stats(false)] {
        let Link { mut client, mut served, server: _server, address, base: _base } =
            Link::with(setting, &options, &ConnectOptions::new());
        assert_eq!(inspect::tap(&address).unwrap_err().kind(), ErrorKind::Unsupported);
        client.send(b"hello").unwrap();
        assert_eq!(served.recv().unwrap().unwrap(), b"hello");
    }
}
