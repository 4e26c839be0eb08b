//! Who is at the other end, and what vouches for it.
#![allow(non_camel_case_types)]

use parlour::{Capabilities, Peer, Provenance, Transport};

/// What stands behind a statement about the peer, from nothing to proof.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum parlour_provenance {
    /// Nothing: it is not known.
    PARLOUR_PROVENANCE_UNKNOWN = 0,
    /// The peer itself, or a file that it wrote. For people, never for a decision.
    PARLOUR_PROVENANCE_CLAIM = 1,
    /// The process was seen to hold the other end. It can hand that end on, so it is for people too.
    PARLOUR_PROVENANCE_VERIFIED = 2,
    /// The owner of the file through which the peer came.
    PARLOUR_PROVENANCE_FILE_OWNER = 3,
    /// The kernel noted it when the connection was made.
    PARLOUR_PROVENANCE_KERNEL = 4,
}

/// Who is at the other end. What is not known is -1, and never 0. Base decisions on the user and group; a process
/// id names a process for people, and may belong to another one by the time it is read.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct parlour_peer {
    /// The process.
    pub pid: i64,
    /// The effective user.
    pub uid: i64,
    /// The effective group.
    pub gid: i64,
    /// What vouches for the process.
    pub pid_provenance: parlour_provenance,
    /// What vouches for the user.
    pub uid_provenance: parlour_provenance,
    /// What vouches for the group.
    pub gid_provenance: parlour_provenance,
}

fn provenance(provenance: Provenance) -> parlour_provenance {
    match provenance {
        Provenance::Claim => parlour_provenance::PARLOUR_PROVENANCE_CLAIM,
        Provenance::Verified => parlour_provenance::PARLOUR_PROVENANCE_VERIFIED,
        Provenance::FileOwner => parlour_provenance::PARLOUR_PROVENANCE_FILE_OWNER,
        Provenance::Kernel => parlour_provenance::PARLOUR_PROVENANCE_KERNEL,
        // What is not known here is worth nothing.
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

/// A way for messages between two processes of one machine. Addresses name it: "fifo:name".
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum parlour_transport {
    /// None, or one that this header does not know.
    PARLOUR_TRANSPORT_NONE = 0,
    /// Shared memory. The fastest.
    PARLOUR_TRANSPORT_SHM = 1,
    /// A SOCK_SEQPACKET socket.
    PARLOUR_TRANSPORT_PACKET = 2,
    /// A SOCK_STREAM socket: spoken by programs in any language.
    PARLOUR_TRANSPORT_UNIX = 3,
    /// A pair of FIFOs for each client. For one user only.
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

/// The transport that a number means: a caller's enum may hold any.
pub(crate) fn transport(number: i32) -> Option<Transport> {
    Transport::ALL.iter().copied().find(|transport| parlour_transport::of(*transport) as i32 == number)
}

/// What a connection can do.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct parlour_capabilities {
    /// The longest message that this side sends or takes, in bytes.
    pub message_max: usize,
    /// The kernel itself keeps messages apart; otherwise framing does.
    pub boundaries: bool,
    /// Open descriptors can be sent along, where the other side allows some.
    pub descriptors: bool,
    /// The kernel vouches for who the peer is; otherwise the owner of its files does.
    pub credentials: bool,
    /// Shared blocks can be sent, where the other side allows descriptors.
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
    fn every_transport_has_a_number_of_its_own() {
        for &each in Transport::ALL {
            assert_eq!(transport(parlour_transport::of(each) as i32), Some(each));
        }
        assert_eq!((transport(0), transport(99)), (None, None));
    }
}
