//! Tests of the notice that tells a client of `unix` and `packet` that it is refused: peers that do not know it, peers
//! that forge it, and bytes out of band anywhere in a stream.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use parlour::hub::{Event, Hub};
use parlour::{Connection, ErrorKind, ServerOptions, Transport};
use rustix::event::PollFlags;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::net::{accept, bind, connect, listen, recv, send, socket_with};

use crate::by_hand::line::frame;
use crate::by_hand::place::chmod;
use crate::by_hand::{Driver, Place};
use crate::support::base::leaves_files;
use crate::support::{Base, DEADLINE, trials, wait};

trials! {
    for transport in [Transport::Packet, Transport::Unix] =>
        a_habit_refused_peer_sees_the_end(habit in ["silent", "talking"]),
        a_notice_behind_a_message_is_no_refusal,
        bytes_like_a_notice_are_no_refusal,
        a_client_cannot_refuse_a_server;

    for transport in [Transport::Packet] => a_first_message_with_the_bytes_of_a_notice_is_a_message;

    bytes_out_of_band_from_a_client_change_no_message,
    bytes_out_of_band_from_a_client_change_no_message_to_a_hub,
    bytes_out_of_band_from_a_server_are_bytes_of_the_stream,
    many_bytes_out_of_band_end_one_connection_at_most;
}

/// The notice of a full server: on a stream one byte, out of band.
const BUSY_BYTE: u8 = 0x82;
/// The notice of a full server: a datagram, behind an empty one.
const BUSY_DATAGRAM: &[u8; 25] = b"parlour1\x02\x02\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff";

fn socket(transport: Transport) -> OwnedFd {
    let kind = if transport == Transport::Packet { SocketType::SEQPACKET } else { SocketType::STREAM };
    socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap()
}

/// Connects a socket that knows nothing of the notice.
fn dial(transport: Transport, driver_path: &std::path::Path) -> OwnedFd {
    let socket = socket(transport);
    connect(&socket, &SocketAddrUnix::new(driver_path.join(transport.to_string())).unwrap()).unwrap();
    socket
}

/// A server by hand, with one client of the library.
struct Forger {
    raw: OwnedFd,
    client: Connection,
    _place: Place,
    _base: Base,
}

impl Forger {
    fn new(transport: Transport) -> Self {
        leaves_files();
        let base = Base::new();
        let place = Place::held(&base, "forger");
        let listener = socket(transport);
        let path = place.path().join(transport.to_string());
        bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        chmod(&path, 0o600);
        listen(&listener, 8).unwrap();
        let client = Connection::connect(base.address(transport, "forger")).unwrap();
        let raw = accept(&listener).unwrap();
        Self { raw, client, _place: place, _base: base }
    }

    fn send(&self, bytes: &[u8]) {
        assert_eq!(send(&self.raw, bytes, SendFlags::NOSIGNAL), Ok(bytes.len()));
    }

    fn send_out_of_band(&self, byte: u8) {
        assert_eq!(send(&self.raw, &[byte], SendFlags::NOSIGNAL | SendFlags::OOB), Ok(1));
    }

    /// Sends what a server sends to a client that it refuses.
    fn refuse(&self, transport: Transport) {
        match transport {
            Transport::Packet => {
                self.send(b"");
                self.send(BUSY_DATAGRAM);
            }
            _ => self.send_out_of_band(BUSY_BYTE),
        }
    }

    fn message(&self, transport: Transport, message: &[u8]) {
        match transport {
            Transport::Packet => self.send(&[message, b"\0"].concat()),
            _ => self.send(&frame(message)),
        }
    }

    fn hang_up(self) -> (Connection, Place, Base) {
        let Self { raw, client, _place, _base } = self;
        drop(raw);
        (client, _place, _base)
    }
}

