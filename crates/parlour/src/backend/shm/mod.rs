//! `shm`: the frames of `unix`, through one ring in shared memory for each direction. docs/shm.md describes the layout
//! of the memory and the effects when either side dies. docs/wire.md describes the handshake.
//!
//! The socket of the handshake stays open. It reports the end of the peer, which only the kernel knows, and it wakes
//! sleeping peers:
//!
//! - A datagram to the receiver makes its descriptor readable. The sender sends it if the receiver has requested it.
//! - A sender whose ring is full also fills its send buffer with a datagram, so that poll(2) does not report `POLLOUT`.
//!   Then it requests a wake-up. The receiver frees space in the ring, and then takes all datagrams out of the socket.
//!
//! So poll(2) on this one descriptor reports the same as on any socket: readable, writable and hang-up. A connection
//! costs one descriptor. The contents of the datagrams have no meaning.
//!
//! Descriptors are sent with a datagram as well, before their message. A flag in the header indicates that descriptors
//! were sent.

pub(super) mod connect;
mod greeting;
pub(super) mod inherit;
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
use crate::shm::ring::{BadPosition, Reader, Sides, Unreadable, Writer};
use crate::sys::pass_rights::refuse_descriptors;
use crate::sys::retry::Retry;
use crate::sys::shared_fd::SharedFd;
use crate::transport::Transport;
use crate::wait::poll_now;
use crate::wire::frame::{self, HEADER_LEN};
use crate::wire::write_buffer::WriteBuffer;

/// The kind of socket of this transport. It keeps the boundaries of datagrams, and reports the end of the peer.
const KIND: Kind = Kind { transport: Transport::Shm, socket_type: SocketType::SEQPACKET };

/// The bytes that fill a socket. The filler is half of the send buffer. The kernel reports a UNIX socket as writable
/// only if at most a quarter of its send buffer is used.
static FILLER: [u8; 16 * 1024] = [0; 16 * 1024];

/// The maximum number of datagrams that one call takes out of the socket. An honest peer has at most a handful in
/// flight.
const DATAGRAMS_MAX: usize = 64;

/// The maximum number of datagrams with descriptors that are kept until their messages arrive. More end the connection.
const ARRIVED_MAX: usize = 64;

/// Creates both directions from the results of the handshake: the socket, the memory of this side and the memory of the
/// peer.
pub(super) fn establish(
    socket: OwnedFd,
    (local, remote): (Mapping, Mapping),
    peer: Peer,
    permit: Option<Permit>,
    max: MessageMax,
) -> io::Result<Established<Outgoing, Incoming>> {
    if max.fds() == 0 {
        // Not earlier, because the handshake passes a descriptor. On a kernel that cannot refuse descriptors, the first
        // ones that arrive end the connection.
        refuse_descriptors(&socket)?;
    }
    // The send buffer is as small as the kernel allows, because a sender fills it before it sleeps.
    sockopt::set_socket_send_buffer_size(&socket, 1)?;
    let filler_len = sockopt::socket_send_buffer_size(&socket)? / 2;
    if filler_len > FILLER.len() {
        return Err(io::Error::other("the socket's send buffer cannot be made small"));
    }
    let shared = Shared {
        memory: Mappings::new(local, remote),
        peer_state: PeerState::default(),
        socket_is_full: AtomicBool::new(false),
        filler_len: filler_len as u16,
    };
    let (receiving, sending) = Half::both_with(socket, max.fds() > 0, shared);
    let incoming = Incoming {
        ring: NotifyOnDrop(Reader::new(Arc::clone(receiving.fd()))),
        half: receiving,
        frames: FrameReceiver::with_marks(max),
        arrived: None,
        broken: None,
        wakeup_requested: AtomicBool::new(false),
        ended: false,
    };
    let outgoing = Outgoing { ring: Writer::new(Arc::clone(sending.fd())), half: sending };
    Ok(Established { outgoing, incoming, peer, permit })
}

