//! `shm`: frames as on `unix`, through a ring in shared memory for each direction. docs/shm.md has the layout of the memory
//! and what happens when either side dies, docs/wire.md the handshake.
//!
//! The socket of the handshake stays. It tells of the end, because only the kernel knows that, and it wakes sleepers:
//!
//! - A datagram for the side that receives makes its descriptor readable. It is sent when the receiver has asked for it.
//! - A sender that finds its ring full fills the socket, too, so that its descriptor is not writable, and asks for room.
//!   The receiver makes room in the ring, and then takes out of the socket what is there.
//!
//! So the one descriptor means for poll(2) what that of any socket means, both ways and with hang-ups, and a connection
//! costs one descriptor. What the datagrams hold does not matter.
//!
//! Descriptors travel with a datagram, too, that is sent before their message: a mark in the message's header says that
//! some belong to it.

pub(super) mod connect;
mod greeting;
pub(super) mod listen;

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::PollFlags;
use rustix::net::{Shutdown, SocketType, shutdown, sockopt};

use super::attempt::Established;
use super::config::MessageMax;
use super::fault::{Fault, LostFds};
use super::socket::Kind;
use super::socket_half::{Half, Read};
use super::stream::{self, FrameReceiver};
use crate::admission::Permit;
use crate::message::Received;
use crate::message::{Message, message_len};
use crate::peer::Peer;
use crate::shm::mapping::{Mapped, Mapping, Mappings};
use crate::shm::ring::{BadPosition, Reader, Sides, Writer};
use crate::sys::pass_rights::refuse_descriptors;
use crate::sys::shared_fd::SharedFd;
use crate::transport::Transport;
use crate::wait::poll_now;
use crate::wire::frame::{self, HEADER_LEN};
use crate::wire::write_buffer::WriteBuffer;

/// The socket behind this transport: one that keeps datagrams apart, and tells when the other side goes.
const KIND: Kind = Kind { transport: Transport::Shm, socket_type: SocketType::SEQPACKET };

/// What is sent to fill a socket: more than a quarter of its buffer, below which the kernel calls it writable.
static FILLER: [u8; 16 * 1024] = [0; 16 * 1024];

/// How many datagrams are taken out at once. Honest peers have a handful under way at most.
const DATAGRAMS_MAX: usize = 64;

/// How many datagrams with descriptors may be here before their messages. The socket holds a handful, and so does an
/// honest peer's ring before it has to be read.
const ARRIVED_MAX: usize = 64;

/// Makes a connection of what the handshake has brought: our memory and the peer's.
fn establish(
    socket: OwnedFd,
    (mine, peers): (Mapping, Mapping),
    peer: Peer,
    permit: Option<Permit>,
    max: MessageMax,
) -> io::Result<Established<Outgoing, Incoming>> {
    if max.fds() == 0 {
        // Not before: the handshake needs one. Where the kernel cannot refuse them, the first ones end the connection.
        refuse_descriptors(&socket)?;
    }
    // As small as the kernel has it, since it is to be filled.
    sockopt::set_socket_send_buffer_size(&socket, 1)?;
    let filler_len = sockopt::socket_send_buffer_size(&socket)? / 2;
    if filler_len > FILLER.len() {
        return Err(io::Error::other("the socket's send buffer cannot be made small"));
    }
    let shared = Shared { memory: Mappings::new(mine, peers), peer_state: PeerState::default() };
    let (receiving, sending) = Half::both_with(socket, max.fds() > 0, shared);
    let incoming = Incoming {
        notify: NotifyOnDrop(Reader::new(Arc::clone(receiving.fd()))),
        half: receiving,
        frames: FrameReceiver::with_marks(max),
        arrived: None,
        broken: None,
        wakeup_requested: AtomicBool::new(false),
        ended: false,
    };
    let outgoing = Outgoing {
        ring: Writer::new(Arc::clone(sending.fd())),
        half: sending,
        filler_len: filler_len as u32,
        socket_is_full: false,
    };
    Ok(Established { outgoing, incoming, peer, permit })
}

/// What both halves have: the socket, and with it the memory, which goes only when the socket has been closed.
pub(super) type Socket = SharedFd<Shared>;

pub(super) struct Shared {
    memory: Mappings,
    peer_state: PeerState,
}

impl Sides for Socket {
    type Memory<'a> = Mapped<'a>;

    fn mine(&self) -> Mapped<'_> {
        self.data().memory.mine()
    }

    fn peers(&self) -> Mapped<'_> {
        self.data().memory.peers()
    }
}

