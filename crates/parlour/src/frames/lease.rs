//! The socket between a publisher and one reader of its frames.
//!
//! It rings the publisher's doorbell. Its end shows the publisher that the reader has ended: every frame of the reader
//! holds the lease open, so a reader may drop its connection and keep a frame. Implementation notes: socketpair(2) of
//! the type `SOCK_SEQPACKET`.
//!
//! - The publisher makes both ends, because a reader that chose the socket could make the publisher hold both of them,
//!   and the end would never show.
//! - The reader receives nothing from it, because a publisher could hold the lock of a socket that it has a copy of.
//!   The answer to an attach, with the lease and the memory, comes through another pair, which the reader makes.
//! - No forked child keeps it, or its parent's end would never show.
//! - One datagram waits in the reader's end from the beginning, and is never received. The kernel reports it as lost
//!   (`ECONNRESET`) when that end is closed everywhere, also in messages that nobody has received, and not when the
//!   reader only shuts it down.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, socketpair, sockopt,
};

use crate::sys::fork::ParentOnly;
use crate::sys::pass_rights::refuse_descriptors;
use crate::sys::retry::{retry, retry_io};

/// The datagram that rings the doorbell, and the one that is never received.
const BYTE: &[u8] = &[0];

/// Creates both ends of a lease: that of the publisher and that of the reader. The kernel refuses descriptors that are
/// sent to the first one, if it can.
pub(super) fn pair() -> io::Result<(ParentOnly, ParentOnly)> {
    let (ours, theirs) = bare_pair()?;
    refuse_descriptors(&ours)?;
    send(&ours, BYTE, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok((ours, theirs))
}

/// Creates both ends of a socket that brings a lease.
pub(super) fn bare_pair() -> io::Result<(ParentOnly, ParentOnly)> {
    let create = || {
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok(((), vec![one, other]))
    };
    match <[ParentOnly; 2]>::try_from(ParentOnly::receive(create)?.1) {
        Ok([one, other]) => Ok((one, other)),
        Err(_) => Err(io::ErrorKind::Other.into()),
    }
}

/// Returns true if a descriptor from a peer is a socket that cannot make its user wait.
pub(super) fn is_suitable(socket: impl AsFd) -> bool {
    sockopt::socket_domain(&socket) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(&socket) == Ok(SocketType::SEQPACKET)
}

/// Sends a datagram with one or two descriptors. Does not wait.
pub(super) fn send_with(socket: impl AsFd, datagram: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    retry_io(|| {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&socket, &[IoSlice::new(datagram)], &mut control, flags)?;
        Ok(())
    })
}

/// A datagram that has arrived, of at most the length of the buffer. A longer one is cut.
pub(super) struct Arrived {
    pub(super) length: usize,
    pub(super) fds: Vec<ParentOnly>,
}

/// Receives a datagram and at most two descriptors. `None`: none has arrived. A length of 0 is the end. Does not wait.
///
/// # Errors
///
/// `EMFILE` if the descriptors are lost because this process has too many.
pub(super) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Option<Arrived>> {
    let receive = || {
        // The kernel closes what does not fit.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = match retry(|| recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)) {
            Ok(received) => received,
            Err(Errno::AGAIN) => return Ok((None, Vec::new())),
            Err(errno) => return Err(errno.into()),
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                fds.extend(some);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) && fds.len() < 2 {
            return Err(Errno::MFILE.into());
        }
        Ok((Some(received.bytes), fds))
    };
    let (length, fds) = ParentOnly::receive(receive)?;
    Ok(length.map(|length| Arrived { length, fds }))
}

/// Rings the doorbell. If the socket is full of rings, the publisher is woken anyway; if the publisher has ended,
/// nobody has to be woken.
pub(super) fn ring(socket: impl AsFd) {
    let _ = retry(|| send(&socket, BYTE, SendFlags::NOSIGNAL | SendFlags::DONTWAIT));
}

/// The events that the publisher found in a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// The number of rings that were taken. There may be more if it is the maximum.
    Rings(u32),
    /// The reader has ended, or violated the protocol.
    Ended(End),
}

/// The end of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// No process has the other end any more, and no message.
    Closed,
    /// The reader has ended the lease without closing it, so the descriptors that were sent to it may still be on
    /// their way. They count against the user of the publisher.
    ShutDown,
}

/// Returns the way in which a lease has ended that the kernel reports as ended.
pub(super) fn end_of(socket: impl AsFd) -> End {
    match sockopt::socket_error(socket) {
        Ok(Err(Errno::CONNRESET)) => End::Closed,
        _ => End::ShutDown,
    }
}

/// The maximum number of rings that are taken at a time.
const RINGS_MAX: u32 = 16;

/// Takes the rings out of a lease. Descriptors that come with them are closed by the kernel.
pub(super) fn drain(socket: impl AsFd) -> Drained {
    let mut byte = [0; 1];
    for taken in 0..RINGS_MAX {
        match retry(|| recv(&socket, &mut byte[..], RecvFlags::DONTWAIT)) {
            Ok((_, 0)) => return Drained::Ended(end_of(&socket)),
            Ok(_) => {}
            Err(Errno::AGAIN) => return Drained::Rings(taken),
            Err(Errno::CONNRESET) => return Drained::Ended(End::Closed),
            Err(_) => return Drained::Ended(End::ShutDown),
        }
    }
    Drained::Rings(RINGS_MAX)
}
