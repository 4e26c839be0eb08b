//! Tests of channels that are full because neither side reads, and of sequences of messages that every transport
//! delivers alike.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use parlour::{Connection, ErrorKind, Server, Transport, TrySendError};
use rustix::net::sockopt::{set_socket_send_buffer_size, set_socket_send_buffer_size_force};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with};

use crate::by_hand::Driver;
use crate::by_hand::rng::{Rng, seed};
use crate::support::{Base, DEADLINE, SOON, data, trials};

trials! {
    every_transport_delivers_the_same_messages;

    for transport in Transport::ALL =>
        when_neither_side_reads_both_sends_time_out_at_their_deadline_and_nothing_is_lost;

    for transport in [Transport::Packet] =>
        empty_truncated_and_long_datagrams_are_told_apart,
        a_flood_of_one_byte_messages_arrives_whole;
}

/// A server and its base directory. (Fields are dropped in this order, so the base outlives the server.)
struct Room {
    driver: Driver,
    _base: Base,
}

fn pair(transport: Transport) -> (Connection, Connection, Room) {
    let base = Base::new();
    let address = base.address(transport, "full");
    let driver = Driver::new(Server::bind(&address).unwrap());
    let client = Connection::connect(&address).unwrap();
    let served = driver.client();
    (client, served, Room { driver, _base: base })
}