/// The socket and the memory, which both halves share. The memory is unmapped only after the socket is closed.
pub(super) type Socket = SharedFd<Shared>;

/// The state that the halves share besides the socket. The last two are of the outgoing half alone; here they occupy
/// bytes that would be padding.
pub(super) struct Shared {
    memory: Mappings,
    peer_state: PeerState,
    /// True if the last send could not proceed because the socket was full. The ring may have space.
    socket_is_full: AtomicBool,
    /// The number of bytes that fill the send buffer of the socket.
    filler_len: u16,
}

impl Sides for Socket {
    type Memory<'a> = Mapped<'a>;

    fn local(&self) -> Mapped<'_> {
        self.data().memory.local()
    }

    fn remote(&self) -> Mapped<'_> {
        self.data().memory.remote()
    }
}

/// Facts about the connection that one half detects and the other one needs.
#[derive(Debug, Default)]
struct PeerState {
    /// True once the peer has disconnected.
    is_gone: AtomicBool,
    /// True once this side has ended sending, or cannot send any more. If true, a disconnection with unread bytes is
    /// reported as the end of the stream, not as `Reset`.
    sending_ended: AtomicBool,
}

impl PeerState {
    /// Returns true if the peer disconnected while this side could still send.
    fn is_reset(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed) && !self.sending_ended.load(Ordering::Relaxed)
    }

    fn mark_sending_ended(&self) {
        self.sending_ended.store(true, Ordering::Relaxed);
    }
}

/// The outgoing direction of a `shm` connection.
pub(crate) struct Outgoing {
    half: Half<Shared>,
    ring: Writer<Socket>,
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
            .map_err(convert_bad_position)
    }

    /// Sends descriptors ahead of their message. Sends them only if the ring has space for at least one byte of the
    /// header, so that the message can be started immediately afterwards.
    fn try_send_fds(&mut self, write_buffer: &mut WriteBuffer, fds: &[BorrowedFd<'_>]) -> Result<bool, Fault> {
        if !self.try_flush(write_buffer)? {
            return Ok(false);
        }
        let Self { half, ring } = self;
        match ring.has_room() {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(BadPosition) => return Err(convert_bad_position(Fault::Io(abort_connection(half)))),
        }
        let mut retry = Retry::default();
        loop {
            match half.write_with_fds(&[IoSlice::new(&FILLER[..1])], fds) {
                Ok(_) => return Ok(true),
                Err(error) if retry.is_due_after(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    half.fd().data().socket_is_full.store(true, Ordering::Relaxed);
                    return Ok(false);
                }
                Err(error) => {
                    let fault = Fault::from_write(error);
                    if matches!(fault, Fault::Disconnected) {
                        peer_state(half).mark_sending_ended();
                    }
                    return Err(fault);
                }
            }
        }
    }

    /// See [`Outgoing::try_write`](crate::backend::halves::Outgoing::try_write).
    #[cfg(feature = "testing")]
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(&self.half, &mut self.ring, &[IoSlice::new(bytes)])
    }

    pub(super) fn try_flush(&mut self, write_buffer: &mut WriteBuffer) -> Result<bool, Fault> {
        let Self { half, ring } = self;
        stream::try_flush(write_buffer, |pieces| write(half, ring, pieces)).map_err(convert_bad_position)
    }

    /// Makes the descriptor not writable until the peer has freed space. Returns true if the caller must try again
    /// instead of waiting.
    pub(super) fn prepare_to_wait(&mut self) -> Result<bool, Fault> {
        let Shared { socket_is_full, filler_len, .. } = self.half.fd().data();
        if socket_is_full.load(Ordering::Relaxed) {
            socket_is_full.store(false, Ordering::Relaxed);
            // The descriptor is not writable already. It will be when the peer has taken the datagrams out of the
            // socket.
            return Ok(false);
        }
        let mut retry = Retry::default();
        loop {
            match self.half.write(&[IoSlice::new(&FILLER[..usize::from(*filler_len)])]) {
                Ok(_) => break,
                // The socket is full already.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if retry.is_due_after(&error) => {}
                Err(error) => {
                    let fault = Fault::from_write(error);
                    if matches!(fault, Fault::Disconnected) {
                        peer_state(&self.half).mark_sending_ended();
                    }
                    return Err(fault);
                }
            }
        }
        // The request must follow the filler. Otherwise the peer could empty the socket before the filler is in it, and
        // this side would not wake up.
        self.ring.request_wakeup().map_err(|BadPosition| convert_bad_position(Fault::Io(abort_connection(&self.half))))
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.ring.is_drained()
    }

    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        peer_state(&self.half).mark_sending_ended();
        self.half.finish()
    }

    /// See [`Outgoing::abort`](crate::backend::halves::Outgoing::abort).
    pub(super) fn abort(&mut self, is_in_frame: bool) {
        let Self { half, ring, .. } = self;
        if is_in_frame {
            return;
        }
        match write(half, ring, &[IoSlice::new(&frame::CUT)]) {
            // The ring is full of whole messages, so the last one becomes a part of one.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ring.take_back(),
            // An error means that the peer has disconnected.
            _ => {}
        }
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
        peer_state(&self.half).mark_sending_ended();
    }
}

