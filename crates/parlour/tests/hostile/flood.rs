//! More descriptors than anybody asked for.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use libtest_mimic::Trial;
use parlour::{Connection, ErrorKind, Transport};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::flood_hand::{Hand, meet};
use crate::support::baseline::Baseline;
use crate::support::{Base, Child, DEADLINE, Role, kernel_refuses_descriptors, trial};

/// What is sent, and what becomes of it.
type Case = fn(Connection, Hand, &[BorrowedFd<'_>]);

/// Name, what is allowed, and the case.
const CASES: [(&str, usize, Case); 8] = [
    ("descriptors_that_are_not_allowed_never_arrive", 0, not_allowed),
    ("one_descriptor_too_many_ends_the_connection_after_the_messages_before", 3, one_too_many),
    ("descriptors_add_up_over_the_pieces_of_a_message", 3, in_pieces),
    ("messages_with_descriptors_in_one_read_keep_theirs", 3, many_in_one_read),
    ("the_kernel_sends_253_at_once_and_no_more", 253, as_many_as_there_can_be),
    ("descriptors_of_a_torn_message_are_closed_at_once", 3, torn),
    ("descriptors_that_find_no_place_end_the_connection", 10, no_place),
    ("descriptors_that_nobody_receives_are_closed", 3, never_received),
];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for transport in [Transport::Unix, Transport::Packet] {
        for side in ["server", "client"] {
            for (name, _, _) in CASES {
                trials.push(trial(format!("{transport}::{side}::{name}"), move || {
                    let mut child = Child::spawn("flooded", &[&transport.to_string(), side, name]);
                    child.expect("as before");
                    child.finish();
                }));
            }
        }
    }
    trials
}

/// `flooded TRANSPORT SIDE CASE`: this side of the library is sent descriptors. Says `as before` when the process holds what
/// it held.
pub const FLOODED: Role = Role { name: "flooded", play: flooded };

fn flooded(arguments: &[String]) {
    let transport: Transport = arguments[0].parse().unwrap();
    let (_, fds_max, case) = CASES.into_iter().find(|(name, ..)| *name == arguments[2]).unwrap();
    let base = Base::new();
    let file = File::open("/proc/self/status").unwrap();
    let fds = vec![file.as_fd(); 254];
    // What one connection makes for good, it has made then.
    drop(meet(&Base::new(), transport, &arguments[1], fds_max));
    let before = Baseline::take();
    let (connection, hand) = meet(&base, transport, &arguments[1], fds_max);
    case(connection, hand, &fds);
    assert_eq!(Baseline::take(), before);
    println!("as before");
}

fn expect(connection: &mut Connection, bytes: &[u8], fds: usize) {
    let message = connection.recv_timeout(DEADLINE).unwrap().unwrap();
    assert_eq!(message, bytes);
    assert_eq!(message.fds().len(), fds);
}

/// The connection gives this error, and goes on giving it.
#[track_caller]
fn expect_end(connection: &mut Connection, kind: ErrorKind, what: &str) {
    for _ in 0..2 {
        let error = connection.recv_timeout(DEADLINE).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}

fn not_allowed(mut connection: Connection, hand: Hand, fds: &[BorrowedFd<'_>]) {
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
}

fn one_too_many(mut connection: Connection, hand: Hand, fds: &[BorrowedFd<'_>]) {
    let before = Baseline::take();
    for count in 0..=3 {
        hand.send(b"allowed", &fds[..count]).unwrap();
    }
    hand.send(b"one too many", &fds[..4]).unwrap();
    hand.send(b"behind", &[]).unwrap();
    for count in 0..=3 {
        expect(&mut connection, b"allowed", count);
    }
    expect_end(&mut connection, ErrorKind::Protocol, "4 descriptors came with a message, and 3 are allowed");
    assert_eq!(Baseline::take(), before);
}

fn in_pieces(mut connection: Connection, hand: Hand, fds: &[BorrowedFd<'_>]) {
    hand.send_in_pieces(&[7; 3000], 3, &fds[..1]);
    expect(&mut connection, &[7; 3000], 3);
    hand.send_in_pieces(&[7; 3000], 3, &fds[..2]);
    expect_end(&mut connection, ErrorKind::Protocol, "3 are allowed");
}

fn many_in_one_read(mut connection: Connection, hand: Hand, fds: &[BorrowedFd<'_>]) {
    for round in 0..30 {
        hand.send(b"some", &fds[..round % 4]).unwrap();
        hand.send(&[1; 100], &[]).unwrap();
    }
    for round in 0..30 {
        expect(&mut connection, b"some", round % 4);
        expect(&mut connection, &[1; 100], 0);
    }
}

fn as_many_as_there_can_be(mut connection: Connection, hand: Hand, fds: &[BorrowedFd<'_>]) {
    hand.send(b"all", &fds[..253]).unwrap();
    expect(&mut connection, b"all", 253);
    assert_eq!(hand.send(b"one more", &fds[..254]), Err(Errno::INVAL));
}

fn torn(mut connection: Connection, hand: Hand, fds: &[BorrowedFd<'_>]) {
    let before = Baseline::take();
    hand.send_half(&[7; 3000], &fds[..3]);
    drop(hand);
    expect_end(&mut connection, ErrorKind::Truncated, "in the middle of a message");
    assert_eq!(Baseline::take().descriptors.len(), before.descriptors.len() - 1, "only its own are left");
}

fn no_place(mut connection: Connection, hand: Hand, fds: &[BorrowedFd<'_>]) {
    let before = Baseline::take();
    hand.send(b"before", &fds[..2]).unwrap();
    hand.send(b"five", &fds[..5]).unwrap();
    expect(&mut connection, b"before", 2);
    // Room for two more, counted from the lowest number that is free.
    let plenty = getrlimit(Resource::Nofile);
    let used = Baseline::take().descriptors;
    let limit = (0..).filter(|number| !used.contains_key(number)).nth(2).unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit as u64), ..plenty }).unwrap();
    let error = connection.recv_timeout(DEADLINE).unwrap_err();
    setrlimit(Resource::Nofile, plenty).unwrap();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(error.to_string().contains("ulimit -n"), "{error}");
    expect_end(&mut connection, ErrorKind::Io, "no room for the descriptors");
    assert_eq!(Baseline::take(), before, "not even the two that found a place");
}

fn never_received(connection: Connection, hand: Hand, fds: &[BorrowedFd<'_>]) {
    for _ in 0..10 {
        hand.send(b"never", &fds[..3]).unwrap();
    }
    drop((connection, hand));
}
