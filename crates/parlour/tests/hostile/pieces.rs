//! Tests of messages over `packet` that arrive in any pieces, at any pace, in more pieces than the length limit
//! permits, and of junk. [`frames`](super::frames) has the same tests for byte streams; here the socket preserves the
//! boundaries of datagrams.

use std::os::fd::OwnedFd;
use std::time::Duration;

use parlour::{Connection, ErrorKind, ServerOptions, Transport};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with};

use crate::by_hand::Driver;
use crate::by_hand::rng::{Rng, seed};
use crate::support::{Base, DEADLINE, data, trials};

trials! {
    for transport in [Transport::Packet] =>
        a_message_arrives_the_same_wherever_it_is_split,
        a_piece_without_its_rest_does_not_extend_the_receivers_deadline,
        every_length_up_to_the_limit_is_taken_in_pieces_and_none_beyond,
        junk_in_datagrams_is_an_error_or_messages_and_nothing_else;
}

/// Small enough that the pieces of a message fit into a socket without blocking.
const MAX: usize = 64 * 1024;

/// A hand-made client, and the server's end of its connection. (Fields are dropped in this order, so the base outlives
/// the server.)
struct Hand {
    raw: OwnedFd,
    served: Connection,
    _driver: Driver,
    _base: Base,
}

impl Hand {
    fn new(transport: Transport) -> Self {
        let base = Base::new();
        let options = ServerOptions::new().message_max(MAX);
        let driver = Driver::new(options.bind(base.address(transport, "raw")).unwrap());
        let raw = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        connect(&raw, &SocketAddrUnix::new(driver.server.path().join(transport.to_string())).unwrap()).unwrap();
        let served = driver.client();
        Self { raw, served, _driver: driver, _base: base }
    }

    /// Sends a piece of a message; `more` says whether another piece follows.
    fn say(&self, more: bool, piece: &[u8]) {
        let datagram = [&[u8::from(more)], piece].concat();
        assert_eq!(send(&self.raw, &datagram, SendFlags::NOSIGNAL).unwrap(), datagram.len());
    }

    fn nothing_yet(&mut self, wait_limit: Duration) {
        assert_eq!(self.served.recv_timeout(wait_limit).unwrap_err().kind(), ErrorKind::TimedOut);
    }

    fn hears(&mut self, message: &[u8]) {
        assert_eq!(self.served.recv_timeout(DEADLINE).unwrap().unwrap(), message);
    }
}

fn a_message_arrives_the_same_wherever_it_is_split(transport: Transport) {
    let mut hand = Hand::new(transport);
    let message = b"a message in pieces";
    for at in 0..=message.len() {
        hand.say(true, &message[..at]);
        // Reads what has arrived before the rest is sent.
        hand.nothing_yet(Duration::ZERO);
        hand.say(false, &message[at..]);
        hand.hears(message);
    }
    // The smallest pieces are single bytes. An empty message follows immediately.
    for byte in message {
        hand.say(true, &[*byte]);
    }
    hand.say(false, b"");
    hand.say(false, b"");
    hand.hears(message);
    hand.hears(b"");
}

fn a_piece_without_its_rest_does_not_extend_the_receivers_deadline(transport: Transport) {
    let mut hand = Hand::new(transport);
    for byte in b"slow" {
        hand.say(true, &[*byte]);
        hand.nothing_yet(Duration::from_millis(50));
    }
    hand.say(false, b"ly");
    hand.hears(b"slowly");
}

fn every_length_up_to_the_limit_is_taken_in_pieces_and_none_beyond(transport: Transport) {
    let piece = data::message(1, MAX / 2);
    let mut hand = Hand::new(transport);
    hand.say(true, piece);
    hand.say(false, piece);
    hand.hears(&[piece, piece].concat());
    // One byte more is too long, whether or not the message ends there.
    for more in [false, true] {
        let mut hand = Hand::new(transport);
        hand.say(true, piece);
        hand.say(true, piece);
        hand.say(more, b"x");
        for _ in 0..2 {
            assert_eq!(hand.served.recv_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::MessageTooLong);
        }
    }
}

fn junk_in_datagrams_is_an_error_or_messages_and_nothing_else(transport: Transport) {
    let seed = seed();
    println!("packet junk: PARLOUR_TEST_SEED={seed}");
    let mut rng = Rng::new(seed);
    for _ in 0..100 {
        let mut hand = Hand::new(transport);
        let mut sent = 0;
        for _ in 0..rng.below(8) {
            // Small first bytes make some of the datagrams valid.
            let mut datagram: Vec<u8> = (0..rng.below(3000)).map(|_| rng.next() as u8).collect();
            if let Some(first) = datagram.first_mut() {
                *first %= 3;
            }
            sent += datagram.len();
            // The server may have ended the connection by now.
            if send(&hand.raw, &datagram, SendFlags::NOSIGNAL).is_err() {
                break;
            }
        }
        drop(std::mem::replace(&mut hand.raw, std::fs::File::open("/dev/null").unwrap().into()));
        let mut heard = 0;
        loop {
            match hand.served.recv_timeout(DEADLINE) {
                Ok(Some(message)) => heard += message.len(),
                Ok(None) => break,
                Err(error) => {
                    let expected = [ErrorKind::Truncated, ErrorKind::MessageTooLong, ErrorKind::Protocol];
                    assert!(expected.contains(&error.kind()), "seed {seed}: {error:?}");
                    break;
                }
            }
        }
        assert!(heard <= sent, "seed {seed}");
    }
}
