//! Tests of shared memory peers that complete the handshake and then violate the protocol.

use std::os::unix::fs::FileExt;

use parlour::{Connection, ErrorKind, ServerOptions, Transport, TryRecvError};
use rustix::event::PollFlags;

use crate::by_hand::Driver;
use crate::by_hand::shm::{ByHand, CONTROL, HEAD, RING, TAIL, put_word, say};
use crate::support::{Base, DEADLINE, trials, wait};

trials! {
    a_head_out_of_range_ends_the_connection_as_a_protocol_error,
    a_tail_out_of_range_ends_the_connection_as_a_protocol_error,
    a_head_one_byte_behind_the_tail_is_an_abort_of_that_direction,
    a_length_over_the_limit_is_refused_and_costs_nothing,
    an_incomplete_message_is_truncated_when_its_sender_disconnects,
    unsolicited_datagrams_change_nothing,
    an_empty_datagram_is_the_end,
}

fn meet(fill: impl FnOnce(&std::fs::File)) -> (ByHand, Connection) {
    let base = Base::new();
    let options = ServerOptions::new().ring_size(RING);
    let driver = Driver::new(options.bind(base.address(Transport::Shm, "hall")).unwrap());
    let hand = ByHand::connect(driver.server.path(), fill);
    (hand, driver.client())
}

fn wrong_values() -> impl Iterator<Item = u64> {
    let ring = RING as u64;
    [ring + 1, 1 << 31, u64::from(u32::MAX), 1 << 32, (1 << 32) + 1, 1 << 63, u64::MAX - ring, u64::MAX - 1].into_iter()
}

fn a_head_out_of_range_ends_the_connection_as_a_protocol_error() {
    for value in wrong_values() {
        let (hand, mut served) = meet(|memory| put_word(memory, HEAD, value));
        for _ in 0..2 {
            assert!(served.has_message(), "the error can be received");
            let received = served.try_recv();
            assert!(
                matches!(&received, Err(TryRecvError::Failed(error)) if error.kind() == ErrorKind::Protocol),
                "{value}: {received:?}"
            );
        }
        assert_eq!(served.recv().unwrap_err().kind(), ErrorKind::Protocol);
        assert_eq!(served.send(b"no more").unwrap_err().kind(), ErrorKind::Disconnected);
        assert!(wait::ready(&hand.socket, PollFlags::empty(), DEADLINE), "the peer sees the end");
    }
}

fn a_tail_out_of_range_ends_the_connection_as_a_protocol_error() {
    // A tail is read only when the ring seems to be full.
    for value in wrong_values().chain([RING as u64, u64::MAX]) {
        let (hand, mut served) = meet(|memory| put_word(memory, TAIL, value));
        served.send(&[1; 1000]).unwrap();
        assert_eq!(served.send(&vec![1; 2 * RING]).unwrap_err().kind(), ErrorKind::Protocol, "{value}");
        assert_eq!(served.recv_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::Disconnected);
        assert!(wait::ready(&hand.socket, PollFlags::empty(), DEADLINE), "the peer sees the end");
    }
}

/// A peer aborts so if its ring was full, and this side has taken all bytes out at the same moment.
fn a_head_one_byte_behind_the_tail_is_an_abort_of_that_direction() {
    let (hand, mut served) = meet(|memory| put_word(memory, HEAD, u64::MAX));
    for _ in 0..2 {
        assert!(served.has_message(), "the error can be received");
        assert_eq!(served.recv_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::Truncated);
    }
    served.send(b"the other direction goes on").unwrap();
    assert_eq!(hand.their_word(HEAD), 4 + 27);
}

fn a_length_over_the_limit_is_refused_and_costs_nothing() {
    // With the flag for descriptors, and without it.
    for length in [(16 << 20) + 1, i32::MAX as u32, 1 << 31 | 0x0100_0001, u32::MAX] {
        let (_hand, mut served) = meet(|memory| {
            memory.write_all_at(&length.to_be_bytes(), CONTROL as u64).unwrap();
            put_word(memory, HEAD, 4);
        });
        assert!(served.has_message());
        assert_eq!(served.recv().unwrap_err().kind(), ErrorKind::MessageTooLong);
    }
}

fn an_incomplete_message_is_truncated_when_its_sender_disconnects() {
    for here in [1, 4, 100, 1003] {
        let (hand, mut served) = meet(|memory| {
            memory.write_all_at(&1000u32.to_be_bytes(), CONTROL as u64).unwrap();
            put_word(memory, HEAD, here);
        });
        assert!(!served.has_message());
        assert!(matches!(served.try_recv(), Err(TryRecvError::Empty)));
        drop(hand);
        assert_eq!(served.recv_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::Truncated);
    }
}

fn unsolicited_datagrams_change_nothing() {
    let (hand, mut served) = meet(|memory| {
        memory.write_all_at(b"\0\0\0\x05hello", CONTROL as u64).unwrap();
        put_word(memory, HEAD, 9);
    });
    for number in 0..200 {
        say(&hand.socket, &vec![1; number + 1], &[]);
    }
    assert_eq!(served.recv().unwrap().unwrap(), b"hello");
    for _ in 0..10 {
        assert!(matches!(served.try_recv(), Err(TryRecvError::Empty)));
    }
    assert!(
        !wait::readable_within(served.recv_fd(), std::time::Duration::from_millis(20)),
        "the datagrams have been read"
    );
    served.send(b"back").unwrap();
    assert_eq!(hand.their_word(HEAD), 8);
    assert_eq!(hand.their_word(TAIL), 9);
    drop(hand);
    assert_eq!(
        served.recv_timeout(DEADLINE).unwrap_err().kind(),
        ErrorKind::Disconnected,
        "the peer has not read everything"
    );
}

fn an_empty_datagram_is_the_end() {
    let (hand, mut served) = meet(|_| ());
    say(&hand.socket, b"", &[]);
    assert_eq!(served.recv_timeout(DEADLINE).unwrap(), None);
    drop(hand);
}
