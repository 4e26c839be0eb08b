//! The socket `control` of a name, at which another process asks for the name, or for the holder's counters or
//! messages: the holder's end, and the frames on it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, chmodat, fchmod, fstat, renameat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, acceptfrom_with, bind, connect, listen,
    recvmsg, sendmsg, socket_with,
};

use super::hand_over::{Heard, HolderState, HolderStep};
use crate::admission::Admission;
use crate::name::NameGuard;
use crate::name::directory::{self, FileId};
use crate::name::leftovers::{CONTROL, CONTROL_NEW};
use crate::options::ServerOptions;
use crate::poller::{ControlPoller, Interest};
use crate::shm::tap::Ring;
use crate::sys::credentials::peer_credentials;
use crate::sys::fork::ParentOnly;
use crate::sys::id_maps::{IdKind, is_known};
use crate::sys::retry::{Retry, retry};
use crate::sys::timer::Timer;
use crate::wait::{Deadline, pause};
use crate::wire::control::{BadFrame, FDS_MAX, FRAME_LEN_MAX, Frame, Refusal};

/// The flags of every socket: close-on-exec and non-blocking.
const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// The tokens of the listening socket, of the candidate, and of its timer.
const LISTENING: u32 = 0;
const CANDIDATE: u32 = 1;
const TIMER: u32 = 2;

/// The number of candidates that wait for their turn.
const BACKLOG: i32 = 16;

/// The time that a candidate has for its next frame before `grant`. It sends each at once, so one that is late is
/// stopped. Other candidates wait meanwhile, and clients do not.
const CANDIDATE_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause between two attempts to connect to a queue that is full.
const PAUSE: Duration = Duration::from_millis(5);

/// Returns a new socket for either end.
pub(super) fn new_socket() -> io::Result<OwnedFd> {
    Ok(retry(|| socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None))?)
}

/// Returns true if the peer of this socket runs as the user of this process.
pub(super) fn is_of_this_user(socket: impl AsFd) -> io::Result<bool> {
    let uid = peer_credentials(socket)?.uid;
    Ok(uid == rustix::process::geteuid().as_raw() && is_known(uid, IdKind::User))
}