fn peer_state(half: &Half<Shared>) -> &PeerState {
    &half.fd().data().peer_state
}

/// Writes as many bytes into the ring as it has space for, like a non-blocking write to a socket. Wakes the peer if it
/// has requested a wake-up.
fn write(half: &Half<Shared>, ring: &mut Writer<Socket>, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let peer_state = peer_state(half);
    if peer_state.is_gone.load(Ordering::Relaxed) || peer_state.sending_ended.load(Ordering::Relaxed) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    let count = ring.write(pieces).map_err(|BadPosition| abort_connection(half))?;
    if count == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    if ring.should_notify() {
        if let Err(error) = notify_peer(half) {
            peer_state.mark_sending_ended();
            // If the peer took the bytes before it disconnected, they have arrived. The next write returns the error.
            if !ring.is_drained() {
                return Err(error);
            }
        }
    }
    Ok(count)
}

/// Makes the peer's descriptor readable.
///
/// Temporary failures are retried, because the bytes are in the ring and cannot be taken back. An error is final.
fn notify_peer(half: &Half<Shared>) -> io::Result<()> {
    let mut retry = Retry::default();
    loop {
        match half.write(&[IoSlice::new(&FILLER[..1])]) {
            Ok(_) => return Ok(()),
            // The socket is full of datagrams that the peer has not taken out, so its descriptor is readable.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if retry.is_due_after(&error) => {}
            Err(_) => return Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// Ends a connection whose peer has violated the protocol.
fn abort_connection(half: &Half<Shared>) -> io::Error {
    peer_state(half).is_gone.store(true, Ordering::Relaxed);
    // An error means that the peer has disconnected already.
    let _ = shutdown(half, Shutdown::Both);
    io::ErrorKind::InvalidData.into()
}

/// Converts the error of [`abort_connection`] into a protocol fault. No other error of reading and writing is
/// `InvalidData`.
fn convert_bad_position(fault: Fault) -> Fault {
    match fault {
        Fault::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            Fault::Protocol("a position in the shared memory of the peer is out of range")
        }
        fault => fault,
    }
}

/// The incoming direction of a `shm` connection.
pub(crate) struct Incoming {
    // Declared before `ring`, so that the socket is shut down before `ring` is dropped.
    half: Half<Shared>,
    ring: NotifyOnDrop,
    frames: FrameReceiver,
    arrived: Arrived,
    /// The end that the ring or the descriptors show, which is final.
    broken: Option<Broken>,
    /// True if the peer was requested to send a datagram when it writes. Atomic only because threads may share a
    /// reference to the connection.
    wakeup_requested: AtomicBool,
    /// True once the peer has ended this direction. No bytes follow those that are in the ring then.
    ended: bool,
}

/// The descriptors that have arrived ahead of their messages, in order. A null pointer while there are none.
type Arrived = Option<Box<VecDeque<Result<Vec<OwnedFd>, LostFds>>>>;

/// The end of an incoming direction that is not the end of its socket: a violation of the protocol by the peer, or an
/// aborted direction.
#[derive(Clone, Copy, Debug)]
enum Broken {
    /// A position in the shared memory is out of range.
    Position,
    /// The peer has aborted the direction, and for that took the last byte of a full ring back, which was read already.
    TakenBack,
    /// The mark of a message announced descriptors, and none have arrived.
    NoFds,
    /// Descriptors have arrived without messages that they belong to.
    StrayFds,
    /// Descriptors of a message were lost.
    Fds(LostFds),
}

impl Broken {
    fn fault(self) -> Fault {
        match self {
            Self::Position => convert_bad_position(Fault::Io(io::ErrorKind::InvalidData.into())),
            Self::TakenBack => Fault::Truncated,
            Self::NoFds => Fault::Protocol("a message lacks the descriptors that it announces"),
            Self::StrayFds => Fault::Protocol("descriptors arrived that belong to no message"),
            Self::Fds(lost) => Fault::Fds(lost),
        }
    }
}

/// The ring. Dropping it requests a wake-up, after this half of the socket was dropped. Dropping `Mappings` after the
/// socket is closed increments the same word, for the case that the socket was still open here.
struct NotifyOnDrop(Reader<Socket>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        // The peer's next write sees the request and sends a datagram. That send fails with `EPIPE`, or succeeds if a
        // forked child still holds the socket.
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

    /// Returns true after a protocol violation.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Returns the frame receiver, or `None` after a protocol violation.
    #[inline]
    pub(super) fn buffered_frames(&mut self) -> Option<&mut FrameReceiver> {
        self.broken.is_none().then_some(&mut self.frames)
    }

    pub(super) fn try_recv(&mut self, out: &mut Message, permit: Option<&Permit>) -> Result<Received, Fault> {
        if let Some(broken) = self.broken {
            return Err(broken.fault());
        }
        let received = self.try_recv_bytes(out, permit)?;
        if received == Received::Message && self.frames.was_marked() {
            out.fds = self.fds_of_message().map_err(|broken| {
                self.broken = Some(broken);
                self.arrived = None;
                broken.fault()
            })?;
        }
        Ok(received)
    }

    /// Returns the descriptors of the message that was just received. They arrived before it.
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

    fn try_recv_bytes(&mut self, out: &mut Message, permit: Option<&Permit>) -> Result<Received, Fault> {
        let Self { half, ring: NotifyOnDrop(ring), frames, wakeup_requested, arrived, ended, broken } = self;
        let received = frames.try_recv(out, permit, |spaces| {
            let count = ring.read(spaces).map_err(|unreadable| match unreadable {
                Unreadable::BadPosition => {
                    *broken = Some(Broken::Position);
                    abort_connection(half)
                }
                // The other direction goes on.
                Unreadable::TakenBack => {
                    *broken = Some(Broken::TakenBack);
                    io::ErrorKind::InvalidData.into()
                }
            })?;
            match (count, *ended) {
                (0, false) => Err(io::ErrorKind::WouldBlock.into()),
                // As on a socket: end of file is a reset if the peer closed before it read all bytes that this side
                // sent.
                (0, true) if peer_state(half).is_reset() && !ring.is_outgoing_drained() => {
                    Err(io::ErrorKind::ConnectionReset.into())
                }
                (0, true) => Ok(Read::of_bytes(0)),
                (count, _) => {
                    *wakeup_requested.get_mut() = false;
                    if ring.should_notify() {
                        *ended |= take_datagrams(half, arrived).end_of_file;
                    }
                    Ok(Read::of_bytes(count))
                }
            }
        });
        received.map_err(|fault| broken.map_or(fault, Broken::fault))
    }

    /// Takes the datagrams that woke this side, requests another wake-up, and checks once more. Returns true if a
    /// receive may make progress.
    pub(super) fn prepare_to_wait(&mut self) -> bool {
        if self.take_datagrams() {
            // The datagram may have been the requested wake-up, so another one must be requested.
            self.wakeup_requested.store(false, Ordering::Relaxed);
        }
        self.request_wakeup();
        // `try_recv` reports a position that ends the direction.
        self.ended || self.broken.is_some() || self.ring.0.available() != Ok(0)
    }

    /// Takes the datagrams out of the socket, and returns true if there were any.
    fn take_datagrams(&mut self) -> bool {
        let Drained { any, end_of_file } = take_datagrams(&self.half, &mut self.arrived);
        self.ended |= end_of_file;
        if self.arrived.as_ref().is_some_and(|arrived| arrived.len() > ARRIVED_MAX) {
            self.arrived = None;
            self.broken = Some(Broken::StrayFds);
        }
        any
    }

    fn request_wakeup(&self) {
        if !self.wakeup_requested.swap(true, Ordering::Relaxed) {
            self.ring.0.request_wakeup();
        }
    }

    /// Returns true if a whole message or the end can be received. A partial message does not count.
    pub(super) fn has_message(&self) -> bool {
        if self.frames.has_message() || self.broken.is_some() {
            return true;
        }
        // The request precedes the check, so that the descriptor reports bytes that arrive after it.
        self.request_wakeup();
        let Ok(available) = self.ring.0.available() else { return true };
        let mut coming = [0; HEADER_LEN];
        let coming = &mut coming[..available.min(HEADER_LEN)];
        self.ring.0.peek(coming);
        available >= self.frames.missing(coming) || (self.ended && available == 0)
    }

    /// See [`Incoming::abort`](crate::backend::halves::Incoming::abort).
    pub(super) fn abort(&self) {
        self.half.shut_down();
    }

    pub(super) fn detach(&mut self) {
        self.half.detach();
    }

    pub(super) fn fd(&self) -> &Arc<Socket> {
        self.half.fd()
    }
}

/// The result of emptying the socket.
struct Drained {
    /// True if there were datagrams.
    any: bool,
    /// True at end of file. No bytes follow those that are in the ring then.
    end_of_file: bool,
}

/// Takes up to [`DATAGRAMS_MAX`] datagrams out of the socket. If this empties the socket, the descriptor is no longer
/// readable and the peer's is writable. At end of file the descriptor stays readable.
fn take_datagrams(half: &Half<Shared>, arrived: &mut Arrived) -> Drained {
    let mut retry = Retry::default();
    let mut any = false;
    // The kernel discards the rest of a longer datagram.
    let mut byte = [0; 1];
    for _ in 0..DATAGRAMS_MAX {
        match half.read(&mut [IoSliceMut::new(&mut byte)]) {
            Ok(read) if read.bytes > 0 => {
                any = true;
                if !matches!(&read.fds, Ok(fds) if fds.is_empty()) {
                    arrived.get_or_insert_default().push_back(read.fds);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Drained { any, end_of_file: false },
            // `ECONNRESET` means that the peer left datagrams of this side in the socket, which loses nothing. The
            // kernel reports it once.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            // A temporary lack of memory is not the end. The datagrams are still in the socket.
            Err(error) if retry.is_due_after(&error) => {}
            // A socket that cannot be read any more counts as end of file.
            Ok(_) | Err(_) => {
                if is_hung_up(half) {
                    peer_state(half).is_gone.store(true, Ordering::Relaxed);
                }
                return Drained { any, end_of_file: true };
            }
        }
    }
    Drained { any, end_of_file: false }
}

/// Returns true if both directions have ended: the peer has disconnected, and not only ended sending.
fn is_hung_up(half: &Half<Shared>) -> bool {
    poll_now(half.as_fd(), PollFlags::empty()).contains(PollFlags::HUP)
}
