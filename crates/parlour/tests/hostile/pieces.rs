//! Tests of messages over `packet` that arrive in any pieces, at any pace, in more pieces than the length limit
//! permits, and of junk. [`frames`](super::frames) has the same tests for byte streams; here the socket preserves the
//! boundaries of datagrams.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use parlour::hub::Event;
use parlour::{Connection, ErrorKind, Hub, ServerOptions, Transport};
use rustix::event::PollFlags;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with};

use crate::by_hand::Driver;
use crate::by_hand::rng::{Rng, seed};
use crate::support::{Base, DEADLINE, data, trials, wait};

trials! {
    for transport in [Transport::Packet] =>
        a_message_arrives_the_same_wherever_it_is_split,
        a_piece_without_its_rest_does_not_extend_the_receivers_deadline,
        every_length_up_to_the_limit_is_taken_in_pieces_and_none_beyond,
        packed_messages_arrive_apart_whatever_their_lengths,
        a_message_of_any_length_is_whole_whatever_length_is_expected,
        a_bad_packed_datagram_is_an_error_after_its_whole_messages,
        descriptors_with_a_packed_datagram_are_closed_and_an_error,
        a_client_of_a_hub_that_packs_its_messages_takes_turns_with_the_others,
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

fn dial(path: &Path, transport: Transport) -> OwnedFd {
    let raw = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    connect(&raw, &SocketAddrUnix::new(path.join(transport.to_string())).unwrap()).unwrap();
    raw
}

impl Hand {
    fn new(transport: Transport) -> Self {
        let base = Base::new();
        let options = ServerOptions::new().message_max(MAX);
        let driver = Driver::new(options.bind(base.address(transport, "raw")).unwrap());
        let raw = dial(driver.server.path(), transport);
        let served = driver.client();
        Self { raw, served, _driver: driver, _base: base }
    }

    /// Sends a piece of a message; `more` says whether another piece follows.
    fn say(&self, more: bool, piece: &[u8]) {
        self.say_marked(u8::from(more), piece);
    }

    fn say_marked(&self, marker: u8, bytes: &[u8]) {
        let datagram = [bytes, &[marker]].concat();
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

/// Returns messages as a packed datagram has them, without the marker.
fn packed(messages: &[&[u8]]) -> Vec<u8> {
    messages.iter().flat_map(|message| [&(message.len() as u32).to_be_bytes()[..], message].concat()).collect()
}

const PACK: u8 = 2;

fn packed_messages_arrive_apart_whatever_their_lengths(transport: Transport) {
    let mut hand = Hand::new(transport);
    let most = data::message(3, 64 * 1024 - 4);
    let many: Vec<&[u8]> = (0..1000).map(|number| data::message(number, number % 7)).collect();
    let three: [&[u8]; 3] = [b"", b"two", b""];
    for messages in [&[&b"alone"[..]][..], &three, &[most], &many] {
        // Once into a short buffer, and once while a long message is expected.
        for expected in [1, 50_000] {
            hand.say(false, data::message(1, expected));
            hand.say_marked(PACK, &packed(messages));
            hand.say(false, b"behind");
            data::check(&hand.served.recv().unwrap().unwrap(), 1, expected);
            for message in messages {
                hand.hears(message);
            }
            hand.hears(b"behind");
        }
    }
}

/// The expected length splits each datagram: its marker is the last byte in the space, the only one behind it, or one
/// of several.
fn a_message_of_any_length_is_whole_whatever_length_is_expected(transport: Transport) {
    let mut hand = Hand::new(transport);
    let lengths = [16_384, 16_383, 16_385, 40_000, 1, 40_000, 0, 50_000, 49_999, 50_001, 20_000];
    for expected in [16_384, 50_000] {
        for (number, length) in lengths.into_iter().enumerate() {
            hand.say(false, data::message(1, expected));
            data::check(&hand.served.recv_timeout(DEADLINE).unwrap().unwrap(), 1, expected);
            hand.say(false, data::message(number, length));
            data::check(&hand.served.recv_timeout(DEADLINE).unwrap().unwrap(), number, length);
            // The same in two pieces.
            let message = data::message(number, length);
            let (first, last) = message.split_at(length / 2);
            hand.say(false, data::message(1, expected));
            data::check(&hand.served.recv_timeout(DEADLINE).unwrap().unwrap(), 1, expected);
            hand.say(true, first);
            hand.say(false, last);
            data::check(&hand.served.recv_timeout(DEADLINE).unwrap().unwrap(), number, length);
        }
    }
}

fn a_bad_packed_datagram_is_an_error_after_its_whole_messages(transport: Transport) {
    let good = packed(&[b"one", b""]);
    let after = |bad: &[u8]| [&good, bad].concat();
    let long = [&packed(&[data::message(1, 60_000)])[..], &packed(&[data::message(2, 6000)])].concat();
    for (bad, kind, count) in [
        (vec![], ErrorKind::Protocol, 0),
        (vec![0; 3], ErrorKind::Protocol, 0),
        (after(&[0]), ErrorKind::Protocol, 2),
        (after(b"\0\0\0\x05torn"), ErrorKind::Protocol, 2),
        (after(&(MAX as u32).to_be_bytes()), ErrorKind::Protocol, 2),
        (after(&(MAX as u32 + 1).to_be_bytes()), ErrorKind::MessageTooLong, 2),
        (after(&[0xff; 4]), ErrorKind::MessageTooLong, 2),
        (long, ErrorKind::Protocol, 0),
    ] {
        for in_pieces in [false, true] {
            let mut hand = Hand::new(transport);
            if in_pieces {
                hand.say(true, b"a piece");
            }
            hand.say_marked(PACK, &bad);
            if !in_pieces {
                (0..count).for_each(|number| hand.hears([&b"one"[..], b""][number]));
            }
            let kind = if in_pieces { ErrorKind::Protocol } else { kind };
            for _ in 0..2 {
                assert!(in_pieces || count == 0 || hand.served.has_message());
                assert_eq!(hand.served.recv_timeout(DEADLINE).unwrap_err().kind(), kind, "{:?}", bad.get(..20));
            }
        }
    }
}

fn descriptors_with_a_packed_datagram_are_closed_and_an_error(transport: Transport) {
    let base = Base::new();
    let options = ServerOptions::new().fds_max(4);
    let driver = Driver::new(options.bind(base.address(transport, "raw")).unwrap());
    let raw = dial(driver.server.path(), transport);
    let mut served = driver.client();
    let (mine, theirs) = rustix::pipe::pipe().unwrap();
    let datagram = [&packed(&[b"one"])[..], &[PACK]].concat();
    crate::by_hand::shm::say(&raw, &datagram, &[&theirs]);
    drop(theirs);
    assert_eq!(served.recv_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::Protocol);
    assert!(wait::ready(&mine, PollFlags::empty(), DEADLINE), "the other end of the pipe was closed");
}

/// One client sends thousands of messages in each datagram.
fn a_client_of_a_hub_that_packs_its_messages_takes_turns_with_the_others(transport: Transport) {
    let base = Base::new();
    let mut hub = Hub::bind(base.address(transport, "raw")).unwrap();
    let greedy = dial(hub.path(), transport);
    let honest = dial(hub.path(), transport);
    let many = [&packed(&vec![&b"x"[..]; 10_000])[..], &[PACK]].concat();
    for _ in 0..2 {
        send(&greedy, &many, SendFlags::NOSIGNAL).unwrap();
    }
    for _ in 0..3 {
        send(&honest, b"hello\0", SendFlags::NOSIGNAL).unwrap();
    }
    let (mut received, mut greetings) = (0, 0);
    while greetings < 3 || received < 20_000 {
        match hub.next_event_timeout(DEADLINE).unwrap() {
            Event::Message(_, message) if message[..] == *b"hello" => {
                greetings += 1;
                assert!(received < 1000, "{received} messages came before this one");
            }
            Event::Message(_, message) => {
                assert_eq!(message[..], *b"x");
                received += 1;
            }
            _ => {}
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
            // Small last bytes make some of the datagrams valid.
            let mut datagram: Vec<u8> = (0..rng.below(3000)).map(|_| rng.next() as u8).collect();
            if let Some(last) = datagram.last_mut() {
                *last %= 4;
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