/// What each half has found out and the other wants to know.
#[derive(Debug, Default)]
struct PeerState {
    /// The peer has gone.
    is_gone: AtomicBool,
    /// We send no more, or cannot: it is no surprise that something was not read.
    sends_no_more: AtomicBool,
}

impl PeerState {
    /// Whether the peer went while we would still have sent.
    fn is_reset(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed) && !self.sends_no_more.load(Ordering::Relaxed)
    }

    fn send_no_more(&self) {
        self.sends_no_more.store(true, Ordering::Relaxed);
    }
}

pub(crate) struct Outgoing {
    half: Half<Shared>,
    ring: Writer<Socket>,
    filler_len: u32,
    /// It is the socket, and not the ring, that has no room.
    socket_is_full: bool,
}

impl Outgoing {
    pub(super) fn try_send(
        &mut self,
        write_buffer: &mut WriteBuffer,
        parts: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
        sent: &mut usize,
    ) -> Result<bool, Fault> {
        let length = message_len(parts);
        let header = match fds.is_empty() {
            true => frame::header(length),
            false => frame::marked_header(length),
        };
        let header = header.ok_or(Fault::TooLong { length })?;
        if *sent == 0 && !fds.is_empty() && !self.try_send_fds(write_buffer, fds)? {
            return Ok(false);
        }
        let Self { half, ring, .. } = self;
        stream::try_send_frame(write_buffer, header, parts, sent, |pieces| write(half, ring, pieces))
            .map_err(bad_position)
    }

    /// Sends descriptors ahead of their message, when that can follow at once: with its first byte it has begun, and is
    /// not taken back. (The mark is in the first byte.)
    fn try_send_fds(&mut self, write_buffer: &mut WriteBuffer, fds: &[BorrowedFd<'_>]) -> Result<bool, Fault> {
        if !self.try_flush(write_buffer)? {
            return Ok(false);
        }
        let Self { half, ring, socket_is_full, .. } = self;
        match ring.has_room() {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(BadPosition) => return Err(bad_position(Fault::Io(broken(half)))),
        }
        loop {
            match half.write_with_fds(&[IoSlice::new(&FILLER[..1])], fds) {
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    *socket_is_full = true;
                    return Ok(false);
                }
                Err(error) => {
                    let fault = Fault::from_write(error);
                    if matches!(fault, Fault::Disconnected) {
                        peer_state(half).send_no_more();
                    }
                    return Err(fault);
                }
            }
        }
    }

    pub(super) fn try_flush(&mut self, write_buffer: &mut WriteBuffer) -> Result<bool, Fault> {
        let Self { half, ring, .. } = self;
        stream::try_flush(write_buffer, |pieces| write(half, ring, pieces)).map_err(bad_position)
    }

    /// Makes the descriptor one that is not writable until the peer has made room.
    pub(super) fn prepare_to_wait(&mut self) -> Result<bool, Fault> {
        if std::mem::take(&mut self.socket_is_full) {
            // So it is not writable, and will be when the peer has taken out what is there.
            return Ok(false);
        }
        match self.half.write(&[IoSlice::new(&FILLER[..self.filler_len as usize])]) {
            Ok(_) => {}
            // It is full already.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) => {
                let fault = Fault::from_write(error);
                if matches!(fault, Fault::Disconnected) {
                    peer_state(&self.half).send_no_more();
                }
                return Err(fault);
            }
        }
        // Only now: who is asked before the filler is there may take out what is not there yet, and we sleep on.
        self.ring.request_wakeup().map_err(|BadPosition| bad_position(Fault::Io(broken(&self.half))))
    }

    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        peer_state(&self.half).send_no_more();
        self.half.finish()
    }

    #[inline]
    pub(super) fn is_finished(&self) -> bool {
        self.half.is_finished()
    }

    pub(super) fn detach(&mut self) {
        self.half.detach();
    }

    pub(super) fn fd(&self) -> &Arc<Socket> {
        self.half.fd()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        peer_state(&self.half).send_no_more();
    }
}

fn peer_state(half: &Half<Shared>) -> &PeerState {
    &half.fd().data().peer_state
}

/// Puts into the ring what there is room for, as a write to a socket would, and wakes the peer if it has asked for that.
fn write(half: &Half<Shared>, ring: &mut Writer<Socket>, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let peer_state = peer_state(half);
    if peer_state.is_gone.load(Ordering::Relaxed) || peer_state.sends_no_more.load(Ordering::Relaxed) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    let count = ring.write(pieces).map_err(|BadPosition| broken(half))?;
    if count == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    if ring.should_notify() {
        if let Err(error) = notify_peer(half) {
            peer_state.send_no_more();
            // What it took before it went has arrived; the next write tells.
            if !ring.is_taken() {
                return Err(error);
            }
        }
    }
    Ok(count)
}

