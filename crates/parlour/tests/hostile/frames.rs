//! Tests of frames that arrive in any pieces, at any pace and with any length in the header, over the transports that
//! are byte streams.

use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use parlour::{Connection, ErrorKind, ServerOptions, Transport};
use rustix::fs::{OFlags, fcntl_setfl};

use crate::by_hand::line::frame;
use crate::by_hand::{Driver, FifoClient, unix};
use crate::support::{Base, Child, DEADLINE, Role, SOON, data, trials};

trials! {
    for transport in [Transport::Unix, Transport::Fifo] =>
        three_frames_arrive_the_same_wherever_they_are_split,
        a_header_sent_byte_by_byte_does_not_extend_the_receivers_deadline,
        a_header_without_a_body_costs_no_memory,
        half_a_body_is_kept_until_the_rest_comes,
        every_length_up_to_the_limit_is_taken_and_none_beyond,
        junk_is_an_error_or_messages_and_nothing_else;
}

const MAX: usize = 1 << 20;

/// A hand-made client, with the descriptors that it uses, and the server's end of its connection.
struct Hand {
    raw: Vec<OwnedFd>,
    served: Connection,
    _driver: Driver,
    _base: Base,
}

impl Hand {
    fn new(transport: Transport) -> Self {
        let base = Base::new();
        let driver = Driver::new(ServerOptions::new().message_max(MAX).bind(base.address(transport, "raw")).unwrap());
        let raw = match transport {
            Transport::Unix => vec![OwnedFd::from(unix::dial(driver.server.path()))],
            _ => {
                let mut client = FifoClient::greeted(driver.server.path());
                client.open_c2s();
                client.unlink();
                client.acknowledge();
                // The client keeps its reading end open. Otherwise the server would see a disconnected client.
                vec![client.to_server.take().unwrap(), client.from_server.take().unwrap()]
            }
        };
        let served = driver.client();
        fcntl_setfl(&raw[0], OFlags::empty()).unwrap();
        Self { raw, served, _driver: driver, _base: base }
    }

    fn write(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = rustix::io::write(&self.raw[0], bytes).unwrap();
            bytes = &bytes[count..];
        }
    }
}

fn three_frames_arrive_the_same_wherever_they_are_split(transport: Transport) {
    let messages: [&[u8]; 3] = [b"first", b"", b"the third"];
    let bytes: Vec<u8> = messages.iter().flat_map(|message| frame(message)).collect();
    let mut hand = Hand::new(transport);
    for at in 0..=bytes.len() {
        hand.write(&bytes[..at]);
        // Reads what has arrived before the rest is sent.
        let mut seen = Vec::new();
        while let Ok(Some(message)) = hand.served.try_recv() {
            seen.push(message.to_vec());
        }
        hand.write(&bytes[at..]);
        while seen.len() < messages.len() {
            seen.push(hand.served.recv_timeout(DEADLINE).unwrap().unwrap().to_vec());
        }
        assert_eq!(seen, messages, "split at {at}");
    }
    // The smallest pieces are single bytes.
    for byte in &bytes {
        hand.write(&[*byte]);
        if hand.served.has_message() {
            continue;
        }
    }
    for message in messages {
        assert_eq!(hand.served.recv_timeout(DEADLINE).unwrap().unwrap(), message);
    }
}

fn a_header_sent_byte_by_byte_does_not_extend_the_receivers_deadline(transport: Transport) {
    let mut hand = Hand::new(transport);
    const WAIT_LIMIT: Duration = Duration::from_millis(200);
    let header = frame(&[7; 100]);
    let begin = Instant::now();
    for (number, byte) in header[..4].iter().enumerate() {
        hand.write(&[*byte]);
        let error = hand.served.recv_timeout(WAIT_LIMIT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "byte {number}");
    }
    assert!(begin.elapsed() >= 4 * WAIT_LIMIT && begin.elapsed() < 4 * WAIT_LIMIT + SOON, "{:?}", begin.elapsed());
    hand.write(&header[4..]);
    assert_eq!(hand.served.recv_timeout(DEADLINE).unwrap().unwrap(), &[7; 100]);
}

