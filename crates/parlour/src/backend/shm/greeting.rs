//! The greetings of the handshake, and the shared memory that is passed with them, over the socket.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::shm::mapping::Mapping;
use crate::shm::memfd::BadMemory;
use crate::sys::retry::{Retry, retry};
use crate::wire::hello::Reason;
use crate::wire::shm_hello::{BadGreeting, Greeting, HELLO_LEN};

/// Sends a hello with the memory of this side.
pub(super) fn send_hello(socket: impl AsFd, ring_size: usize, memfd: &OwnedFd) -> io::Result<()> {
    send_memory(socket, ring_size, &[memfd.as_fd()])
}

/// Sends a hello to a child: with the memory of this side, and with the memory that the child writes.
pub(super) fn send_hello_to_child(
    socket: impl AsFd,
    ring_size: usize,
    memfd: &OwnedFd,
    for_child: &OwnedFd,
) -> io::Result<()> {
    send_memory(socket, ring_size, &[memfd.as_fd(), for_child.as_fd()])
}

fn send_memory(socket: impl AsFd, ring_size: usize, memfds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    // The control buffer has space for one or two descriptors.
    control.push(SendAncillaryMessage::ScmRights(memfds));
    send(socket, Greeting::Hello { ring_size }, &mut control)
}

/// Sends one datagram. The socket is new, so it takes the datagram without blocking.
fn send(socket: impl AsFd, greeting: Greeting, control: &mut SendAncillaryBuffer<'_, '_, '_>) -> io::Result<()> {
    let bytes = greeting.encode();
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let sent = retry(|| sendmsg(&socket, &[IoSlice::new(&bytes)], control, flags))?;
    // A datagram is sent whole or not at all.
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// The outcome of receiving a greeting.
pub(super) enum Reply {
    /// The peer's memory, checked and mapped.
    Hello(Mapping),
    /// The server refuses this client.
    Refused(Reason),
    /// End of file: the peer has disconnected.
    End,
    /// No greeting has arrived yet.
    Nothing,
}

/// An error of receiving a greeting.
#[derive(Debug)]
pub(super) enum HandshakeError {
    /// The greeting is malformed.
    Greeting(BadGreeting),
    /// The greeting arrived with a wrong number of descriptors. They were closed.
    Descriptors(usize),
    /// The ring of the peer is larger than this side accepts.
    Ring { size: usize, max: usize },
    /// The shared memory of the peer is invalid.
    Memory(BadMemory),
    /// A system call failed.
    Io(io::Error),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Greeting(BadGreeting(what)) => write!(f, "the greeting of the peer is malformed: {what}"),
            Self::Descriptors(count) => {
                write!(f, "the greeting of the peer has a wrong number of descriptors ({count})")
            }
            Self::Ring { size, max } => {
                write!(f, "the ring of the peer has {size} bytes; {max} are allowed (option peer_ring_max)")
            }
            Self::Memory(bad) => bad.fmt(f),
            Self::Io(error) => write!(f, "the greeting of the peer cannot be received: {error}"),
        }
    }
}

/// Receives a greeting without blocking, and maps the memory of the peer if its ring has at most `ring_max` bytes.
/// Closes unexpected descriptors.
pub(super) fn recv_hello(socket: impl AsFd, ring_max: usize) -> Result<Reply, HandshakeError> {
    let (greeting, mut descriptors) = match recv(socket, RecvFlags::empty())? {
        Datagram::Greeting(greeting, descriptors) => (greeting, descriptors),
        Datagram::End => return Ok(Reply::End),
        Datagram::Nothing => return Ok(Reply::Nothing),
    };
    let count = descriptors.len();
    match (greeting, descriptors.pop()) {
        (Greeting::Hello { ring_size }, Some(memfd)) if count == 1 => {
            check_ring(ring_size, ring_max)?;
            // The memory is mapped, and the descriptor is closed.
            Mapping::adopt(memfd, ring_size).map(Reply::Hello).map_err(not_mapped)
        }
        (Greeting::Refused(reason), None) => Ok(Reply::Refused(reason)),
        (Greeting::Hello { .. } | Greeting::Refused(_), _) => Err(HandshakeError::Descriptors(count)),
    }
}