/// Makes the peer's descriptor readable.
///
/// What fails in passing is not passed on: the bytes are in the ring and cannot be taken back. An error is for good.
fn notify_peer(half: &Half<Shared>) -> io::Result<()> {
    /// Memory for one byte that cannot be had this often is not to be had.
    const TRIES: u32 = 1000;
    let mut tries = 0;
    loop {
        match half.write(&[IoSlice::new(&FILLER[..1])]) {
            Ok(_) => return Ok(()),
            // The socket is full of what the peer has not taken out, so it is readable.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOBUFS)) && tries < TRIES => {
                tries += 1;
                std::thread::yield_now();
            }
            Err(_) => return Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// Ends a connection whose peer does not keep to the protocol.
fn broken(half: &Half<Shared>) -> io::Error {
    peer_state(half).is_gone.store(true, Ordering::Relaxed);
    // If that fails the peer has gone already.
    let _ = shutdown(half, Shutdown::Both);
    io::ErrorKind::InvalidData.into()
}

/// Of all that reading and writing can say, only [`broken`] is invalid data.
fn bad_position(fault: Fault) -> Fault {
    match fault {
        Fault::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            Fault::Protocol("a position in its shared memory is out of range")
        }
        fault => fault,
    }
}

pub(crate) struct Incoming {
    // Dropped before `farewell`, which is for peers that have not noticed.
    half: Half<Shared>,
    notify: NotifyOnDrop,
    frames: FrameReceiver,
    arrived: Arrived,
    /// What the peer did against the protocol. It stays.
    broken: Option<Broken>,
    /// The peer will tell of what comes. (Atomic only because the connection may be shared between threads.)
    wakeup_requested: AtomicBool,
    /// The other side has ended this direction; what is in the ring by now is all.
    ended: bool,
}

/// Descriptors that have come ahead of their messages, in order, and a null pointer while there are none.
type Arrived = Option<Box<VecDeque<Result<Vec<OwnedFd>, LostFds>>>>;

#[derive(Clone, Copy, Debug)]
enum Broken {
    Position,
    /// A message was to have descriptors, and none have come.
    NoFds,
    /// Descriptors come, and no messages that they belong to.
    StrayFds,
    Fds(LostFds),
}

impl Broken {
    fn fault(self) -> Fault {
        match self {
            Self::Position => bad_position(Fault::Io(io::ErrorKind::InvalidData.into())),
            Self::NoFds => Fault::Protocol("a message lacks the descriptors that it announces"),
            Self::StrayFds => Fault::Protocol("descriptors come that belong to no message"),
            Self::Fds(lost) => Fault::Fds(lost),
        }
    }
}

/// The ring, and what is to be done with it after this direction of the socket has been shut down. (When the socket is
/// closed, the memory does the same.)
struct NotifyOnDrop(Reader<Socket>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        // A peer that sends again finds that we want to be told, and so meets the socket, which tells the truth: that
        // nobody is there any more, or that a forked child goes on.
        self.0.request_wakeup();
    }
}

impl Incoming {
    pub(super) fn frames(&self) -> &FrameReceiver {
        &self.frames
    }

    pub(super) fn frames_mut(&mut self) -> &mut FrameReceiver {
        &mut self.frames
    }

    /// Where messages are that may be given still.
    #[inline]
    pub(super) fn buffered_frames(&mut self) -> Option<&mut FrameReceiver> {
        self.broken.is_none().then_some(&mut self.frames)
    }

    pub(super) fn try_recv(&mut self, out: &mut Message) -> Result<Received, Fault> {
        if let Some(broken) = self.broken {
            return Err(broken.fault());
        }
        let received = self.try_recv_bytes(out)?;
        if received == Received::Message && self.frames.was_marked() {
            out.fds = self.fds_of_message().map_err(|broken| {
                self.broken = Some(broken);
                self.arrived = None;
                broken.fault()
            })?;
        }
        Ok(received)
    }

    /// The descriptors of the message that has just come; they came before it.
    fn fds_of_message(&mut self) -> Result<Vec<OwnedFd>, Broken> {
        if self.arrived.is_none() {
            self.take_datagrams();
        }
        let first = self.arrived.as_mut().and_then(|arrived| arrived.pop_front());
        self.arrived.take_if(|arrived| arrived.is_empty());
        match (first, self.frames.max().fds()) {
            (Some(Ok(fds)), allowed) if fds.len() <= allowed => Ok(fds),
            (Some(Ok(fds)), allowed) => Err(Broken::Fds(LostFds::too_many(fds.len(), allowed))),
            (Some(Err(lost)), _) => Err(Broken::Fds(lost)),
            (None, _) => Err(Broken::NoFds),
        }
    }

