//! The server's side of the handshake: a table of clients that have written a request, each with a deadline.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, fstat, open, openat, renameat, statat};
use rustix::io::{DupFlags, Errno, dup3, ioctl_fionbio};

use super::{FILE, Incoming, Outgoing, READ, WRITE, check_fifo, establish, has_no_reader, make_fifo, remove_pair};
use crate::admission::{Admission, Permit, RefusalReason, Rejection};
use crate::backend::attempt::Established;
use crate::backend::config::{ListenConfig, MessageMax};
use crate::backend::fd_reserve::{Reserve, out_of_descriptors};
use crate::backend::handshakes::{self, Handshakes};
use crate::backend::origin_file;
use crate::error::{Error, Operation, Result};
use crate::name::NameGuard;
use crate::name::directory::FileId;
use crate::peer::{Peer, Provenance};
use crate::poller::Interest;
use crate::sys::fork::ParentOnly;
use crate::sys::no_sigpipe;
use crate::sys::retry::retry_io;
use crate::transport::Transport;
use crate::wire::client_file::{ClientFile, ClientId};
use crate::wire::hello::{self, ACK_LEN, Answer, Reason};
use crate::wire::request::{self, RequestReader, Rest};

/// The name of the FIFO until clients may find it.
const FIFO_NEW: &str = Transport::Fifo.new_file_name();

/// The listener of `fifo`: the reader of the well-known FIFO.
pub(crate) struct Listener {
    requests: WellKnown,
    id: FileId,
    reader: RequestReader,
    /// True once no request is read any more.
    has_left: bool,
    handshakes: Handshakes<Handshake>,
    interest: Interest,
    admission: Arc<Admission>,
    message_max: MessageMax,
    reserve: Reserve,
}

/// The server's descriptors of its FIFO: both ends, so that it never sees end of file when the last client closes it.
///
/// Implementation notes: one descriptor opened `O_RDWR`, which Linux defines for FIFOs and POSIX does not. With
/// `--cfg parlour_fifo_two_step`, and elsewhere, two descriptors: first for reading without blocking, which always
/// succeeds, then for writing, which succeeds because there is a reader now.
struct WellKnown {
    reader: ParentOnly,
    #[cfg(any(parlour_fifo_two_step, not(target_os = "linux")))]
    _writer: ParentOnly,
}

impl WellKnown {
    #[cfg(not(any(parlour_fifo_two_step, not(target_os = "linux"))))]
    fn open(directory: &OwnedFd, file_name: &str) -> io::Result<Self> {
        let flags = OFlags::RDWR | super::COMMON;
        Ok(Self { reader: ParentOnly::open(|| Ok(openat(directory, file_name, flags, Mode::empty())?))? })
    }

    #[cfg(any(parlour_fifo_two_step, not(target_os = "linux")))]
    fn open(directory: &OwnedFd, file_name: &str) -> io::Result<Self> {
        let open = |flags| ParentOnly::open(|| Ok(openat(directory, file_name, flags, Mode::empty())?));
        Ok(Self { reader: open(READ)?, _writer: open(WRITE)? })
    }
}

impl WellKnown {
    /// Continues with a reader that another process has passed.
    #[cfg(not(any(parlour_fifo_two_step, not(target_os = "linux"))))]
    fn inherit(reader: ParentOnly, _directory: &OwnedFd) -> io::Result<Self> {
        Ok(Self { reader })
    }

    #[cfg(any(parlour_fifo_two_step, not(target_os = "linux")))]
    fn inherit(reader: ParentOnly, directory: &OwnedFd) -> io::Result<Self> {
        let writer = ParentOnly::open(|| Ok(openat(directory, FILE, WRITE, Mode::empty())?))?;
        Ok(Self { reader, _writer: writer })
    }

