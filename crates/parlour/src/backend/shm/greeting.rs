//! Greetings and the memory that comes along, over the socket.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::shm::mapping::{BadMemory, Mapping};
use crate::wire::hello::Reason;
use crate::wire::shm_hello::{BadGreeting, Greeting, HELLO_LEN};

/// Says hello and hands our memory over.
pub(super) fn send_hello(socket: impl AsFd, ring_size: usize, memfd: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let memfds = [memfd.as_fd()];
    // There is space for exactly this.
    control.push(SendAncillaryMessage::ScmRights(&memfds));
    send(socket, Greeting::Hello { ring_size }, &mut control)
}

/// Tells a client that it is not let in. That it does not hear it is no loss: the end of the socket says the same.
pub(super) fn refuse(socket: impl AsFd, reason: Reason) {
    let _ = send(socket, Greeting::Refused(reason), &mut SendAncillaryBuffer::default());
}

/// The socket is fresh, so it takes one datagram at once.
fn send(socket: impl AsFd, greeting: Greeting, control: &mut SendAncillaryBuffer<'_, '_, '_>) -> io::Result<()> {
    let bytes = greeting.encode();
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let sent = retry_on_intr(|| sendmsg(&socket, &[IoSlice::new(&bytes)], control, flags))?;
    // A datagram goes whole or not at all.
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// What was to be heard.
pub(super) enum Reply {
    /// The peer's memory, checked and mapped.
    Hello(Mapping),
    Refused(Reason),
    /// The peer has ended the socket.
    End,
    /// Nothing yet.
    Nothing,
}

/// What is wrong with what was heard.
#[derive(Debug)]
pub(super) enum HandshakeError {
    Greeting(BadGreeting),
    /// So many descriptors came along, of which none is kept.
    Descriptors(usize),
    Memory(BadMemory),
    Io(io::Error),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Greeting(BadGreeting(what)) => write!(f, "its greeting is none of ours: {what}"),
            Self::Descriptors(count) => write!(f, "its greeting came with another number of descriptors ({count})"),
            Self::Memory(bad) => bad.fmt(f),
            Self::Io(error) => write!(f, "its greeting cannot be received: {error}"),
        }
    }
}

/// Receives a greeting, without waiting for it. Descriptors that are not what is expected are closed.
pub(super) fn recv_hello(socket: impl AsFd) -> Result<Reply, HandshakeError> {
    // One byte more, to tell a longer datagram; two descriptors, to tell more than one. Of any others the kernel lets
    // go, and says so.
    let mut bytes = [0; HELLO_LEN + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        match recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
            Ok(received) => break received,
            Err(Errno::AGAIN) => return Ok(Reply::Nothing),
            // Reset: the peer went without hearing us. What it said before is still there to be received.
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
        // There was room for two: when fewer came, this process had no place for them.
        return Err(if count < 2 {
            HandshakeError::Io(Errno::MFILE.into())
        } else {
            HandshakeError::Descriptors(count)
        });
    }
    match (greeting, descriptors.pop()) {
        (Greeting::Hello { ring_size }, Some(memfd)) if count == 1 => {
            // The descriptor is not needed any more once it is mapped.
            Mapping::adopt(memfd, ring_size).map(Reply::Hello).map_err(|bad| match bad {
                // What keeps us from mapping it is no fault of the peer.
                BadMemory::Io(error) => HandshakeError::Io(error),
                bad => HandshakeError::Memory(bad),
            })
        }
        (Greeting::Refused(reason), None) => Ok(Reply::Refused(reason)),
        (Greeting::Hello { .. } | Greeting::Refused(_), _) => Err(HandshakeError::Descriptors(count)),
    }
}
