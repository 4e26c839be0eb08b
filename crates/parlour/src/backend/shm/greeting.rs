//! The greetings of the handshake, and the shared memory that is passed with them, over the socket.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::shm::mapping::Mapping;
use crate::shm::memfd::BadMemory;
use crate::wire::hello::Reason;
use crate::wire::shm_hello::{BadGreeting, Greeting, HELLO_LEN};

/// Sends a hello with the memory of this side.
pub(super) fn send_hello(socket: impl AsFd, ring_size: usize, memfd: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let memfds = [memfd.as_fd()];
    // The control buffer has space for exactly this message.
    control.push(SendAncillaryMessage::ScmRights(&memfds));
    send(socket, Greeting::Hello { ring_size }, &mut control)
}

/// Sends one datagram. The socket is new, so it takes the datagram without blocking.
fn send(socket: impl AsFd, greeting: Greeting, control: &mut SendAncillaryBuffer<'_, '_, '_>) -> io::Result<()> {
    let bytes = greeting.encode();
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let sent = retry_on_intr(|| sendmsg(&socket, &[IoSlice::new(&bytes)], control, flags))?;
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
    // One more byte detects a longer datagram. Space for two descriptors detects more than one. The kernel closes
    // further descriptors, and reports that (`MSG_CTRUNC`).
    let mut bytes = [0; HELLO_LEN + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        match recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
            Ok(received) => break received,
            Err(Errno::AGAIN) => return Ok(Reply::Nothing),
            // `ECONNRESET`: the peer disconnected without reading all that this side sent. Its earlier datagrams can
            // still be received.
            Err(Errno::INTR | Errno::CONNRESET) => {}
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
        return Ok(Reply::End);
    }
    let greeting = Greeting::parse(&bytes[..received.bytes]).map_err(HandshakeError::Greeting)?;
    let count = descriptors.len();
    if received.flags.contains(ReturnFlags::CTRUNC) {
        // The control buffer has space for two. If fewer arrived, the descriptor table of this process is full.
        return Err(if count < 2 {
            HandshakeError::Io(Errno::MFILE.into())
        } else {
            HandshakeError::Descriptors(count)
        });
    }
    match (greeting, descriptors.pop()) {
        (Greeting::Hello { ring_size }, Some(_)) if count == 1 && ring_size > ring_max => {
            Err(HandshakeError::Ring { size: ring_size, max: ring_max })
        }
        (Greeting::Hello { ring_size }, Some(memfd)) if count == 1 => {
            // The memory is mapped, and the descriptor is closed.
            Mapping::adopt(memfd, ring_size).map(Reply::Hello).map_err(|bad| match bad {
                // A system call that fails here is not the fault of the peer.
                BadMemory::Io(error) => HandshakeError::Io(error),
                bad => HandshakeError::Memory(bad),
            })
        }
        (Greeting::Refused(reason), None) => Ok(Reply::Refused(reason)),
        (Greeting::Hello { .. } | Greeting::Refused(_), _) => Err(HandshakeError::Descriptors(count)),
    }
}