    fn try_recv_bytes(&mut self, out: &mut Message) -> Result<Received, Fault> {
        let Self { half, notify: NotifyOnDrop(ring), frames, wakeup_requested, arrived, ended, broken: is_broken } =
            self;
        let received = frames.try_recv(out, |spaces| {
            let count = ring.read(spaces).map_err(|BadPosition| {
                *is_broken = Some(Broken::Position);
                broken(half)
            })?;
            match (count, *ended) {
                (0, false) => Err(io::ErrorKind::WouldBlock.into()),
                // As on a socket: an end that leaves unread what we sent is a reset.
                (0, true) if peer_state(half).is_reset() && !ring.peer_has_all() => {
                    Err(io::ErrorKind::ConnectionReset.into())
                }
                (0, true) => Ok(Read::of_bytes(0)),
                (count, _) => {
                    *wakeup_requested.get_mut() = false;
                    if ring.should_notify() {
                        *ended |= take_datagrams(half, arrived).ended;
                    }
                    Ok(Read::of_bytes(count))
                }
            }
        });
        received.map_err(bad_position)
    }

    /// Takes what has woken us, asks to be woken again, and looks once more.
    pub(super) fn prepare_to_wait(&mut self) -> bool {
        if self.take_datagrams() {
            // It may have been the answer to what we asked.
            self.wakeup_requested.store(false, Ordering::Relaxed);
        }
        self.request_wakeup();
        // What is wrong with the position, `try_recv` tells.
        self.ended || self.broken.is_some() || self.notify.0.available() != Ok(0)
    }

    /// Takes out what is in the socket, and says whether there was anything.
    fn take_datagrams(&mut self) -> bool {
        let Taken { some, ended } = take_datagrams(&self.half, &mut self.arrived);
        self.ended |= ended;
        if self.arrived.as_ref().is_some_and(|arrived| arrived.len() > ARRIVED_MAX) {
            self.arrived = None;
            self.broken = Some(Broken::StrayFds);
        }
        some
    }

    fn request_wakeup(&self) {
        if !self.wakeup_requested.swap(true, Ordering::Relaxed) {
            self.notify.0.request_wakeup();
        }
    }

    /// Exact: a part of a message is none.
    pub(super) fn has_message(&self) -> bool {
        if self.frames.has_message() || self.broken.is_some() {
            return true;
        }
        // Before we look, so that the descriptor announces what comes afterwards.
        self.request_wakeup();
        let Ok(available) = self.notify.0.available() else { return true };
        let mut coming = [0; HEADER_LEN];
        let coming = &mut coming[..available.min(HEADER_LEN)];
        self.notify.0.peek(coming);
        available >= self.frames.missing(coming) || (self.ended && available == 0)
    }

    pub(super) fn detach(&mut self) {
        self.half.detach();
    }

    pub(super) fn fd(&self) -> &Arc<Socket> {
        self.half.fd()
    }
}

/// What was in the socket.
struct Taken {
    some: bool,
    /// And then the end: what the peer has put into its ring by now is all.
    ended: bool,
}

/// Takes out what is in the socket: the descriptor is not readable any more, and the peer's is writable.
fn take_datagrams(half: &Half<Shared>, arrived: &mut Arrived) -> Taken {
    let mut tries = 0;
    let mut some = false;
    // Of a longer datagram the kernel throws the rest away.
    let mut byte = [0; 1];
    for _ in 0..DATAGRAMS_MAX {
        match half.read(&mut [IoSliceMut::new(&mut byte)]) {
            Ok(read) if read.bytes > 0 => {
                some = true;
                if !matches!(&read.fds, Ok(fds) if fds.is_empty()) {
                    arrived.get_or_insert_default().push_back(read.fds);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Taken { some, ended: false },
            // A reset says that datagrams of ours were not taken out, which loses nothing. The kernel says so once.
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionReset) => {}
            // Memory that cannot be had for a moment is no end, and what has come is still there.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOBUFS)) && tries < 1000 => {
                tries += 1;
                std::thread::yield_now();
            }
            // A socket that cannot be read any more is as good as the end.
            Ok(_) | Err(_) => {
                if is_hung_up(half) {
                    peer_state(half).is_gone.store(true, Ordering::Relaxed);
                }
                return Taken { some, ended: true };
            }
        }
    }
    Taken { some, ended: false }
}

/// Whether both directions have ended: the peer has gone, and not only finished sending.
fn is_hung_up(half: &Half<Shared>) -> bool {
    poll_now(half.as_fd(), PollFlags::empty()).contains(PollFlags::HUP)
}
