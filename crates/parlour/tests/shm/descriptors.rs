//! Descriptors that do not match the messages in the ring.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use parlour::{Connection, ErrorKind, Payload, ServerOptions, SharedBytes, Transport, TryRecvError};
use rustix::event::PollFlags;
use rustix::io::Errno;

use crate::by_hand::Driver;
use crate::by_hand::shm::{ByHand, CONTROL, HEAD, RING, TAIL, hear, put_word, say, try_say};
use crate::support::baseline::Baseline;
use crate::support::{Base, Child, DEADLINE, Role, kernel_refuses_descriptors, trials, wait};

trials! {
    a_marked_message_gets_the_descriptors_that_were_sent_before_it,
    a_marked_message_without_descriptors_ends_the_connection,
    more_descriptors_than_allowed_end_the_connection_after_the_messages_before,
    descriptors_that_are_not_allowed_never_arrive,
    without_room_for_a_message_its_descriptors_are_not_sent,
    without_room_for_fed_messages_later_descriptors_are_not_sent,
    descriptors_that_belong_to_no_message_end_the_connection,
}

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

/// Connects a client that has these bytes in its ring and has sent datagrams with these numbers of descriptors.
fn meet(fds_max: usize, bytes: &[u8], datagrams: &[usize]) -> (ByHand, Connection) {
    let base = Base::new();
    let options = ServerOptions::new().ring_size(RING).fds_max(fds_max);
    let driver = Driver::new(options.bind(base.address(Transport::Shm, "hall")).unwrap());
    let hand = ByHand::connect(driver.server.path(), |memory| {
        memory.write_all_at(bytes, CONTROL as u64).unwrap();
        put_word(memory, HEAD, bytes.len() as u64);
    });
    let served = driver.client();
    for &count in datagrams {
        let fds: Vec<_> = (0..count).map(|_| null()).collect();
        say(&hand.socket, b"x", &fds.iter().collect::<Vec<_>>());
    }
    (hand, served)
}

fn expect_end(mut served: Connection, kind: ErrorKind, what: &str) {
    assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), b"one");
    for _ in 0..2 {
        let error = served.recv_timeout(DEADLINE).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}

/// Fills the ring of the server to the last byte, while the peer reports that it has consumed `taken` bytes. Then
/// sends of a descriptor must time out without sending the descriptor.
fn without_room(taken: u64, fed: usize) {
    let base = Base::new();
    let options = ServerOptions::new().ring_size(RING);
    let driver = Driver::new(options.bind(base.address(Transport::Shm, "hall")).unwrap());
    let hand = ByHand::connect(driver.server.path(), |memory| put_word(memory, TAIL, taken));
    let mut served = driver.client();
    for _ in 0..RING / 1024 {
        served.try_send(&[7; 1020]).unwrap();
    }
    if fed > 0 {
        served.feed(&vec![7; fed]).unwrap();
    }
    let block = SharedBytes::new(b"block").unwrap();
    for _ in 0..2 {
        let error = served.send_timeout(Payload::new(b"late").shared(&[&block]), Duration::from_millis(5)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    }
    while wait::ready(&hand.socket, PollFlags::IN, Duration::ZERO) {
        assert!(hear(&hand.socket).1.is_empty(), "a descriptor was sent before its message");
    }
}

/// `stray`: a peer sends descriptors without messages. Prints `ended` when the connection has failed and all of them
/// are closed.
pub const STRAY: Role = Role { name: "stray", play: stray };

fn stray(_: &[String]) {
    let (hand, mut served) = meet(3, b"", &[]);
    let fd = null();
    let before = Baseline::take();
    for round in 0.. {
        assert!(round < 1000, "the connection accepts any number of descriptors");
        match try_say(&hand.socket, b"x", &[&fd, &fd]) {
            Ok(_) => {}
            Err(errno) => panic!("{errno} in round {round}"),
        }
        match served.try_recv() {
            Err(TryRecvError::Empty) => assert!(!served.has_message()),
            Err(TryRecvError::Failed(error)) => {
                assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
                assert!(error.to_string().contains("belong to no message"), "{error}");
                break;
            }
            Ok(message) => panic!("{message:?}"),
        }
    }
    assert!(served.has_message(), "the error is permanent");
    assert_eq!(Baseline::take(), before);
    println!("ended");
}

fn a_marked_message_gets_the_descriptors_that_were_sent_before_it() {
    let (_hand, mut served) = meet(3, b"\x80\0\0\x03one\0\0\0\x03two", &[2]);
    for (bytes, fds) in [(b"one", 2), (b"two", 0)] {
        let message = served.recv_timeout(DEADLINE).unwrap().unwrap();
        assert_eq!(message, bytes);
        assert_eq!(message.fds().len(), fds);
    }
}

fn a_marked_message_without_descriptors_ends_the_connection() {
    let (_hand, served) = meet(3, b"\0\0\0\x03one\x80\0\0\x03two", &[]);
    expect_end(served, ErrorKind::Protocol, "lacks the descriptors");
}

fn more_descriptors_than_allowed_end_the_connection_after_the_messages_before() {
    let (_hand, served) = meet(3, b"\0\0\0\x03one\x80\0\0\x03two", &[4]);
    expect_end(served, ErrorKind::Protocol, "sent 4 descriptors with a message, and 3 are allowed");
}

fn descriptors_that_are_not_allowed_never_arrive() {
    let (hand, mut served) = meet(0, b"\0\0\0\x03one", &[]);
    match try_say(&hand.socket, b"x", &[&null()]) {
        Err(errno) => {
            assert_eq!(errno, Errno::PERM);
            assert_eq!(served.recv().unwrap().unwrap(), b"one");
            assert!(matches!(served.try_recv(), Err(TryRecvError::Empty)));
        }
        // This kernel delivers the descriptors, and the receiver closes them.
        Ok(_) => {
            assert!(!kernel_refuses_descriptors());
            assert_eq!(served.recv().unwrap().unwrap(), b"one");
        }
    }
}

fn without_room_for_a_message_its_descriptors_are_not_sent() {
    without_room(0, 0);
}

fn without_room_for_fed_messages_later_descriptors_are_not_sent() {
    without_room(10, 100);
}

fn descriptors_that_belong_to_no_message_end_the_connection() {
    let mut child = Child::spawn("stray", &["-"]);
    child.expect("ended");
    child.finish();
}
