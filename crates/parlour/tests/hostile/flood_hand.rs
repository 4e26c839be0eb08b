//! One end of a connection over a socket, made by hand.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use parlour::{ConnectOptions, Connection, ServerOptions, Transport};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    acceptfrom, bind, connect, listen, sendmsg, socket_with,
};

use crate::by_hand::Place;
use crate::by_hand::line::frame;
use crate::support::{Base, DEADLINE, wait};

pub struct Hand {
    pub transport: Transport,
    pub socket: OwnedFd,
}

/// Returns a connection of the library on `side`, which allows `fds_max` descriptors for a message, and its hand-made
/// peer.
pub fn meet(base: &Base, transport: Transport, side: &str, fds_max: usize) -> (Connection, Hand) {
    let address = base.address(transport, "hall");
    let file = |path: &std::path::Path| SocketAddrUnix::new(path.join(transport.to_string())).unwrap();
    match side {
        "server" => {
            let server = ServerOptions::new().fds_max(fds_max).bind(&address).unwrap();
            let socket = socket(transport);
            connect(&socket, &file(server.path())).unwrap();
            (server.accept_timeout(DEADLINE).unwrap(), Hand { transport, socket })
        }
        _ => {
            let place = Place::held_at(&base.name("hall"));
            let listener = socket(transport);
            bind(&listener, &file(place.path())).unwrap();
            listen(&listener, 1).unwrap();
            let connection = ConnectOptions::new().fds_max(fds_max).connect(&address).unwrap();
            assert!(wait::readable(&listener));
            let (socket, _) = acceptfrom(&listener).unwrap();
            (connection, Hand { transport, socket })
        }
    }
}

fn socket(transport: Transport) -> OwnedFd {
    let kind = if transport == Transport::Packet { SocketType::SEQPACKET } else { SocketType::STREAM };
    socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap()
}

impl Hand {
    /// Sends a whole message, with descriptors attached to its first byte.
    pub fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        self.send_raw(&self.on_the_wire(message), fds)
    }

    /// Sends a message in pieces, each with these descriptors.
    pub fn send_in_pieces(&self, message: &[u8], pieces: usize, fds: &[BorrowedFd<'_>]) {
        let wire = frame(message);
        let raw = if self.transport == Transport::Packet { message } else { &wire };
        let mut chunks = raw.chunks(raw.len().div_ceil(pieces)).peekable();
        while let Some(chunk) = chunks.next() {
            match self.transport {
                Transport::Packet => {
                    let marker = u8::from(chunks.peek().is_some());
                    self.send_raw(&[chunk, &[marker]].concat(), fds).unwrap();
                }
                _ => self.send_raw(chunk, fds).unwrap(),
            }
        }
    }

    /// Sends the first half of a message, with descriptors.
    pub fn send_half(&self, message: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut wire = self.on_the_wire(message);
        wire.truncate(wire.len() / 2);
        if self.transport == Transport::Packet {
            wire.push(1);
        }
        self.send_raw(&wire, fds).unwrap();
    }

    fn on_the_wire(&self, message: &[u8]) -> Vec<u8> {
        match self.transport {
            Transport::Packet => [message, &[0]].concat(),
            _ => frame(message),
        }
    }

    pub fn send_raw(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(300))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let sent = sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
        assert_eq!(sent, bytes.len());
        Ok(())
    }
}
