//! Tests of peers that send more descriptors than allowed.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use parlour::{Connection, ErrorKind, Transport};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::flood_hand::{Hand, meet};
use crate::support::baseline::Baseline;
use crate::support::{Base, DEADLINE, kernel_refuses_descriptors, trials};

trials! {
    for transport in [Transport::Unix, Transport::Packet], side in ["server", "client"] =>
        descriptors_that_are_not_allowed_never_arrive,
        one_descriptor_too_many_ends_the_connection_after_the_messages_before,
        descriptors_add_up_over_the_pieces_of_a_message,
        messages_in_one_read_keep_their_own_descriptors,
        the_kernel_sends_at_most_253_descriptors_in_one_call,
        descriptors_of_a_truncated_message_are_closed_immediately,
        descriptors_that_exceed_the_process_limit_end_the_connection,
        descriptors_that_are_never_received_are_closed;
}

/// Runs this case with a connection of the library on `side`, which allows `fds_max` descriptors for a message. Checks
/// that the process holds the same resources as before.
fn flooded(transport: Transport, side: &str, fds_max: usize, case: impl FnOnce(Connection, Hand, &[BorrowedFd<'_>])) {
    let base = Base::new();
    let file = File::open("/proc/self/status").unwrap();
    let fds = vec![file.as_fd(); 254];
    // This creates everything that the first connection of a process creates for good.
    drop(meet(&Base::new(), transport, side, fds_max));
    let before = Baseline::take();
    let (connection, hand) = meet(&base, transport, side, fds_max);
    case(connection, hand, &fds);
    assert_eq!(Baseline::take(), before);
}

fn expect(connection: &mut Connection, bytes: &[u8], fds: usize) {
    let message = connection.recv_timeout(DEADLINE).unwrap().unwrap();
    assert_eq!(message, bytes);
    assert_eq!(message.fds().len(), fds);
}

/// Checks that receiving returns this error, repeatedly.
#[track_caller]
fn expect_end(connection: &mut Connection, kind: ErrorKind, what: &str) {
    for _ in 0..2 {
        let error = connection.recv_timeout(DEADLINE).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}

fn descriptors_that_are_not_allowed_never_arrive(transport: Transport, side: &str) {
    flooded(transport, side, 0, |mut connection, hand, fds| {
        let before = Baseline::take();
        for count in [1, 2, 100, 253] {
            match hand.send(b"with", &fds[..count]) {
                Err(errno) => assert_eq!(errno, Errno::PERM),
                Ok(()) => {
                    assert!(!kernel_refuses_descriptors());
                    expect_end(&mut connection, ErrorKind::Protocol, "none are allowed");
                    return;
                }
            }
        }
        hand.send(b"without", &[]).unwrap();
        expect(&mut connection, b"without", 0);
        assert_eq!(Baseline::take(), before);
    });
}

fn one_descriptor_too_many_ends_the_connection_after_the_messages_before(transport: Transport, side: &str) {
    flooded(transport, side, 3, |mut connection, hand, fds| {
        let before = Baseline::take();
        for count in 0..=3 {
            hand.send(b"allowed", &fds[..count]).unwrap();
        }
        hand.send(b"one too many", &fds[..4]).unwrap();
        hand.send(b"behind", &[]).unwrap();
        for count in 0..=3 {
            expect(&mut connection, b"allowed", count);
        }
        expect_end(&mut connection, ErrorKind::Protocol, "sent 4 descriptors with a message, and 3 are allowed");
        assert_eq!(Baseline::take(), before);
    });
}

fn descriptors_add_up_over_the_pieces_of_a_message(transport: Transport, side: &str) {
    flooded(transport, side, 3, |mut connection, hand, fds| {
        hand.send_in_pieces(&[7; 3000], 3, &fds[..1]);
        expect(&mut connection, &[7; 3000], 3);
        hand.send_in_pieces(&[7; 3000], 3, &fds[..2]);
        expect_end(&mut connection, ErrorKind::Protocol, "3 are allowed");
    });
}

fn messages_in_one_read_keep_their_own_descriptors(transport: Transport, side: &str) {
    flooded(transport, side, 3, |mut connection, hand, fds| {
        for round in 0..30 {
            hand.send(b"some", &fds[..round % 4]).unwrap();
            hand.send(&[1; 100], &[]).unwrap();
        }
        for round in 0..30 {
            expect(&mut connection, b"some", round % 4);
            expect(&mut connection, &[1; 100], 0);
        }
    });
}

fn the_kernel_sends_at_most_253_descriptors_in_one_call(transport: Transport, side: &str) {
    flooded(transport, side, 253, |mut connection, hand, fds| {
        hand.send(b"all", &fds[..253]).unwrap();
        expect(&mut connection, b"all", 253);
        assert_eq!(hand.send(b"one more", &fds[..254]), Err(Errno::INVAL));
    });
}

fn descriptors_of_a_truncated_message_are_closed_immediately(transport: Transport, side: &str) {
    flooded(transport, side, 3, |mut connection, hand, fds| {
        let before = Baseline::take();
        hand.send_half(&[7; 3000], &fds[..3]);
        drop(hand);
        expect_end(&mut connection, ErrorKind::Truncated, "mid-message");
        assert_eq!(
            Baseline::take().descriptors.len(),
            before.descriptors.len() - 1,
            "only the descriptor of the connection is left"
        );
    });
}

fn descriptors_that_exceed_the_process_limit_end_the_connection(transport: Transport, side: &str) {
    flooded(transport, side, 10, |mut connection, hand, fds| {
        let before = Baseline::take();
        hand.send(b"before", &fds[..2]).unwrap();
        hand.send(b"five", &fds[..5]).unwrap();
        expect(&mut connection, b"before", 2);
        // Leaves room for two more descriptors, counted from the lowest free number.
        let plenty = getrlimit(Resource::Nofile);
        let used = Baseline::take().descriptors;
        let limit = (0..).filter(|number| !used.contains_key(number)).nth(2).unwrap();
        setrlimit(Resource::Nofile, Rlimit { current: Some(limit as u64), ..plenty }).unwrap();
        let error = connection.recv_timeout(DEADLINE).unwrap_err();
        setrlimit(Resource::Nofile, plenty).unwrap();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains("ulimit -n"), "{error}");
        expect_end(&mut connection, ErrorKind::Io, "the descriptors of a message were lost");
        assert_eq!(Baseline::take(), before, "the two descriptors that fitted are closed as well");
    });
}

fn descriptors_that_are_never_received_are_closed(transport: Transport, side: &str) {
    flooded(transport, side, 3, |connection, hand, fds| {
        for _ in 0..10 {
            hand.send(b"never", &fds[..3]).unwrap();
        }
        drop((connection, hand));
    });
}
