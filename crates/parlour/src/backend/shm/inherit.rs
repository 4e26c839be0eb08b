//! A connection that is inherited. The end that is made first creates the memory of both sides, so that it need not
//! wait for a process that has not started yet. The other end finds the hello, with both memories, in its socket.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::greeting::{self, HandshakeError};
use super::{Incoming, Outgoing, establish};
use crate::backend::attempt::Established;
use crate::backend::config::ConnectConfig;
use crate::peer::Peer;
use crate::shm::mapping::Mapping;

/// Makes the end of the process that has created the pair of sockets.
pub(in crate::backend) fn make(
    socket: OwnedFd,
    peer: Peer,
    config: &ConnectConfig,
) -> io::Result<Established<Outgoing, Incoming>> {
    let (local, memfd) = Mapping::create(config.ring_size)?;
    let (remote, for_child) = Mapping::create_for_peer(config.ring_size)?;
    greeting::send_hello_to_child(&socket, config.ring_size, &memfd, &for_child)?;
    // Both memfds are closed here: the datagram has their duplicates.
    establish(socket, (local, remote), peer, None, config.message_max)
}

/// Both memories, of this side and of the process that made the pair.
pub(in crate::backend) type Memories = (Mapping, Mapping);

/// The reason for which there are no memories.
#[derive(Debug)]
pub(in crate::backend) enum NoMemory {
    /// There is no hello in the socket, or it is wrong. The text is the reason.
    Hello(String),
    /// A system call failed.
    Io(io::Error),
}

/// Maps the memories that the hello in the socket carries, if their rings have at most `ring_max` bytes, and leaves the
/// hello there.
pub(in crate::backend) fn map(socket: BorrowedFd<'_>, ring_max: usize) -> Result<Memories, NoMemory> {
    match greeting::look_at_hello_of_parent(socket, ring_max) {
        Ok(Some(memories)) => Ok(memories),
        Ok(None) => Err(NoMemory::Hello("the parent has sent no greeting".to_owned())),
        Err(HandshakeError::Io(error)) => Err(NoMemory::Io(error)),
        Err(bad) => Err(NoMemory::Hello(bad.to_string())),
    }
}

/// Makes the other end of these memories.
pub(in crate::backend) fn take(
    socket: OwnedFd,
    memories: Memories,
    peer: Peer,
    config: &ConnectConfig,
) -> io::Result<Established<Outgoing, Incoming>> {
    greeting::drop_hello(&socket)?;
    establish(socket, memories, peer, None, config.message_max)
}