fn a_habit_refused_peer_sees_the_end(transport: Transport, habit: &str) {
    let base = Base::new();
    let driver = Driver::new(ServerOptions::new().allow(|_| false).bind(base.address(transport, "raw")).unwrap());
    let raw = dial(transport, driver.server.path());
    if habit == "talking" {
        // The server may have closed the socket by now.
        let _ = send(&raw, &frame(b"hello"), SendFlags::NOSIGNAL);
    }
    driver.refused(1);
    assert!(wait::ready(raw.as_fd(), PollFlags::HUP, DEADLINE), "the server has closed the connection");
    assert!(wait::readable(raw.as_fd()));
    let mut buffer = [0; 100];
    let end = match recv(&raw, &mut buffer, RecvFlags::empty()) {
        // The server closed the socket before it had read all bytes. The kernel reports this once.
        Err(rustix::io::Errno::CONNRESET) if habit == "talking" => recv(&raw, &mut buffer, RecvFlags::empty()),
        end => end,
    };
    assert_eq!(end.map(|(_, length)| length), Ok(0));
}

fn a_notice_behind_a_message_is_no_refusal(transport: Transport) {
    let forger = Forger::new(transport);
    forger.message(transport, b"hello");
    forger.refuse(transport);
    let (mut client, _place, _base) = forger.hang_up();
    assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    match client.recv_timeout(DEADLINE) {
        Ok(None) if transport == Transport::Packet => {}
        Err(error) if transport == Transport::Unix => assert_eq!(error.kind(), ErrorKind::Truncated, "{error}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.send(b"hello").unwrap_err().kind(), ErrorKind::Disconnected);
}

/// The bytes of a refusal, and all except for the last: then the marker has the place of that byte.
fn a_first_message_with_the_bytes_of_a_notice_is_a_message(transport: Transport) {
    let likely: &[&[u8]] = &[BUSY_DATAGRAM, &BUSY_DATAGRAM[..24], &BUSY_DATAGRAM[..23]];
    for &message in likely {
        for is_behind_an_empty_datagram in [false, true] {
            let forger = Forger::new(transport);
            if is_behind_an_empty_datagram {
                forger.send(b"");
            }
            forger.message(transport, message);
            let (mut client, _place, _base) = forger.hang_up();
            // An empty datagram is the end, unless a refusal is behind it.
            let expected = (!is_behind_an_empty_datagram).then_some(message);
            assert_eq!(client.recv_timeout(DEADLINE).unwrap().as_deref(), expected);
            assert_eq!(client.recv_timeout(DEADLINE).unwrap(), None);
            let error = client.send(b"hello").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
        }
    }
}

fn bytes_like_a_notice_are_no_refusal(transport: Transport) {
    let likely: &[&[u8]] = match transport {
        Transport::Packet => &[b"", b"parlour1", b"\x82", b"\xff", &BUSY_DATAGRAM[..23], &BUSY_DATAGRAM[..24]],
        _ => &[b"\x80", b"\x84", b"\xff", b"\x01", b"\x82\x82", b"\x82\0\0\0"],
    };
    for bytes in likely {
        let forger = Forger::new(transport);
        if transport == Transport::Packet {
            forger.send(b"");
        }
        forger.send(bytes);
        let (mut client, _place, _base) = forger.hang_up();
        match client.recv_timeout(DEADLINE) {
            Ok(end) => assert_eq!(end, None, "{bytes:?}"),
            Err(error) => {
                let expected = [ErrorKind::Truncated, ErrorKind::MessageTooLong, ErrorKind::Protocol];
                assert!(expected.contains(&error.kind()), "{bytes:?}: {error}");
            }
        }
        assert_eq!(client.send(b"hello").unwrap_err().kind(), ErrorKind::Disconnected, "{bytes:?}");
    }
}

fn a_client_cannot_refuse_a_server(transport: Transport) {
    let base = Base::new();
    let driver = Driver::new(ServerOptions::new().bind(base.address(transport, "raw")).unwrap());
    let raw = dial(transport, driver.server.path());
    let mut served = driver.client();
    if transport == Transport::Packet {
        assert_eq!(send(&raw, b"", SendFlags::NOSIGNAL), Ok(0));
        assert_eq!(send(&raw, BUSY_DATAGRAM, SendFlags::NOSIGNAL), Ok(BUSY_DATAGRAM.len()));
    } else {
        assert_eq!(send(&raw, &[BUSY_BYTE], SendFlags::NOSIGNAL), Ok(1));
    }
    drop(raw);
    match served.recv_timeout(DEADLINE) {
        Ok(None) if transport == Transport::Packet => {}
        Err(error) if transport == Transport::Unix => assert_eq!(error.kind(), ErrorKind::Truncated, "{error}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(served.send(b"hello").unwrap_err().kind(), ErrorKind::Disconnected);
}

const MESSAGES: [&[u8]; 3] = [b"first", b"", b"the third"];

fn stream() -> Vec<u8> {
    MESSAGES.iter().flat_map(|message| frame(message)).collect()
}

fn send_all(raw: &OwnedFd, bytes: &[u8]) {
    if !bytes.is_empty() {
        let sent = rustix::net::sendmsg(raw, &[IoSlice::new(bytes)], &mut Default::default(), SendFlags::NOSIGNAL);
        assert_eq!(sent, Ok(bytes.len()));
    }
}

/// Sends the stream with a byte out of band at this place.
fn send_with_byte_out_of_band(raw: &OwnedFd, at: usize) {
    let bytes = stream();
    send_all(raw, &bytes[..at]);
    assert_eq!(send(raw, b"!", SendFlags::NOSIGNAL | SendFlags::OOB), Ok(1));
    send_all(raw, &bytes[at..]);
}

fn bytes_out_of_band_from_a_client_change_no_message() {
    let base = Base::new();
    let driver = Driver::new(ServerOptions::new().bind(base.address(Transport::Unix, "raw")).unwrap());
    for at in 0..=stream().len() {
        let raw = dial(Transport::Unix, driver.server.path());
        let mut served = driver.client();
        send_with_byte_out_of_band(&raw, at);
        for message in MESSAGES {
            assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), message, "at {at}");
        }
        assert!(served.try_recv().unwrap_err().is_empty());
        drop(raw);
        assert_eq!(served.recv_timeout(DEADLINE).unwrap(), None);
    }
}

fn bytes_out_of_band_from_a_client_change_no_message_to_a_hub() {
    let base = Base::new();
    let mut hub = Hub::bind(base.address(Transport::Unix, "raw")).unwrap();
    let mut next = || hub.next_event_timeout(DEADLINE).unwrap();
    for at in 0..=stream().len() {
        let raw = dial(Transport::Unix, &base.name("raw"));
        assert!(matches!(next(), Event::Joined(..)));
        send_with_byte_out_of_band(&raw, at);
        for expected in MESSAGES {
            match next() {
                Event::Message(_, message) => assert_eq!(message, expected, "at {at}"),
                other => panic!("{other:?}"),
            }
        }
        drop(raw);
        let end = std::iter::repeat_with(&mut next).find(|event| !matches!(event, Event::Finished(_)));
        assert!(matches!(end, Some(Event::Left(..))));
    }
}

fn bytes_out_of_band_from_a_server_are_bytes_of_the_stream() {
    for at in 0..stream().len() {
        let mut forger = Forger::new(Transport::Unix);
        let bytes = stream();
        send_all(&forger.raw, &bytes[..at]);
        forger.send_out_of_band(bytes[at]);
        send_all(&forger.raw, &bytes[at + 1..]);
        for message in MESSAGES {
            assert_eq!(forger.client.recv_timeout(DEADLINE).unwrap().unwrap(), message, "at {at}");
        }
        let (mut client, ..) = forger.hang_up();
        assert_eq!(client.recv_timeout(DEADLINE).unwrap(), None);
    }
}

fn many_bytes_out_of_band_end_one_connection_at_most() {
    let base = Base::new();
    let driver = Driver::new(ServerOptions::new().bind(base.address(Transport::Unix, "raw")).unwrap());
    let mut honest = Connection::connect(base.address(Transport::Unix, "raw")).unwrap();
    let mut honest_served = driver.client();
    let raw = dial(Transport::Unix, driver.server.path());
    let mut served = driver.client();
    for _ in 0..50 {
        assert_eq!(send(&raw, &[0xff], SendFlags::NOSIGNAL | SendFlags::OOB), Ok(1));
    }
    // Only the last byte is still out of band: the kernel makes those before it bytes of the stream.
    assert_eq!(served.recv_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::MessageTooLong);
    let forger = Forger::new(Transport::Unix);
    for _ in 0..50 {
        forger.send_out_of_band(BUSY_BYTE);
    }
    let (mut client, ..) = forger.hang_up();
    assert_eq!(client.recv_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::MessageTooLong);
    honest.send(b"hello").unwrap();
    assert_eq!(honest_served.recv_timeout(Duration::from_secs(10)).unwrap().unwrap(), b"hello");
}
