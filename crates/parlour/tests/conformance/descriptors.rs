use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use parlour::{ConnectOptions, ErrorKind, Payload, ServerOptions};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{FdFlags, fcntl_getfd};

use super::NO_FDS;
use super::api::{Connection, Setting, settings};
use super::link;
use crate::support::{DEADLINE, data, kernel_refuses_descriptors, trials};

trials! {
    for setting in settings() =>
        descriptors_arrive_with_their_own_message unless setting.is_a_hub(NO_FDS),
        descriptors_that_the_peer_does_not_allow_are_refused_and_nothing_is_sent unless setting.is_a_hub(NO_FDS),
        more_descriptors_than_one_message_can_carry_are_refused_and_nothing_is_sent unless setting.is_a_hub(NO_FDS),
        descriptors_that_the_receiver_does_not_take_are_closed unless setting.is_a_hub(NO_FDS),
        a_full_channel_takes_neither_message_nor_descriptors unless setting.is_a_hub(NO_FDS);
}

/// Runs the scenario for both directions of a connection that allows descriptors. If the transport carries no
/// descriptors, this checks that sending one fails instead.
fn each_way(setting: Setting, scene: impl Fn(Connection, Connection)) {
    for client_sends in [true, false] {
        let (client, served) =
            link::ends_with(setting, &ServerOptions::new().fds_max(253), &ConnectOptions::new().fds_max(253));
        let (mut sender, mut receiver) = if client_sends { (client, served) } else { (served, client) };
        if sender.capabilities().descriptors {
            scene(sender, receiver);
            continue;
        }
        let file = File::open("/dev/null").unwrap();
        let error = sender.send(Payload::new(b"no").fds(&[file.as_fd()])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("connect over unix or packet"), "{error}");
        sender.send(b"yes").unwrap();
        assert_eq!(receiver.recv().unwrap().expect("a message"), b"yes");
    }
}

/// Returns eventfds with these numbers plus one as their counters, so that a receiver can identify each.
fn numbered(numbers: std::ops::Range<u32>) -> Vec<OwnedFd> {
    numbers.map(|number| eventfd(number + 1, EventfdFlags::NONBLOCK).unwrap()).collect()
}

fn number_of(fd: &OwnedFd) -> u32 {
    let mut bytes = [0; 8];
    assert_eq!(rustix::io::read(fd, &mut bytes).unwrap(), 8);
    u32::try_from(u64::from_ne_bytes(bytes)).unwrap() - 1
}

/// Returns the read end of a pipe and its write end. The read end reaches end of file when every copy of the write end
/// is closed.
fn pipe() -> (File, OwnedFd) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (reader.into(), writer)
}

fn borrowed(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}

fn descriptors_arrive_with_their_own_message(setting: Setting) {
    /// Messages with no, some and the maximum number of descriptors; short, long and empty messages; sent and fed.
    const CASES: [(usize, u32); 9] =
        [(0, 1), (100, 0), (3, 2), (70_000, 1), (0, 0), (5000, 3), (2_000_000, 2), (1, 253), (90, 0)];
    each_way(setting, |mut sender, mut receiver| {
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut next = 0;
                for (seed, (length, count)) in CASES.into_iter().cycle().take(200).enumerate() {
                    let message = data::message(seed, length);
                    if count == 0 {
                        sender.feed(message).unwrap();
                        continue;
                    }
                    let fds = numbered(next..next + count);
                    next += count;
                    sender.send(Payload::new(message).fds(&borrowed(&fds))).unwrap();
                }
                sender.close().unwrap();
            });
            let mut next = 0;
            for (seed, (length, count)) in CASES.into_iter().cycle().take(200).enumerate() {
                let message = receiver.recv_timeout(DEADLINE).unwrap().expect("a message");
                data::check(&message, seed, length);
                let numbers: Vec<_> = message.fds().iter().map(number_of).collect();
                assert_eq!(numbers, (next..next + count).collect::<Vec<_>>(), "descriptors of message {seed}");
                for fd in message.into_fds() {
                    assert!(fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
                }
                next += count;
            }
            assert_eq!(receiver.recv().unwrap(), None);
        });
    });
}

fn descriptors_that_the_peer_does_not_allow_are_refused_and_nothing_is_sent(setting: Setting) {
    for client_sends in [true, false] {
        let (client, served) = link::ends(setting);
        let (mut sender, mut receiver) = if client_sends { (client, served) } else { (served, client) };
        if !sender.capabilities().descriptors {
            continue;
        }
        let fds = numbered(0..1);
        match sender.send(Payload::new(b"with").fds(&borrowed(&fds))) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
                assert!(error.to_string().contains("fds_max"), "{error}");
                sender.send(b"without").unwrap();
                assert_eq!(receiver.recv().unwrap().expect("a message"), b"without");
            }
            Ok(()) => {
                assert!(!kernel_refuses_descriptors());
                let error = receiver.recv().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
                assert!(error.to_string().contains("fds_max"), "{error}");
            }
        }
    }
}

fn more_descriptors_than_one_message_can_carry_are_refused_and_nothing_is_sent(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        let fds = numbered(0..254);
        let error = sender.send(Payload::new(b"with").fds(&borrowed(&fds))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MessageTooLong, "{error}");
        sender.send(b"without").unwrap();
        let message = receiver.recv().unwrap().expect("a message");
        assert_eq!(message, b"without");
        assert!(message.fds().is_empty());
    });
}

/// End of file on the read end of a pipe shows that every copy of the write end is closed.
fn descriptors_that_the_receiver_does_not_take_are_closed(setting: Setting) {
    let ways: [fn(Connection); 4] = [
        // Received, and dropped together with the message.
        |mut receiver| drop(receiver.recv().unwrap()),
        |mut receiver| drop(receiver.recv().unwrap().expect("a message").into_vec()),
        // Received by a call that does not return descriptors.
        |mut receiver| assert!(receiver.recv_into(&mut Vec::new()).unwrap().is_some()),
        // Never received.
        drop,
    ];
    for way in ways {
        each_way(setting, |mut sender, receiver| {
            let (mut reader, writer) = pipe();
            sender.send(Payload::new(b"a pipe").fds(&[writer.as_fd(), writer.as_fd()])).unwrap();
            drop(writer);
            way(receiver);
            let mut rest = Vec::new();
            assert_eq!(reader.read_to_end(&mut rest).unwrap(), 0);
        });
    }
}

fn a_full_channel_takes_neither_message_nor_descriptors(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        let mut count = 0;
        while sender.try_send(data::message(count, 3001)).is_ok() {
            count += 1;
        }
        let (mut reader, writer) = pipe();
        // The channel may buffer the rest of an earlier message. That rest goes first, so this send never starts.
        let error =
            sender.send_timeout(Payload::new(b"late").fds(&[writer.as_fd()]), Duration::from_millis(5)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        drop(writer);
        let mut rest = Vec::new();
        assert_eq!(reader.read_to_end(&mut rest).unwrap(), 0, "every copy of the write end is closed");

        let fds = numbered(7..8);
        thread::scope(|scope| {
            scope.spawn(|| {
                sender.send_timeout(Payload::new(b"now").fds(&borrowed(&fds)), DEADLINE).unwrap();
            });
            for number in 0..count {
                data::check(&receiver.recv_timeout(DEADLINE).unwrap().expect("a message"), number, 3001);
            }
            let message = receiver.recv_timeout(DEADLINE).unwrap().expect("a message");
            assert_eq!(message, b"now");
            assert_eq!(message.fds().iter().map(number_of).collect::<Vec<_>>(), [7]);
        });
    });
}