    fn close_in_place(&mut self, instead: BorrowedFd<'_>) -> io::Result<()> {
        #[cfg(any(parlour_fifo_two_step, not(target_os = "linux")))]
        self._writer.close_in_place(instead)?;
        self.reader.close_in_place(instead)
    }
}

/// The handshake of a client that has written a request and not acknowledged the answer yet.
struct Handshake {
    id: ClientId,
    to_client: OwnedFd,
    from_client: OwnedFd,
    peer: Peer,
    permit: Permit,
    acknowledged: Vec<u8>,
}

impl Listener {
    pub(in crate::backend) fn bind(guard: &NameGuard, config: &ListenConfig, interest: Interest) -> Result<Self> {
        let mut listener = Self::prepare(None, guard, config, interest)?;
        listener.take_up(false, guard)?;
        Ok(listener)
    }

    /// Prepares to serve: makes a new FIFO that is open before it gets its name, or continues with an inherited one and
    /// the request that its server has read in part. Clients find the FIFO after [`take_up`](Self::take_up).
    ///
    /// A server that takes a dead name makes a new FIFO: requests in an old one are not for it.
    pub(in crate::backend) fn prepare(
        inherited: Option<(ParentOnly, Rest)>,
        guard: &NameGuard,
        config: &ListenConfig,
        interest: Interest,
    ) -> Result<Self> {
        let failed = |error: io::Error| Error::io(Operation::Listen, guard.display_path(FILE), error);
        let directory = guard.directory();
        let (requests, rest) = match inherited {
            Some((reader, rest)) => (WellKnown::inherit(reader, directory).map_err(failed)?, rest),
            None => {
                make_fifo(directory, FIFO_NEW).map_err(|errno| failed(errno.into()))?;
                (WellKnown::open(directory, FIFO_NEW).map_err(failed)?, Rest::default())
            }
        };
        let stat = fstat(&requests.reader).map_err(|errno| failed(errno.into()))?;
        Ok(Self {
            requests,
            id: FileId::of(&stat),
            reader: RequestReader::after(rest),
            has_left: false,
            handshakes: Handshakes::new(config),
            interest,
            admission: Arc::clone(&config.admission),
            message_max: config.message_max,
            reserve: Reserve::new().map_err(|errno| failed(errno.into()))?,
        })
    }

    /// Reads requests from here on, in a FIFO that clients find.
    pub(in crate::backend) fn take_up(&mut self, is_inherited: bool, guard: &NameGuard) -> Result<()> {
        let failed = |errno: Errno| Error::io(Operation::Listen, guard.display_path(FILE), errno);
        if !is_inherited {
            renameat(guard.directory(), FIFO_NEW, guard.directory(), FILE).map_err(failed)?;
        }
        ioctl_fionbio(&self.requests.reader, true).map_err(failed)?;
        self.interest.add_readable(&self.requests.reader, handshakes::LISTENER).map_err(failed)
    }

