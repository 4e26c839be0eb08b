//! The transports and their capabilities: the vocabulary of addresses, options and errors.

use std::fmt;
use std::str::FromStr;

use rustix::net::SocketType;

/// A way for messages between two processes of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// Shared memory, memfd_create(2), with a socket that wakes sleepers up and tells of the end. The fastest, by a
    /// factor of several at every length, for memory and some time at connecting.
    Shm,
    /// A `SOCK_SEQPACKET` UNIX socket, unix(7): the kernel keeps messages apart. The fastest of those whose messages
    /// go through the kernel.
    Packet,
    /// A `SOCK_STREAM` UNIX socket, unix(7): spoken by programs in any language.
    Unix,
    /// A pair of FIFOs for each client, fifo(7), found through a well-known one. For one user only.
    Fifo,
}

impl Transport {
    /// Every transport, the best first: the order in which a client that demands none tries what is on offer.
    pub const ALL: &'static [Self] = &[Self::Shm, Self::Packet, Self::Unix, Self::Fifo];

    /// The name in addresses, and of its file in the directory of a name.
    pub(crate) const fn file_name(self) -> &'static str {
        match self {
            Self::Shm => "shm",
            Self::Packet => "packet",
            Self::Unix => "unix",
            Self::Fifo => "fifo",
        }
    }

    /// Whether a client is connected only when the server has taken notice of it, in `accept`.
    pub(crate) const fn needs_accept(self) -> bool {
        match self {
            Self::Shm | Self::Fifo => true,
            Self::Packet | Self::Unix => false,
        }
    }

    /// The type of the sockets that clients connect to; `None` where it is no socket.
    pub(crate) const fn socket_type(self) -> Option<SocketType> {
        match self {
            Self::Shm | Self::Packet => Some(SocketType::SEQPACKET),
            Self::Unix => Some(SocketType::STREAM),
            Self::Fifo => None,
        }
    }

    /// What a connection over this transport can do.
    pub(crate) fn capabilities(self, message_max: usize) -> Capabilities {
        let (boundaries, descriptors, credentials, zero_copy) = match self {
            Self::Packet => (true, true, true, true),
            Self::Unix => (false, true, true, true),
            Self::Shm => (false, false, true, true),
            Self::Fifo => (false, false, false, false),
        };
        Capabilities { boundaries, message_max, descriptors, credentials, zero_copy }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.file_name())
    }
}

impl FromStr for Transport {
    type Err = ParseTransportError;

    fn from_str(text: &str) -> Result<Self, ParseTransportError> {
        Self::ALL.iter().copied().find(|transport| transport.file_name() == text).ok_or(ParseTransportError(()))
    }
}

/// An error returned when parsing a [`Transport`] whose name is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseTransportError(());

impl fmt::Display for ParseTransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown transport; use one of ")?;
        for (index, transport) in Transport::ALL.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{transport}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ParseTransportError {}

/// What a connection can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The kernel itself keeps messages apart; otherwise framing does. Messages are kept apart in any case.
    pub boundaries: bool,
    /// The longest message that this side sends or takes, in bytes.
    pub message_max: usize,
    /// Open descriptors can be sent along, where the other side allows some
    /// ([`fds_max`](crate::ServerOptions::fds_max)).
    pub descriptors: bool,
    /// The kernel vouches for who the peer is; otherwise the owner of its files does.
    pub credentials: bool,
    /// Large immutable data can be shared without copying it ([`SharedBytes`](crate::SharedBytes)), where the other side
    /// allows that (`fds_max`).
    pub zero_copy: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transport_parses_from_its_own_name() {
        for &transport in Transport::ALL {
            assert_eq!(transport.to_string().parse(), Ok(transport));
        }
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_known_ones() {
        let error = "pigeon".parse::<Transport>().unwrap_err();
        assert_eq!(error.to_string(), "unknown transport; use one of shm, packet, unix, fifo");
    }
}