/// Connects to the holder of a name. Returns `None` if there is none, and `Some(None)` if its queue was full until the
/// deadline.
pub(super) fn reach(directory: impl AsFd, path: &Path, deadline: Deadline) -> io::Result<Option<Option<ParentOnly>>> {
    let address = SocketAddrUnix::new(directory::socket_path(directory, path, CONTROL))?;
    let socket = ParentOnly::open(new_socket)?;
    let mut retry = Retry::default();
    loop {
        match connect(&socket, &address) {
            Ok(()) => return Ok(Some(Some(socket))),
            Err(Errno::AGAIN) if deadline.is_over() => return Ok(Some(None)),
            Err(Errno::AGAIN) => pause(PAUSE, deadline)?,
            Err(errno) if retry.is_due(errno) => {}
            Err(Errno::CONNREFUSED | Errno::NOENT | Errno::PROTOTYPE) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Sends a frame with descriptors, without blocking.
pub(super) fn send(socket: impl AsFd, frame: &Frame, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    // The buffer has space for as many descriptors as any frame has.
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    /// The socket is new and takes each frame without blocking. It may seem full for a moment.
    const TRIES: u32 = 16;
    let bytes = frame.encode();
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let mut tries = 0;
    let mut retry = Retry::default();
    loop {
        tries += 1;
        match sendmsg(&socket, &[IoSlice::new(&bytes)], &mut control, flags) {
            Err(Errno::AGAIN) if tries < TRIES => {}
            Err(errno) if retry.is_due(errno) => {}
            Err(errno) => return Err(errno.into()),
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

/// A datagram, the end, or nothing yet.
pub(super) enum Received {
    Frame(Result<Frame, BadFrame>),
    /// A frame came with more descriptors than this process could take. They were closed.
    Truncated,
    End,
    Nothing,
}

/// Receives a frame and the descriptors that come with it, without blocking.
pub(super) fn receive(socket: impl AsFd) -> io::Result<(Received, Vec<OwnedFd>)> {
    // One more byte detects a longer datagram.
    let mut bytes = [0; FRAME_LEN_MAX + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut retry = Retry::default();
    let received = loop {
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        match recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
            Ok(received) => break received,
            Err(Errno::AGAIN) => return Ok((Received::Nothing, Vec::new())),
            // The peer has closed the socket without reading everything. The kernel reports that once, and before the
            // datagrams that the peer had sent.
            Err(Errno::CONNRESET) => {}
            Err(errno) if retry.is_due(errno) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Ok((Received::Truncated, Vec::new()));
    }
    if received.bytes == 0 {
        return Ok((Received::End, Vec::new()));
    }
    Ok((Received::Frame(Frame::parse(&bytes[..received.bytes])), descriptors))
}

/// The processes of this user to which a server hands its name over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    Nobody,
    /// Those that ask for it ([`ServerOptions::take_over`]).
    Successors,
    /// Every server ([`ServerOptions::yields`]).
    EveryServer,
}

impl Offer {
    pub(super) fn of(options: &ServerOptions) -> Self {
        match (options.hand_over, options.yields) {
            (false, _) => Self::Nobody,
            (true, false) => Self::Successors,
            (true, true) => Self::EveryServer,
        }
    }
}

/// The holder's end of `control`.
pub(super) struct Control {
    socket: ParentOnly,
    /// The holder yields the name to every server.
    yields: bool,
    id: FileId,
    poller: ControlPoller,
    /// The access to `poller`, and the access of that to the server's poller.
    interest: Interest,
    server_interest: Interest,
    candidate: Option<Candidate>,
}

/// A process that asks for the name. One at a time; others wait in the queue of the socket.
struct Candidate {
    socket: ParentOnly,
    state: HolderState,
    /// Reports that the candidate is late.
    timer: Timer,
}

impl Control {
    /// Creates the socket in the directory of a name that this process holds, under its name, or under that of a new
    /// file.
    pub(super) fn bind(guard: &NameGuard, interest: Interest, is_new: bool, offer: Offer) -> io::Result<Self> {
        let file_name = if is_new { CONTROL_NEW } else { CONTROL };
        let made = Self::bind_at(guard, interest, file_name, offer == Offer::EveryServer);
        if made.is_err() {
            // The first error is the reason. A file that cannot be removed now is removed with the others.
            let _ = directory::remove(guard.directory(), file_name);
        }
        made
    }

    fn bind_at(guard: &NameGuard, interest: Interest, file_name: &str, yields: bool) -> io::Result<Self> {
        let socket = ParentOnly::open(new_socket)?;
        let mode = Mode::RUSR | Mode::WUSR;
        fchmod(&socket, mode)?;
        let path = directory::socket_path(guard.directory(), guard.path(), file_name);
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        // The umask may have removed bits.
        chmodat(guard.directory(), file_name, mode, AtFlags::empty())?;
        let id = FileId::at(guard.directory(), file_name)
            .ok_or_else(|| io::Error::other("another process removed the file immediately"))?;
        listen(&socket, BACKLOG)?;
        let poller = ControlPoller::new()?;
        let own_interest = poller.interest();
        own_interest.add_readable(&socket, LISTENING)?;
        interest.add_readable(&poller, 0)?;
        Ok(Self { socket, yields, id, poller, interest: own_interest, server_interest: interest, candidate: None })
    }

    /// Returns the descriptors of the hand-over.
    pub(super) fn poller(&self) -> &ControlPoller {
        &self.poller
    }

    /// Gives a new socket its name.
    pub(super) fn publish(&self, guard: &NameGuard) -> io::Result<()> {
        Ok(renameat(guard.directory(), CONTROL_NEW, guard.directory(), CONTROL)?)
    }

    /// Takes the next step that an event allows, and returns it, or `None` if there is no event. The caller takes those
    /// that concern the server.
    pub(super) fn advance(
        &mut self,
        guard: &NameGuard,
        shown: Option<&Admission>,
    ) -> Result<Option<HolderStep>, Errno> {
        Ok(match self.poller.next()? {
            None => None,
            Some(LISTENING) => {
                self.accept();
                Some(HolderStep::Wait)
            }
            Some(TIMER) => {
                tracing::debug!("a candidate was dismissed: it did not answer in time");
                self.dismiss();
                Some(HolderStep::Dismiss)
            }
            Some(_) => Some(self.hear_candidate(guard, shown)),
        })
    }

    fn hear_candidate(&mut self, guard: &NameGuard, shown: Option<&Admission>) -> HolderStep {
        let Some(candidate) = &mut self.candidate else { return HolderStep::Wait };
        let heard = match receive(&candidate.socket) {
            Ok((Received::Nothing, _)) => return HolderStep::Wait,
            Ok((Received::Frame(Ok(frame)), descriptors)) => {
                let is_offered = !matches!(&frame, Frame::Hello(wanted) if wanted.if_yielded && !self.yields);
                let has_proof = is_offered && descriptors.first().is_some_and(|proof| guard.lock().is_proved_by(proof));
                Heard::Frame(frame, has_proof)
            }
            Ok((Received::Frame(Err(bad)), _)) => Heard::Bad(bad),
            Ok((Received::Truncated, _)) => Heard::Bad(BadFrame::Malformed),
            Ok((Received::End, _)) => Heard::End,
            // A socket that cannot be read now is read again: it stays readable.
            Err(error) => {
                tracing::debug!(%error, "a candidate cannot be heard");
                return HolderStep::Wait;
            }
        };
        let step = candidate.state.hear(&heard);
        candidate.watch_time();
        match step {
            HolderStep::Welcome if send(&candidate.socket, &Frame::Welcome, &[]).is_ok() => HolderStep::Wait,
            HolderStep::Refuse(reason) => {
                self.refuse(reason);
                HolderStep::Wait
            }
            HolderStep::ShowCounters => {
                self.show_counters(shown);
                HolderStep::Wait
            }
            HolderStep::ShowTap => {
                self.show_tap(shown);
                HolderStep::Wait
            }
            HolderStep::Welcome | HolderStep::Dismiss => {
                self.dismiss();
                HolderStep::Wait
            }
            step => step,
        }
    }

    fn accept(&mut self) {
        let accept = || match retry(|| acceptfrom_with(&self.socket, FLAGS)) {
            Ok((socket, _)) => Ok(((), vec![socket])),
            Err(errno) => Err(errno.into()),
        };
        let Ok((_, mut accepted)) = ParentOnly::receive(accept) else { return };
        let Some(socket) = accepted.pop() else { return };
        if !matches!(is_of_this_user(&socket), Ok(true)) {
            // Errors mean that the candidate has gone.
            let _ = send(&socket, &Frame::Refused(Refusal::Denied), &[]);
            return;
        }
        if let Err(errno) = self.meet(socket) {
            tracing::debug!(%errno, "a candidate cannot be watched");
        }
    }

    fn meet(&mut self, socket: ParentOnly) -> Result<(), Errno> {
        let timer = Timer::new()?;
        self.interest.add_readable(&timer, TIMER)?;
        if let Err(errno) = self.interest.add_readable(&socket, CANDIDATE) {
            self.interest.remove(&timer);
            return Err(errno);
        }
        self.interest.remove(&self.socket);
        let candidate = self.candidate.insert(Candidate { socket, state: HolderState::Connected, timer });
        candidate.watch_time();
        Ok(())
    }

    /// Sends the name.
    pub(super) fn grant(&self, frame: &Frame, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        match &self.candidate {
            Some(candidate) => send(&candidate.socket, frame, descriptors),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn show_counters(&mut self, shown: Option<&Admission>) {
        match shown.and_then(|admission| admission.counters.as_ref()) {
            Some(counters) => self.show(&Frame::Counters, &[counters.fd().as_fd()]),
            None => self.refuse(Refusal::Failed),
        }
    }

    fn show_tap(&mut self, shown: Option<&Admission>) {
        let Some(Admission { counters: Some(counters), taps, .. }) = shown else { return self.refuse(Refusal::Failed) };
        let Some((requests, ring)) = taps.files() else { return self.refuse(Refusal::Failed) };
        let counters = counters.fd();
        let files = [Some(counters.as_fd()), Some(requests), ring.as_deref().map(Ring::fd)];
        self.show(&Frame::Tap, &files.into_iter().flatten().collect::<Vec<_>>());
    }

    /// Passes memory to a process that asked for it, and closes its socket.
    fn show(&mut self, frame: &Frame, files: &[BorrowedFd<'_>]) {
        if let Some(candidate) = &self.candidate {
            // An error means that the process has gone.
            let _ = send(&candidate.socket, frame, files);
        }
        self.dismiss();
    }

    /// Refuses the candidate and closes its socket.
    pub(super) fn refuse(&mut self, reason: Refusal) {
        if let Some(candidate) = &self.candidate {
            // An error means that the candidate has gone.
            let _ = send(&candidate.socket, &Frame::Refused(reason), &[]);
        }
        self.dismiss();
    }

    /// Closes the socket of the candidate, and listens for the next one.
    pub(super) fn dismiss(&mut self) {
        let Some(candidate) = self.candidate.take() else { return };
        self.interest.remove(&candidate.socket);
        self.interest.remove(&candidate.timer);
        drop(candidate);
        if let Err(errno) = self.interest.add_readable(&self.socket, LISTENING) {
            tracing::warn!(%errno, "the name cannot be handed over any more");
        }
    }

    /// Removes the file if the name is owned and the file is still the one of this socket. Does not allocate memory.
    pub(super) fn remove_file(&self, guard: &NameGuard) -> io::Result<()> {
        match guard.is_owned() && self.id.is_at(guard.directory(), CONTROL) == Ok(true) {
            true => directory::remove(guard.directory(), CONTROL),
            false => Ok(()),
        }
    }

    /// Replaces the descriptors by duplicates of `instead`. For a signal handler.
    pub(super) fn close_in_place(&mut self, instead: BorrowedFd<'_>) -> io::Result<()> {
        let closed = self.socket.close_in_place(instead);
        match &mut self.candidate {
            Some(candidate) => closed.and(candidate.socket.close_in_place(instead)),
            None => closed,
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.server_interest.remove(&self.poller);
        self.interest.remove(&self.socket);
        if let Some(candidate) = &self.candidate {
            self.interest.remove(&candidate.socket);
            self.interest.remove(&candidate.timer);
        }
    }
}

impl Candidate {
    /// Gives the candidate time for its next frame, if it may be late.
    fn watch_time(&self) {
        let late_at = self.state.can_be_late().then(|| Instant::now() + CANDIDATE_TIMEOUT);
        if let Err(errno) = self.timer.set(late_at) {
            tracing::debug!(%errno, "the time of a candidate is not watched");
        }
    }
}

/// Returns true if a descriptor that the holder passed is the one that its kind says.
pub(super) fn is_listener(descriptor: impl AsFd, transport: crate::transport::Transport) -> bool {
    match transport.socket_type() {
        Some(expected) => {
            rustix::net::sockopt::socket_type(&descriptor) == Ok(expected)
                && rustix::net::sockopt::socket_acceptconn(&descriptor) == Ok(true)
        }
        None => fstat(&descriptor)
            .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo),
    }
}
