//! The identity of a peer and the provenance of each part of it, and the transports.
#![allow(non_camel_case_types)]

use std::ffi::c_char;

use parlour::{Capabilities, Origin, Peer, Provenance, Transport};

/// The source of a field of parlour_peer, from the weakest to the strongest.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum parlour_provenance {
    /// The value is not known.
    PARLOUR_PROVENANCE_UNKNOWN = 0,
    /// The peer stated the value, directly or in a file that it wrote. Do not use it for access control.
    PARLOUR_PROVENANCE_CLAIM = 1,
    /// /proc showed that this process had the other end open. A process can pass its descriptor on to another process,
    /// so do not use the value for access control.
    PARLOUR_PROVENANCE_VERIFIED = 2,
    /// The value is the owner of the file through which the peer connected. Only that user, or root, can have created
    /// the file.
    PARLOUR_PROVENANCE_FILE_OWNER = 3,
    /// SO_PEERCRED reported the value. The kernel recorded it at connect(2) of a client, or at listen(2) of a server.
    PARLOUR_PROVENANCE_KERNEL = 4,
}

/// The identity of a peer. A value that is not known is -1, never 0. Base decisions on the user and group. A process id
/// is for display: it may belong to another process by the time it is read.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct parlour_peer {
    /// The process id.
    pub pid: i64,
    /// The effective user id.
    pub uid: i64,
    /// The effective group id.
    pub gid: i64,
    /// The provenance of `pid`.
    pub pid_provenance: parlour_provenance,
    /// The provenance of `uid`.
    pub uid_provenance: parlour_provenance,
    /// The provenance of `gid`.
    pub gid_provenance: parlour_provenance,
}

fn provenance(provenance: Provenance) -> parlour_provenance {
    match provenance {
        Provenance::Claim => parlour_provenance::PARLOUR_PROVENANCE_CLAIM,
        Provenance::Verified => parlour_provenance::PARLOUR_PROVENANCE_VERIFIED,
        Provenance::FileOwner => parlour_provenance::PARLOUR_PROVENANCE_FILE_OWNER,
        Provenance::Kernel => parlour_provenance::PARLOUR_PROVENANCE_KERNEL,
        // A provenance that this library does not know proves nothing.
        _ => parlour_provenance::PARLOUR_PROVENANCE_UNKNOWN,
    }
}

impl parlour_peer {
    pub(crate) const UNKNOWN: Self = Self {
        pid: -1,
        uid: -1,
        gid: -1,
        pid_provenance: parlour_provenance::PARLOUR_PROVENANCE_UNKNOWN,
        uid_provenance: parlour_provenance::PARLOUR_PROVENANCE_UNKNOWN,
        gid_provenance: parlour_provenance::PARLOUR_PROVENANCE_UNKNOWN,
    };

    pub(crate) fn of(peer: &Peer) -> Self {
        Self {
            pid: peer.pid().map_or(-1, i64::from),
            uid: peer.uid().map_or(-1, i64::from),
            gid: peer.gid().map_or(-1, i64::from),
            pid_provenance: provenance(peer.pid_provenance()),
            uid_provenance: provenance(peer.uid_provenance()),
            gid_provenance: provenance(peer.gid_provenance()),
        }
    }
}

/// The size of parlour_origin::host, with the terminating zero byte.
pub const PARLOUR_ORIGIN_HOST_SIZE: usize = 254;

/// The size of parlour_origin::program, with the terminating zero byte.
pub const PARLOUR_ORIGIN_PROGRAM_SIZE: usize = 65;

/// The other host that a client of a bridge comes from. The process that has connected vouches for the host. The user,
/// the process and the program are what the other host claims: they are for people, and no reason to admit a client.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct parlour_origin {
    /// The name of the host. It is empty if the client is one of this host.
    pub host: [c_char; PARLOUR_ORIGIN_HOST_SIZE],
    /// The user id on that host, or -1.
    pub uid: i64,
    /// The process id on that host, or -1.
    pub pid: i64,
    /// The name of the program, in printable UTF-8. It may be empty.
    pub program: [c_char; PARLOUR_ORIGIN_PROGRAM_SIZE],
}

impl parlour_origin {
    pub(crate) fn of(origin: Option<&Origin>) -> Self {
        Self {
            host: characters(origin.map_or("", Origin::host)),
            uid: origin.and_then(Origin::uid).map_or(-1, i64::from),
            pid: origin.and_then(Origin::pid).map_or(-1, i64::from),
            program: characters(origin.and_then(Origin::program).unwrap_or_default()),
        }
    }
}

/// Returns the text with zero bytes behind it. The library keeps it shorter than the array.
fn characters<const SIZE: usize>(text: &str) -> [c_char; SIZE] {
    let mut characters = [0; SIZE];
    for (to, from) in characters.iter_mut().zip(text.bytes().take(SIZE - 1)) {
        *to = c_char::from_ne_bytes(from.to_ne_bytes());
    }
    characters
}

/// A mechanism that carries messages between two processes of one machine. An address may name it: "fifo:name".
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum parlour_transport {
    /// No transport, or one that this header does not know.
    PARLOUR_TRANSPORT_NONE = 0,
    /// Shared memory. The fastest.
    PARLOUR_TRANSPORT_SHM = 1,
    /// A SOCK_SEQPACKET socket.
    PARLOUR_TRANSPORT_PACKET = 2,
    /// A SOCK_STREAM socket. Programs in any language can use it.
    PARLOUR_TRANSPORT_UNIX = 3,
    /// A pair of FIFOs for each client. It serves its own user only.
    PARLOUR_TRANSPORT_FIFO = 4,
}

impl parlour_transport {
    pub(crate) fn of(transport: Transport) -> Self {
        match transport {
            Transport::Shm => Self::PARLOUR_TRANSPORT_SHM,
            Transport::Packet => Self::PARLOUR_TRANSPORT_PACKET,
            Transport::Unix => Self::PARLOUR_TRANSPORT_UNIX,
            Transport::Fifo => Self::PARLOUR_TRANSPORT_FIFO,
            _ => Self::PARLOUR_TRANSPORT_NONE,
        }
    }
}

/// Returns the transport with this number. An enum of a C program may hold any number.
pub(crate) fn transport(number: i32) -> Option<Transport> {
    Transport::ALL.iter().copied().find(|transport| parlour_transport::of(*transport) as i32 == number)
}

/// The capabilities of a connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct parlour_capabilities {
    /// The longest message that this side sends or receives, in bytes.
    pub message_max: usize,
    /// The kernel preserves message boundaries. Otherwise this library's framing does.
    pub boundaries: bool,
    /// A message can carry open descriptors, if the peer allows some.
    pub descriptors: bool,
    /// The kernel reports the identity of the peer. Otherwise the owner of its files does.
    pub credentials: bool,
    /// A message can carry shared blocks, if the peer allows descriptors.
    pub zero_copy: bool,
}

impl parlour_capabilities {
    pub(crate) fn of(capabilities: Capabilities) -> Self {
        Self {
            message_max: capabilities.message_max,
            boundaries: capabilities.boundaries,
            descriptors: capabilities.descriptors,
            credentials: capabilities.credentials,
            zero_copy: capabilities.zero_copy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transport_has_its_own_number() {
        for &each in Transport::ALL {
            assert_eq!(transport(parlour_transport::of(each) as i32), Some(each));
        }
        assert_eq!((transport(0), transport(99)), (None, None));
    }
}