/// Maps the memory of this side and that of the parent, which the parent's hello carries, if their rings have at most
/// `ring_max` bytes. Returns `None` if there is no hello. Leaves it in the socket.
pub(super) fn look_at_hello_of_parent(
    socket: impl AsFd,
    ring_max: usize,
) -> Result<Option<(Mapping, Mapping)>, HandshakeError> {
    let Datagram::Greeting(greeting, descriptors) = recv(socket, RecvFlags::PEEK)? else { return Ok(None) };
    let (Greeting::Hello { ring_size }, [remote, local]) = (greeting, &*descriptors) else {
        return Err(HandshakeError::Descriptors(descriptors.len()));
    };
    check_ring(ring_size, ring_max)?;
    let remote = Mapping::adopt(remote, ring_size).map_err(not_mapped)?;
    let local = Mapping::take(local, ring_size).map_err(not_mapped)?;
    Ok(Some((local, remote)))
}

/// Takes the hello of a parent out of the socket. The kernel closes its descriptors.
pub(super) fn drop_hello(socket: impl AsFd) -> io::Result<()> {
    let mut bytes = [0; HELLO_LEN];
    retry(|| rustix::net::recv(&socket, &mut bytes, RecvFlags::DONTWAIT))?;
    Ok(())
}

fn check_ring(size: usize, max: usize) -> Result<(), HandshakeError> {
    if size > max { Err(HandshakeError::Ring { size, max }) } else { Ok(()) }
}

fn not_mapped(bad: BadMemory) -> HandshakeError {
    match bad {
        // A system call that fails here is not the fault of the peer.
        BadMemory::Io(error) => HandshakeError::Io(error),
        bad => HandshakeError::Memory(bad),
    }
}

/// The maximum number of descriptors that a greeting carries.
const MEMFDS_MAX: usize = 2;

/// The outcome of receiving a datagram.
enum Datagram {
    Greeting(Greeting, Vec<OwnedFd>),
    /// End of file: the peer has disconnected.
    End,
    /// None has arrived yet.
    Nothing,
}

/// Receives a greeting without blocking, with its descriptors.
fn recv(socket: impl AsFd, flags: RecvFlags) -> Result<Datagram, HandshakeError> {
    // One more byte detects a longer datagram. Space for one more descriptor detects more. The kernel closes further
    // descriptors, and reports that (`MSG_CTRUNC`).
    let mut bytes = [0; HELLO_LEN + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MEMFDS_MAX + 1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut retry = Retry::default();
    let received = loop {
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT | flags;
        match recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
            Ok(received) => break received,
            Err(Errno::AGAIN) => return Ok(Datagram::Nothing),
            // `ECONNRESET`: the peer disconnected without reading all that this side sent. Its earlier datagrams can
            // still be received.
            Err(Errno::CONNRESET) => {}
            Err(errno) if retry.is_due(errno) => {}
            Err(errno) => return Err(HandshakeError::Io(errno.into())),
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    if received.bytes == 0 && descriptors.is_empty() {
        return Ok(Datagram::End);
    }
    let greeting = Greeting::parse(&bytes[..received.bytes]).map_err(HandshakeError::Greeting)?;
    let count = descriptors.len();
    if received.flags.contains(ReturnFlags::CTRUNC) {
        // If the descriptors do not fill the control buffer, the descriptor table of this process is full.
        return Err(if count <= MEMFDS_MAX {
            HandshakeError::Io(Errno::MFILE.into())
        } else {
            HandshakeError::Descriptors(count)
        });
    }
    Ok(Datagram::Greeting(greeting, descriptors))
}