    pub(in crate::backend) fn as_fd(&self) -> BorrowedFd<'_> {
        self.requests.reader.as_fd()
    }

    /// Returns the part of a request that was read without its end.
    pub(in crate::backend) fn rest(&self) -> Rest {
        self.reader.rest()
    }

    /// Lets requests wait in the FIFO.
    pub(in crate::backend) fn pause(&self) {
        self.interest.remove(&self.requests.reader);
    }

    /// Reads requests again.
    pub(in crate::backend) fn resume(&self, guard: &NameGuard) -> Result<()> {
        let added = self.interest.add_readable(&self.requests.reader, handshakes::LISTENER);
        added.map_err(|errno| Error::io(Operation::Accept, guard.display_path(FILE), errno))
    }

    /// Leaves the FIFO to the process that has taken it over: replaces the descriptor by a duplicate of `instead`.
    pub(in crate::backend) fn leave(&mut self, instead: BorrowedFd<'_>) -> io::Result<()> {
        self.has_left = true;
        self.interest.remove(&self.requests.reader);
        self.requests.close_in_place(instead)
    }

    /// Returns true if no request is read any more.
    pub(in crate::backend) fn has_left(&self) -> bool {
        self.has_left
    }

    pub(in crate::backend) fn advance(
        &mut self,
        token: u32,
        guard: &NameGuard,
    ) -> Result<Option<Established<Outgoing, Incoming>>> {
        if token == handshakes::LISTENER {
            self.read_requests(guard)?;
            return Ok(None);
        }
        Ok(self.advance_handshake(token, guard))
    }

    fn read_requests(&mut self, guard: &NameGuard) -> Result<()> {
        let mut buffer = [0; 4096];
        let count = match rustix::io::read(&self.requests.reader, &mut buffer) {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(errno) => return Err(Error::io(Operation::Accept, guard.display_path(FILE), errno)),
        };
        let mut requests = Vec::new();
        self.reader.push(&buffer[..count], |request| requests.push(request));
        for request in requests {
            match request {
                Ok(id) => self.begin(id, guard),
                Err(request::BadRequest) => {
                    self.admission.refuse(Transport::Fifo, None, RefusalReason::Handshake, "malformed request line");
                }
            }
        }
        Ok(())
    }

    /// Opens the pair of a client that has written a request, and answers.
    fn begin(&mut self, id: ClientId, guard: &NameGuard) {
        if self.knows(&id) {
            return;
        }
        // The FIFO to the client is opened first. This order cannot deadlock, and fails immediately if the client has
        // closed its read end.
        let to_client = match open_client_fifo(guard, &id, ClientFile::ServerToClient, WRITE) {
            Ok(fifo) => fifo,
            Err(unusable @ Unusable::OutOfDescriptors(_)) => return self.refuse_for_exhaustion(&id, guard, &unusable),
            Err(unusable @ Unusable::Io(_)) => return self.tell_of_failure(&id, guard, &unusable),
            Err(unusable) => return self.give_up(&id, None, unusable.reason(), &unusable.to_string(), guard),
        };
        let from_client = match open_client_fifo(guard, &id, ClientFile::ClientToServer, READ) {
            Ok(fifo) => fifo,
            Err(unusable) => {
                self.give_up(&id, None, unusable.reason(), &unusable.to_string(), guard);
                let reason = match unusable {
                    Unusable::OutOfDescriptors(_) => Reason::Busy,
                    Unusable::Io(_) => Reason::Failed,
                    // The client has disconnected, or is not a parlour client. End of file is answer enough.
                    Unusable::Gone | Unusable::Wrong(_) => return,
                };
                // An error means that the client has disconnected.
                let _ = answer(&to_client, Answer::Refused(reason), &id);
                return;
            }
        };
        let peer = Peer::from_file(rustix::process::geteuid().as_raw(), Some(id.pid), Provenance::Claim);
        let origin = id.nonce.has_origin().then(|| origin_file::take(guard, &id)).transpose();
        let peer = match origin {
            Ok(origin) => peer.with_origin(origin.map(Box::new)),
            // A client that shows an invalid origin must not pass for one of this host.
            Err(bad) => {
                self.give_up(&id, Some(peer), bad.reason(), &bad.to_string(), guard);
                // An error means that the client has disconnected.
                let _ = answer(&to_client, Answer::Refused(Reason::of(bad.reason())), &id);
                return;
            }
        };
        let admitted = match self.handshakes.vacant() {
            Ok(vacant) => self.admission.admit(&peer).map(|permit| (vacant, permit)),
            Err(detail) => Err(Rejection::Full(detail)),
        };
        let (vacant, permit) = match admitted {
            Ok(admitted) => admitted,
            Err(rejection) => {
                let reason = rejection.reason();
                // Every refusal is counted before the client can see it.
                self.give_up(&id, Some(peer), reason, &rejection.to_string(), guard);
                // An error means that the client has disconnected.
                let _ = answer(&to_client, Answer::Refused(Reason::of(reason)), &id);
                return;
            }
        };
        let token = vacant.token();
        let watched = self
            .interest
            .add_readable(&from_client, token)
            .and_then(|()| self.interest.add_hang_up(&to_client, token))
            .map_err(io::Error::from)
            .and_then(|()| answer(&to_client, Answer::Hello, &id));
        let acknowledged = Vec::with_capacity(ACK_LEN);
        let handshake = Handshake { id, to_client, from_client, peer, permit, acknowledged };
        match watched {
            Ok(()) => {
                tracing::debug!(transport = %Transport::Fifo, peer = %handshake.peer, "handshake begun");
                self.handshakes.insert(&vacant, handshake);
            }
            Err(error) => {
                self.fail(handshake, RefusalReason::System, &format!("the client cannot be answered: {error}"), guard);
            }
        }
    }

    fn advance_handshake(&mut self, token: u32, guard: &NameGuard) -> Option<Established<Outgoing, Incoming>> {
        let verdict = self.handshakes.get_mut(token)?.read_acknowledgement();
        if matches!(verdict, Acknowledged::NotYet) {
            return None;
        }
        let handshake = self.handshakes.remove(token)?;
        match verdict {
            Acknowledged::Yes => Some(self.complete(handshake, guard)),
            Acknowledged::No(detail) => {
                self.fail(handshake, RefusalReason::Handshake, detail, guard);
                None
            }
            Acknowledged::NotYet => None,
        }
    }

    fn complete(&mut self, handshake: Handshake, guard: &NameGuard) -> Established<Outgoing, Incoming> {
        self.forget(&handshake);
        // The client has removed the pair by now, unless it died in the meantime.
        remove_pair(guard.clients(), &handshake.id);
        let Handshake { id, to_client, from_client, peer, permit, .. } = handshake;
        let provenance = match is_held_by(id.pid, &from_client) {
            true => Provenance::Verified,
            false => Provenance::Claim,
        };
        let origin = peer.into_origin();
        let peer = Peer::from_file(rustix::process::geteuid().as_raw(), Some(id.pid), provenance).with_origin(origin);
        tracing::debug!(transport = %Transport::Fifo, %peer, "client connected");
        establish(from_client, to_client, peer, Some(permit), self.message_max)
    }

    fn fail(&mut self, handshake: Handshake, reason: RefusalReason, detail: &str, guard: &NameGuard) {
        self.forget(&handshake);
        self.give_up(&handshake.id, Some(handshake.peer), reason, detail, guard);
    }

    fn forget(&self, handshake: &Handshake) {
        self.interest.remove(&handshake.from_client);
        self.interest.remove(&handshake.to_client);
    }

    fn give_up(&self, id: &ClientId, peer: Option<Peer>, reason: RefusalReason, detail: &str, guard: &NameGuard) {
        remove_pair(guard.clients(), id);
        self.admission.refuse(Transport::Fifo, peer, reason, format!("pid {}: {detail}", id.pid));
    }

    /// Refuses a client because the descriptor table is full. Uses the reserve to answer it.
    fn refuse_for_exhaustion(&mut self, id: &ClientId, guard: &NameGuard, unusable: &Unusable) {
        self.admission.refuse(Transport::Fifo, None, unusable.reason(), format!("pid {}: {unusable}", id.pid));
        // A rest is not needed, because the request was taken out of the FIFO.
        self.reserve.spend(Instant::now(), || {
            if let Ok(fifo) = open_client_fifo(guard, id, ClientFile::ServerToClient, WRITE) {
                // An error means that the client has disconnected.
                let _ = answer(&fifo, Answer::Refused(Reason::Busy), id);
            }
        });
        remove_pair(guard.clients(), id);
    }

    /// Refuses a client whose FIFO could not be opened. The error may have been temporary, so this opens the FIFO once
    /// more to answer the client.
    fn tell_of_failure(&self, id: &ClientId, guard: &NameGuard, unusable: &Unusable) {
        let again = open_client_fifo(guard, id, ClientFile::ServerToClient, WRITE);
        self.give_up(id, None, unusable.reason(), &unusable.to_string(), guard);
        if let Ok(fifo) = again {
            // An error means that the client has disconnected.
            let _ = answer(&fifo, Answer::Refused(Reason::Failed), id);
        }
    }

    /// Returns true if a handshake with this client is in progress.
    pub(in crate::backend) fn knows(&self, id: &ClientId) -> bool {
        self.handshakes.iter().any(|handshake| handshake.id.nonce == id.nonce)
    }

    /// Returns the earliest deadline of a handshake, or the end of the rest.
    pub(in crate::backend) fn deadline(&self) -> Option<Instant> {
        self.handshakes.deadline().into_iter().chain(self.reserve.rest_until()).min()
    }

    /// Ends the handshakes that are late.
    pub(in crate::backend) fn expire(&mut self, guard: &NameGuard, now: Instant) {
        self.reserve.wake(now);
        for handshake in self.handshakes.take_late(now) {
            self.fail(handshake, RefusalReason::TimedOut, "the client did not acknowledge in time", guard);
        }
    }

    /// Reads no further request. The clients of unread requests find that the server has gone when it closes the FIFO.
    /// A client that was answered is connected as soon as it has written its acknowledgement, so those handshakes go
    /// on.
    pub(in crate::backend) fn withdraw(&mut self) {
        self.has_left = true;
        self.interest.remove(&self.requests.reader);
    }

    /// Returns true if no handshake is in progress.
    pub(in crate::backend) fn is_drained(&self) -> bool {
        self.handshakes.iter().next().is_none()
    }

    /// Stops reading requests, and ends the handshakes in progress: replaces their descriptors by duplicates of
    /// `instead`.
    pub(in crate::backend) fn close_in_place(&mut self, instead: BorrowedFd<'_>) -> io::Result<()> {
        let mut closed = self.requests.close_in_place(instead);
        for handshake in self.handshakes.iter_mut() {
            for fd in [&mut handshake.from_client, &mut handshake.to_client] {
                closed = closed.and(dup3(instead, fd, DupFlags::CLOEXEC).map_err(io::Error::from));
            }
        }
        closed
    }

    pub(in crate::backend) fn is_still_there(&self, guard: &NameGuard) -> std::result::Result<bool, Errno> {
        self.id.is_at(guard.directory(), FILE)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.interest.remove(&self.requests.reader);
        for handshake in self.handshakes.iter() {
            self.forget(handshake);
        }
    }
}