fn when_neither_side_reads_both_sends_time_out_at_their_deadline_and_nothing_is_lost(transport: Transport) {
    const LENGTH: usize = 50_000;
    const WAIT_LIMIT: Duration = Duration::from_millis(100);
    let (mut client, mut served, _room) = pair(transport);
    let mut sent = [0, 0];
    for (side, connection) in [&mut client, &mut served].into_iter().enumerate() {
        let seed = |count| 1000 * side + count;
        loop {
            match connection.try_send(data::message(seed(sent[side]), LENGTH)) {
                Ok(()) => sent[side] += 1,
                Err(TrySendError::Full(message)) => {
                    assert_eq!(message.to_vec(), data::message(seed(sent[side]), LENGTH), "the message is returned");
                    break;
                }
                Err(TrySendError::Failed(error)) => panic!("{error}"),
            }
            assert!(sent[side] < 10_000, "the channel never becomes full");
        }
        let begin = Instant::now();
        let error = connection.send_timeout(data::message(seed(sent[side]), LENGTH), WAIT_LIMIT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(begin.elapsed() >= WAIT_LIMIT && begin.elapsed() < WAIT_LIMIT + SOON, "{:?}", begin.elapsed());
    }
    // Both directions are full. Receiving on one side lets the other side continue.
    for count in 0..sent[1] {
        data::check(&client.recv_timeout(DEADLINE).unwrap().unwrap(), 1000 + count, LENGTH);
        let _ = served.try_flush();
    }
    for count in 0..sent[0] {
        data::check(&served.recv_timeout(DEADLINE).unwrap().unwrap(), count, LENGTH);
        let _ = client.try_flush();
    }
}

/// The lengths, and the choice between sending and feeding, are random and the same for each transport.
fn every_transport_delivers_the_same_messages() {
    let seed = seed();
    println!("same_sequence: PARLOUR_TEST_SEED={seed}");
    let mut heard: Vec<Vec<Vec<u8>>> = Vec::new();
    for &transport in Transport::ALL {
        let mut rng = Rng::new(seed);
        let (mut client, mut served, _room) = pair(transport);
        let receiving = std::thread::spawn(move || {
            let mut heard = Vec::new();
            while let Some(message) = served.recv_timeout(DEADLINE).unwrap() {
                heard.push(message.to_vec());
            }
            heard
        });
        for number in 0..300 {
            let length = match rng.below(4) {
                0 => 0,
                1 => rng.below(16),
                2 => rng.below(5000),
                _ => rng.below(200_000),
            };
            let message = data::message(number, length as usize);
            match rng.below(3) {
                0 => client.feed(message).unwrap(),
                _ => client.send(message).unwrap(),
            }
        }
        client.close().unwrap();
        heard.push(receiving.join().unwrap());
    }
    assert_eq!(heard[0].len(), 300);
    assert!(heard.iter().all(|one| *one == heard[0]), "seed {seed}");
}

fn empty_truncated_and_long_datagrams_are_told_apart(transport: Transport) {
    let (mut client, mut served, room) = pair(transport);
    for length in [0, 1, 100_000, 4 << 20, 0] {
        let receiving = std::thread::spawn(move || {
            data::check(&served.recv_timeout(DEADLINE).unwrap().unwrap(), 5, length);
            served
        });
        client.send(data::message(5, length)).unwrap();
        served = receiving.join().unwrap();
    }
    drop(client);
    assert_eq!(served.recv_timeout(DEADLINE).unwrap(), None, "end of file is not a message");
    // An empty datagram, which lacks even its marker.
    let (raw, mut served) = raw(&room);
    say(&raw, b"");
    match served.recv_timeout(DEADLINE) {
        Ok(None) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::Protocol, "{error}"),
        Ok(Some(message)) => panic!("received a message: {message:?}"),
    }
    // One message in two pieces, and one whose second piece never arrives. The first is received, the second is
    // truncated.
    let (raw, mut served) = self::raw(&room);
    for datagram in [&b"hel\x01"[..], b"lo\x00", b"half\x01"] {
        say(&raw, datagram);
    }
    drop(raw);
    assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    for _ in 0..2 {
        assert_eq!(served.recv_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::Truncated);
    }
    // A datagram that the kernel truncates, because it exceeds the maximum, is an error and never a partial message.
    let (raw, mut served) = self::raw(&room);
    set_socket_send_buffer_size_force(&raw, 8 << 20).or_else(|_| set_socket_send_buffer_size(&raw, 8 << 20)).unwrap();
    say(&raw, b"whole\x00");
    let long = vec![0; (1 << 20) + 2];
    match send(&raw, &long, SendFlags::NOSIGNAL) {
        Ok(sent) => {
            assert_eq!(sent, long.len());
            assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), b"whole");
            for _ in 0..2 {
                assert_eq!(served.recv_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::Protocol);
            }
        }
        // A user that may not have so large a send buffer cannot send such a datagram.
        Err(errno) => assert_eq!(errno, rustix::io::Errno::MSGSIZE),
    }
    // A last byte without a meaning. The second one is of a peer that has the marker in front.
    for datagram in [&b"what\x03"[..], b"\x00hello"] {
        let (raw, mut served) = self::raw(&room);
        say(&raw, b"whole\x00");
        say(&raw, datagram);
        assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), b"whole");
        for _ in 0..2 {
            assert_eq!(served.recv_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::Protocol);
        }
    }
}

/// Returns a hand-made client, and the server's end of its connection.
fn raw(room: &Room) -> (OwnedFd, Connection) {
    let raw = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let address = SocketAddrUnix::new(room.driver.server.path().join("packet")).unwrap();
    connect(&raw, &address).unwrap();
    (raw, room.driver.client())
}

fn say(raw: &OwnedFd, datagram: &[u8]) {
    assert_eq!(send(raw, datagram, SendFlags::NOSIGNAL).unwrap(), datagram.len());
}

fn a_flood_of_one_byte_messages_arrives_whole(transport: Transport) {
    let (mut client, mut served, _room) = pair(transport);
    let sending = std::thread::spawn(move || {
        (0..20_000u32).for_each(|number| client.send(&[number as u8]).unwrap());
        client.close().unwrap();
    });
    for number in 0..20_000u32 {
        assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), &[number as u8]);
    }
    assert_eq!(served.recv_timeout(DEADLINE).unwrap(), None);
    sending.join().unwrap();
}
