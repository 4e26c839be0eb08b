//! The refusal of a client on a socket: how the server tells it, and how a client without a handshake learns it.
//!
//! A client of `unix` or `packet` is connected before the server has seen it. A refusal therefore arrives where the
//! client expects the first message, and is followed by the end.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};

use super::socket_half::Half;
use crate::admission::Permit;
use crate::transport::Transport;
use crate::wire::hello::Reason;
use crate::wire::refusal;
use crate::wire::shm_hello::Greeting;

/// The length of a buffer for a refusal. One more byte detects a longer datagram.
const BUFFER_LEN: usize = refusal::DATAGRAM_LEN + 1;

/// Tells a client that it is refused, before the server closes the socket. Errors are ignored, because the end tells
/// the client that it is not served.
pub(super) fn refuse(transport: Transport, socket: impl AsFd, reason: Reason) {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    match transport {
        // A peer that does not ask for out-of-band bytes sees the end. The kernel may lack them (Linux 5.15,
        // `CONFIG_AF_UNIX_OOB`).
        Transport::Unix => {
            let _ = send(&socket, &[refusal::byte(reason)], flags | SendFlags::OOB);
        }
        // A peer takes an empty datagram for the end.
        Transport::Packet => {
            let _ = send(&socket, &[], flags).and_then(|_| send(&socket, &refusal::datagram(reason), flags));
        }
        Transport::Shm => {
            let _ = send(&socket, &Greeting::Refused(reason).encode(), flags);
        }
        // A refusal over `fifo` names the request that it answers.
        Transport::Fifo => {}
    }
}

/// Prepares the socket of a client for the refusal: an out-of-band byte then arrives like any other byte.
pub(super) fn expect(transport: Transport, socket: impl AsFd) {
    if transport == Transport::Unix {
        if let Err(errno) = sockopt::set_socket_oobinline(socket, true) {
            tracing::debug!(%errno, "a refusal will be seen as the end");
        }
    }
}

/// The beginning of a connection from the server, as far as it matters for a refusal. Both halves of the client share
/// it.
#[derive(Debug)]
pub(super) struct Beginning(AtomicU8);

/// The values of a [`Beginning`]. All other values are those of [`refusal::byte`].
const NOTHING: u8 = 0;
const SOMETHING: u8 = 1;

/// The origin of a connected socket.
pub(super) enum Origin {
    /// A server has accepted it.
    Accepted(Permit),
    /// It was connected to a server, which may refuse this client.
    Connected,
    /// It is one end of a pair.
    Pair,
}

impl Origin {
    /// Returns the beginning, and the permit of a server, which alone counts connections.
    pub(super) fn take_apart(self) -> (Beginning, Option<Permit>) {
        match self {
            Self::Accepted(permit) => (Beginning::new(false), Some(permit)),
            Self::Connected => (Beginning::new(true), None),
            Self::Pair => (Beginning::new(false), None),
        }
    }
}

impl Beginning {
    /// Creates the state of a connection on which nothing has arrived. Only a client can be refused.
    pub(super) fn new(is_client: bool) -> Self {
        Self(AtomicU8::new(if is_client { NOTHING } else { SOMETHING }))
    }

    /// Returns true if nothing has arrived yet at a client.
    #[inline]
    pub(super) fn is_ahead(&self) -> bool {
        self.0.load(Ordering::Relaxed) == NOTHING
    }

    /// Notes bytes of a stream, the first of which is `first`.
    #[inline]
    pub(super) fn note_bytes(&self, first: u8, count: usize) {
        // Relaxed: the value depends on no other memory.
        if self.0.load(Ordering::Relaxed) != SOMETHING && count > 0 {
            let is_refusal = self.is_ahead() && count == 1 && refusal::parse_byte(first).is_some();
            self.0.store(if is_refusal { first } else { SOMETHING }, Ordering::Relaxed);
        }
    }

    /// Notes a datagram. Returns the reason if it is a refusal.
    pub(super) fn note_datagram(&self, datagram: &[u8]) -> Option<Reason> {
        let reason = if self.is_ahead() { refusal::parse_datagram(datagram) } else { None };
        self.0.store(reason.map_or(SOMETHING, refusal::byte), Ordering::Relaxed);
        reason
    }

    /// Returns the reason of the server if what has arrived is a refusal.
    pub(super) fn refusal(&self) -> Option<Reason> {
        refusal::parse_byte(self.0.load(Ordering::Relaxed))
    }
}

/// Returns true if bytes are in the socket. A receive from an empty socket would take the report of a reset, which is
/// for the caller's next receive.
pub(super) fn has_bytes(half: &Half<Beginning>) -> bool {
    ioctl_fionread(half.as_fd()).is_ok_and(|count| count > 0)
}

/// Looks for the refusal on a stream whose peer has disconnected. Takes nothing out of the socket.
pub(super) fn look_in_stream(half: &Half<Beginning>) -> Option<Reason> {
    let beginning = half.fd().data();
    if beginning.is_ahead() && has_bytes(half) {
        let mut bytes = [0; 2];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        if let Ok((_, 1)) = recv(half, &mut bytes[..], flags) {
            return refusal::parse_byte(bytes[0]);
        }
    }
    beginning.refusal()
}

/// The datagram behind an empty one, or behind the end, on a socket that preserves the boundaries of datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Refused(Reason),
    /// The end, and no refusal before it.
    End,
    /// The server is about to send the refusal.
    NotYet,
}

/// Looks for the refusal behind the empty datagram. Takes nothing but these two out of the socket.
pub(super) fn look_in_datagrams(half: &Half<Beginning>) -> Ending {
    let beginning = half.fd().data();
    // The kernel may report a reset first, and then the two datagrams.
    for _ in 0..3 {
        if !beginning.is_ahead() {
            break;
        }
        let mut buffer = [0; BUFFER_LEN];
        let length = match recv(half, &mut buffer[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, length)) => length,
            Err(Errno::CONNRESET | Errno::INTR) => continue,
            Err(Errno::AGAIN) => return Ending::NotYet,
            Err(_) => break,
        };
        if length > 0 && refusal::parse_datagram(&buffer[..length]).is_none() {
            break;
        }
        // The other half may have taken the datagram meanwhile. Then this is the next one.
        if let Ok((_, length @ 1..)) = recv(half, &mut buffer[..], RecvFlags::DONTWAIT) {
            beginning.note_datagram(&buffer[..length]);
        }
    }
    beginning.refusal().map_or(Ending::End, Ending::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_byte_at_the_beginning_refuses_a_client() {
        let beginning = Beginning::new(true);
        beginning.note_bytes(0x82, 1);
        assert_eq!(beginning.refusal(), Some(Reason::Busy));
        beginning.note_bytes(0, 3);
        assert_eq!(beginning.refusal(), None, "more bytes follow");

        let beginning = Beginning::new(true);
        beginning.note_bytes(0x82, 2);
        assert_eq!(beginning.refusal(), None);
        beginning.note_bytes(0x82, 1);
        assert_eq!(beginning.refusal(), None, "something came before");
    }

    #[test]
    fn a_client_cannot_refuse_a_server() {
        let beginning = Beginning::new(false);
        beginning.note_bytes(0x81, 1);
        assert_eq!(beginning.refusal(), None);
        assert_eq!(beginning.note_datagram(&refusal::datagram(Reason::Denied)), None);
        assert_eq!(beginning.refusal(), None);
    }
}