impl AsFd for Handshake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.from_client.as_fd()
    }
}

/// The outcome of reading an acknowledgement.
enum Acknowledged {
    Yes,
    NotYet,
    No(&'static str),
}

impl Handshake {
    /// Reads exactly the acknowledgement, so that a message that follows it stays in the FIFO.
    fn read_acknowledgement(&mut self) -> Acknowledged {
        let mut buffer = [0; ACK_LEN];
        let wanted = ACK_LEN - self.acknowledged.len();
        match rustix::io::read(&self.from_client, &mut buffer[..wanted]) {
            Ok(0) => return Acknowledged::No("the client disconnected during the handshake"),
            Ok(count) => self.acknowledged.extend_from_slice(&buffer[..count]),
            Err(Errno::AGAIN | Errno::INTR) => {
                return match has_no_reader(self.to_client.as_fd()) {
                    true => Acknowledged::No("the client disconnected during the handshake"),
                    false => Acknowledged::NotYet,
                };
            }
            Err(_) => return Acknowledged::No("the acknowledgement of the client cannot be read"),
        }
        if self.acknowledged.len() < ACK_LEN {
            Acknowledged::NotYet
        } else if self.acknowledged == hello::encode_ack(&self.id.nonce) {
            Acknowledged::Yes
        } else {
            Acknowledged::No("the acknowledgement of the client does not belong to its request")
        }
    }
}

/// Writes a line into an empty FIFO, which takes the whole line without blocking.
fn answer(to_client: &OwnedFd, answer: Answer, id: &ClientId) -> io::Result<()> {
    let line = hello::encode_answer(answer, &id.nonce);
    let written = retry_io(|| no_sigpipe::write_vectored(to_client, &[IoSlice::new(&line)]))?;
    if written == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// The reason why a FIFO of a client cannot be used.
#[derive(Debug)]
enum Unusable {
    /// The FIFO has no reader or does not exist.
    Gone,
    /// The descriptor table is full.
    OutOfDescriptors(Errno),
    /// The file is not one that a parlour client creates.
    Wrong(String),
    /// Another system call failed.
    Io(Errno),
}

impl Unusable {
    fn reason(&self) -> RefusalReason {
        match self {
            Self::Gone => RefusalReason::Handshake,
            Self::OutOfDescriptors(_) => RefusalReason::Descriptors,
            Self::Wrong(_) => RefusalReason::ClientFile,
            Self::Io(_) => RefusalReason::System,
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the client has disconnected"),
            Self::OutOfDescriptors(errno) => f.write_str(&out_of_descriptors(*errno)),
            Self::Io(errno) => write!(f, "the FIFO of the client cannot be opened: {errno}"),
            Self::Wrong(why) => write!(f, "the FIFO of the client is invalid: {why}"),
        }
    }
}

fn open_client_fifo(guard: &NameGuard, id: &ClientId, file: ClientFile, flags: OFlags) -> Result<OwnedFd, Unusable> {
    let opened = openat(guard.clients(), id.file_name(file), flags, Mode::empty());
    let fifo = opened.map_err(|errno| match errno {
        Errno::NXIO | Errno::NOENT => Unusable::Gone,
        Errno::LOOP => Unusable::Wrong("it is a symbolic link".to_owned()),
        errno if Reserve::is_for(errno) => Unusable::OutOfDescriptors(errno),
        errno => Unusable::Io(errno),
    })?;
    let stat = fstat(&fifo).map_err(Unusable::Io)?;
    check_fifo(&stat, 1).map_err(Unusable::Wrong)?;
    Ok(fifo)
}

/// Returns true if the client of these files is dead: the FIFO that a client opens before it writes its request has no
/// reader.
pub(crate) fn is_gone(clients: &OwnedFd, id: &ClientId) -> bool {
    let opened = openat(clients, id.file_name(ClientFile::ServerToClient), WRITE, Mode::empty());
    matches!(opened, Err(Errno::NXIO | Errno::NOENT))
}

/// Returns true if the process `pid` has this FIFO open. This is evidence for people only, because another process may
/// have passed the descriptor to it. A server that does not see the process in its `/proc` returns false.
fn is_held_by(pid: u32, fifo: &OwnedFd) -> bool {
    /// The maximum number of descriptors that are searched. A process with more stays unverified, to bound the time.
    const SEARCHED_MAX: usize = 256;
    let Ok(stat) = fstat(fifo) else { return false };
    // The open directory refers to one process, also if its number is used for another one later.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(descriptors) = open(format!("/proc/{pid}/fd"), flags, Mode::empty()) else { return false };
    let Ok(entries) = Dir::read_from(&descriptors) else { return false };
    // If the client claims to be this process, this process's own end of the FIFO proves nothing.
    let own = (pid == std::process::id()).then(|| fifo.as_raw_fd().to_string());
    entries.take(SEARCHED_MAX).flatten().any(|entry| {
        own.as_ref().is_none_or(|own| entry.file_name().to_bytes() != own.as_bytes())
            && statat(&descriptors, entry.file_name(), AtFlags::empty())
                .is_ok_and(|other| FileId::of(&other) == FileId::of(&stat))
    })
}
