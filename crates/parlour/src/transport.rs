//! The transports and their capabilities, which addresses, options and errors refer to.

use std::fmt;
use std::str::FromStr;

use rustix::net::SocketType;

/// A mechanism that carries messages between two processes of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// Shared memory, memfd_create(2), with a socket that wakes sleeping peers and reports the end. It usually has the
    /// lowest latency and the highest throughput (docs/benchmarks.md). It takes two rings of memory for each
    /// connection, and more time to connect.
    Shm,
    /// A `SOCK_SEQPACKET` UNIX socket, unix(7). The kernel preserves message boundaries. Usually has a higher
    /// throughput than `Unix` and `Fifo` for long messages (docs/benchmarks.md).
    Packet,
    /// A `SOCK_STREAM` UNIX socket, unix(7). Programs in any language can speak its protocol.
    Unix,
    /// A pair of FIFOs for each client, fifo(7), which the client announces through a well-known FIFO. Serves one user
    /// only.
    Fifo,
}

impl Transport {
    /// All transports, in the order in which a client tries those that the server offers, unless the address selects
    /// one.
    pub const ALL: &'static [Self] = &[Self::Shm, Self::Packet, Self::Unix, Self::Fifo];

    /// Returns the name of the transport in addresses, which is also that of its file in the directory of a name.
    pub(crate) const fn file_name(self) -> &'static str {
        match self {
            Self::Shm => "shm",
            Self::Packet => "packet",
            Self::Unix => "unix",
            Self::Fifo => "fifo",
        }
    }

    /// Returns the name that this file has until clients may find it.
    pub(crate) const fn new_file_name(self) -> &'static str {
        match self {
            Self::Shm => "shm.new",
            Self::Packet => "packet.new",
            Self::Unix => "unix.new",
            Self::Fifo => "fifo.new",
        }
    }

    /// Returns true if a client is connected only once the server has processed it in `accept`.
    pub(crate) const fn needs_accept(self) -> bool {
        match self {
            Self::Shm | Self::Fifo => true,
            Self::Packet | Self::Unix => false,
        }
    }

    /// Returns the type of the socket that clients connect to, or `None` if the transport does not listen on a socket.
    pub(crate) const fn socket_type(self) -> Option<SocketType> {
        match self {
            Self::Shm | Self::Packet => Some(SocketType::SEQPACKET),
            Self::Unix => Some(SocketType::STREAM),
            Self::Fifo => None,
        }
    }

    /// Returns the capabilities of a connection over this transport.
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

    /// Parses `shm`, `packet`, `unix` or `fifo`. Upper case is not accepted.
    fn from_str(text: &str) -> Result<Self, ParseTransportError> {
        Self::ALL.iter().copied().find(|transport| transport.file_name() == text).ok_or(ParseTransportError(()))
    }
}

/// The error returned when a string is not the name of a transport.
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

/// The capabilities of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// True if the kernel preserves message boundaries. If false, parlour frames the messages. Messages arrive whole in
    /// either case.
    pub boundaries: bool,
    /// The maximum length in bytes of a message that this side sends or accepts. The peer may have a lower limit.
    pub message_max: usize,
    /// True if open descriptors can be sent with messages, if the peer allows some
    /// ([`fds_max`](crate::ServerOptions::fds_max)).
    pub descriptors: bool,
    /// True if the kernel reports the peer's credentials (`SO_PEERCRED`). If false, the uid is that of the owner of the
    /// FIFOs.
    pub credentials: bool,
    /// True if large immutable data can be shared without copying ([`SharedBytes`](crate::SharedBytes)), if the peer
    /// allows descriptors (`fds_max`).
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