/// Returns the resident memory of this process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn a_header_without_a_body_costs_no_memory(transport: Transport) {
    let mut child = Child::spawn("header-alone", &[transport.to_string()]);
    child.expect("nothing");
    child.finish();
}

/// `header-alone TRANSPORT`: many clients announce messages of the maximum length, in a process that does nothing else.
/// Prints `nothing` if that allocated no memory for them.
pub const HEADER_ALONE: Role = Role { name: "header-alone", play: headers_alone };

fn headers_alone(arguments: &[String]) {
    const HANDS: usize = 64;
    let transport: Transport = arguments[0].parse().unwrap();
    let mut hands: Vec<Hand> = (0..HANDS).map(|_| Hand::new(transport)).collect();
    let before = resident();
    for hand in &mut hands {
        hand.write(&(MAX as u32).to_be_bytes());
        assert_eq!(hand.served.recv_timeout(Duration::from_millis(1)).unwrap_err().kind(), ErrorKind::TimedOut);
    }
    // All announced lengths together are 64 MiB.
    let grown = resident().saturating_sub(before);
    assert!(grown < HANDS * MAX / 8, "{grown} bytes for {HANDS} headers");
    println!("nothing");
}

fn half_a_body_is_kept_until_the_rest_comes(transport: Transport) {
    let mut hand = Hand::new(transport);
    let message = data::message(1, 10_000);
    let bytes = frame(message);
    hand.write(&bytes[..5_000]);
    assert_eq!(hand.served.recv_timeout(Duration::from_millis(50)).unwrap_err().kind(), ErrorKind::TimedOut);
    hand.write(&bytes[5_000..]);
    data::check(&hand.served.recv_timeout(DEADLINE).unwrap().unwrap(), 1, 10_000);
    hand.write(&bytes[..5_000]);
    hand.raw.clear();
    assert_eq!(hand.served.recv_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::Truncated);
}

fn every_length_up_to_the_limit_is_taken_and_none_beyond(transport: Transport) {
    for length in [0, 1, MAX - 1, MAX] {
        let hand = Hand::new(transport);
        let Hand { raw, mut served, _driver: driver, _base: base } = hand;
        let receiving = thread::spawn(move || {
            let message = served.recv_timeout(DEADLINE).unwrap().unwrap();
            data::check(&message, 3, length);
        });
        let bytes = frame(data::message(3, length));
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let count = rustix::io::write(&raw[0], rest).unwrap();
            rest = &rest[count..];
        }
        receiving.join().unwrap();
        drop((driver, base));
    }
    for length in [MAX as u32 + 1, i32::MAX as u32, 1 << 31, u32::MAX] {
        let mut hand = Hand::new(transport);
        hand.write(&length.to_be_bytes());
        for _ in 0..2 {
            let error = hand.served.recv_timeout(DEADLINE).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::MessageTooLong, "{length}: {error}");
        }
    }
}

fn junk_is_an_error_or_messages_and_nothing_else(transport: Transport) {
    let seed = crate::by_hand::rng::seed();
    println!("{transport} junk: PARLOUR_TEST_SEED={seed}");
    let mut rng = crate::by_hand::rng::Rng::new(seed);
    for _ in 0..100 {
        let mut hand = Hand::new(transport);
        let length = rng.below(3000) as usize;
        // Small first bytes make some of the frames valid.
        let junk: Vec<u8> = (0..length).map(|at| if at % 64 < 3 { 0 } else { rng.next() as u8 }).collect();
        hand.write(&junk);
        hand.raw.clear();
        let mut bytes = 0;
        loop {
            match hand.served.recv_timeout(DEADLINE) {
                Ok(Some(message)) => bytes += message.len() + 4,
                Ok(None) => break,
                Err(error) => {
                    let expected = [ErrorKind::Truncated, ErrorKind::MessageTooLong, ErrorKind::Protocol];
                    assert!(expected.contains(&error.kind()), "seed {seed}: {error:?}");
                    break;
                }
            }
        }
        assert!(bytes <= length, "seed {seed}");
    }
}
