//! Listening and connecting over UNIX sockets, unix(7): what every transport that begins on a socket has in common.
//! docs/wire.md describes the handshake.
//!
//! Authority is what the kernel says about the other side (`SO_PEERCRED`), for the server and for the client.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, chmodat, chownat, fchmod, fstat, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, acceptfrom_with, bind, connect as connect_socket, listen,
    socket_with,
};

use super::attempt::Attempt;
use super::client_file::{self, OwnFile};
use super::config::{ClientFilePolicy, ConnectConfig, ListenConfig, MessageMax};
use super::fd_reserve::{Reserve, out_of_descriptors};
use crate::admission::{Admission, Permit, RefusalReason};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::name::directory::{self, FileId};
use crate::name::lock::{self, Holder};
use crate::name::{Found, NameGuard};
use crate::peer::Peer;
use crate::poller::Interest;
use crate::sys::credentials::peer_credentials;
use crate::sys::fork::ParentOnly;
use crate::sys::listen_fds::Passed;
use crate::sys::pass_rights::{refuse_descriptors, take_descriptors};
use crate::transport::Transport;
use crate::wire::client_file::ClientFile;
use crate::wire::hello::Reason;

/// What differs between the transports that begin on a socket.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) transport: Transport,
    pub(super) socket_type: SocketType,
}

/// Makes an established connection of a connected socket whose peer was accepted.
pub(super) type Establish<T> = fn(OwnedFd, Peer, Option<Permit>, MessageMax) -> T;

impl Kind {
    fn file_name(&self) -> &'static str {
        self.transport.file_name()
    }

    /// Where a server's socket is, for messages.
    pub(super) fn path(&self, found: &Found) -> String {
        found.path.join(self.file_name()).display().to_string()
    }

    fn new_socket(&self) -> io::Result<OwnedFd> {
        Ok(socket_with(AddressFamily::UNIX, self.socket_type, FLAGS, None)?)
    }

    /// Before anybody can send some. Where the kernel cannot refuse them, the first ones end their connection.
    fn refuse_fds(&self, socket: impl AsFd, max: MessageMax) -> io::Result<()> {
        // The handshake of `shm` needs some.
        if max.fds() == 0 && self.transport != Transport::Shm {
            refuse_descriptors(socket)?;
        }
        Ok(())
    }
}

/// Every socket here is like this: close-on-exec, and never blocking.
const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

pub(crate) struct Listener {
    kind: Kind,
    socket: ParentOnly,
    id: FileId,
    interest: Interest,
    admission: Arc<Admission>,
    client_file: ClientFilePolicy,
    message_max: MessageMax,
    reserve: Reserve,
    /// When nobody was waiting to be accepted, if that is known. Who is accepted now has come since.
    queue_empty_at: Option<Instant>,
    /// Somebody else made the socket, and keeps it when we close.
    is_adopted: bool,
}

impl Listener {
    pub(super) fn bind(kind: Kind, guard: &NameGuard, config: &ListenConfig, interest: Interest) -> Result<Self> {
        let failed = |error: io::Error| Error::io(Operation::Listen, guard.display_path(kind.file_name()), error);
        let socket = ParentOnly::open(|| kind.new_socket()).map_err(failed)?;
        bind_with_mode(kind, &socket, guard, config).map_err(failed)?;
        Self::start(kind, socket, guard, config, interest, false)
    }

    /// Goes on with a listening socket that somebody else made. Who waits there already is served, however long that has
    /// been.
    pub(super) fn adopt(
        kind: Kind,
        passed: Passed,
        guard: &NameGuard,
        config: &ListenConfig,
        interest: Interest,
    ) -> Result<Self> {
        let failed = |error: io::Error| Error::io(Operation::Activate, guard.display_path(kind.file_name()), error);
        // A duplicate: what was handed over stays as it is until everything has worked.
        let duplicate = || Ok(rustix::io::fcntl_dupfd_cloexec(&passed, 0)?);
        let socket = ParentOnly::open(duplicate).map_err(failed)?;
        rustix::io::ioctl_fionbio(&socket, true).map_err(|errno| failed(errno.into()))?;
        if config.message_max.fds() > 0 {
            // An earlier server may have refused them, and the socket is the same.
            take_descriptors(&socket).map_err(failed)?;
        }
        let listener = Self::start(kind, socket, guard, config, interest, true)?;
        passed.close();
        Ok(listener)
    }

    fn start(
        kind: Kind,
        socket: ParentOnly,
        guard: &NameGuard,
        config: &ListenConfig,
        interest: Interest,
        is_adopted: bool,
    ) -> Result<Self> {
        let failed = |error: io::Error| Error::io(Operation::Listen, guard.display_path(kind.file_name()), error);
        kind.refuse_fds(&socket, config.message_max).map_err(failed)?;
        let id = FileId::at(guard.directory(), kind.file_name())
            .ok_or_else(|| failed(io::Error::other("the file was removed at once")))?;
        // On a socket that listens already this has the kernel name us to clients from now on, and not whoever made it.
        listen(&socket, i32::try_from(config.backlog).unwrap_or(i32::MAX)).map_err(|errno| failed(errno.into()))?;
        interest.add_readable(&socket, 0).map_err(|errno| failed(errno.into()))?;
        Ok(Self {
            kind,
            socket,
            id,
            interest,
            admission: Arc::clone(&config.admission),
            client_file: config.client_file,
            message_max: config.message_max,
            reserve: Reserve::new().map_err(|errno| failed(errno.into()))?,
            queue_empty_at: if is_adopted { None } else { Some(Instant::now()) },
            is_adopted,
        })
    }

    pub(super) fn transport(&self) -> Transport {
        self.kind.transport
    }

    /// Accepts a client on a transport without a further handshake. A refusal is the end of the socket: there is nothing
    /// on the wire to say more with.
    pub(super) fn advance<T>(&mut self, guard: &NameGuard, establish: Establish<T>) -> Result<Option<T>> {
        let Some(Accepted { socket, peer, permit }) = self.accept(guard, |_, _| ())? else { return Ok(None) };
        tracing::debug!(transport = %self.transport(), %peer, "client connected");
        Ok(Some(establish(socket, peer, Some(permit), self.message_max)))
    }

    /// Takes a client out of the queue, if one is there and may come in. `tell` is called for one that may not.
    pub(super) fn accept(
        &mut self,
        guard: &NameGuard,
        tell: impl FnOnce(BorrowedFd<'_>, Reason),
    ) -> Result<Option<Accepted>> {
        let (socket, address) = match acceptfrom_with(&self.socket, FLAGS) {
            Ok(accepted) => accepted,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => return Ok(None),
            Err(errno) if Reserve::is_for(errno) => {
                self.turn_one_away(errno);
                return Ok(None);
            }
            Err(errno) => return Err(Error::io(Operation::Accept, guard.display_path(self.kind.file_name()), errno)),
        };
        let address = address.and_then(|address| SocketAddrUnix::try_from(address).ok());
        let bound_to = address.as_ref().and_then(SocketAddrUnix::path_bytes);
        match self.admit(socket.as_fd(), bound_to, guard) {
            Ok((peer, permit)) => Ok(Some(Accepted { socket, peer, permit })),
            Err(refused) => {
                tell(socket.as_fd(), Reason::of(refused.reason));
                self.admission.refuse(self.transport(), refused.peer, refused.reason, refused.detail);
                Ok(None)
            }
        }
    }

    /// Who has come, if they may come in.
    fn admit(
        &self,
        socket: BorrowedFd<'_>,
        bound_to: Option<&[u8]>,
        guard: &NameGuard,
    ) -> Result<(Peer, Permit), Refused> {
        let credentials = peer_credentials(socket).map_err(|error| {
            let detail = format!("the kernel does not say who it is: {error}");
            Refused { peer: None, reason: RefusalReason::System, detail }
        })?;
        let peer = Peer::from_kernel(credentials);
        let judged = client_file::judge(self.client_file, bound_to, &peer, socket, guard, self.waited_max());
        let admitted = judged.map_err(|bad| (bad.reason(), bad.to_string())).and_then(|()| {
            self.admission.admit(&peer).map_err(|rejection| (rejection.reason(), rejection.to_string()))
        });
        match admitted {
            Ok(permit) => Ok((peer, permit)),
            Err((reason, detail)) => Err(Refused { peer: Some(peer), reason, detail }),
        }
    }

    /// The table of descriptors is full: takes one client out of the queue and ends its connection.
    fn turn_one_away(&mut self, errno: Errno) {
        let Self { socket, admission, kind, .. } = self;
        let go_on = self.reserve.spend(Instant::now(), || {
            if let Ok(_client) = acceptfrom_with(&*socket, FLAGS) {
                // Counted before the client can see its end, as every refusal is.
                admission.refuse(kind.transport, None, RefusalReason::Descriptors, out_of_descriptors(errno));
            }
        });
        if !go_on {
            self.interest.remove(&self.socket);
        }
    }

    /// A server that serves one client after the other lets the next one wait, and its file grow old, through no fault of
    /// the client's.
    fn waited_max(&self) -> Duration {
        self.queue_empty_at.map_or(Duration::MAX, |at| at.elapsed())
    }

    pub(super) fn note_queue_drained(&mut self, now: Instant) {
        self.queue_empty_at = Some(now);
    }

    pub(super) fn is_adopted(&self) -> bool {
        self.is_adopted
    }

    /// Whether a file of this age can be that of a client that is still waiting.
    pub(super) fn may_wait(&self, file: ClientFile, age: Duration) -> bool {
        file == ClientFile::Socket && age <= client_file::AGE_MAX.saturating_add(self.waited_max())
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.reserve.rest_until()
    }

    pub(super) fn expire(&mut self, now: Instant) -> Result<()> {
        if self.reserve.wake(now) {
            self.interest.add_readable(&self.socket, 0).map_err(|errno| {
                // Whoever accepts is told, and who comes meanwhile is not forgotten.
                self.reserve.rest(now);
                Error::io(Operation::Listen, self.kind.file_name(), errno)
            })?;
        }
        Ok(())
    }

    /// Listens no more.
    pub(super) fn close_in_place(&mut self, instead: BorrowedFd<'_>) -> io::Result<()> {
        self.socket.close_in_place(instead)
    }

    pub(super) fn is_still_there(&self, guard: &NameGuard) -> std::result::Result<bool, Errno> {
        self.id.is_at(guard.directory(), self.kind.file_name())
    }
}

/// A client that was let in.
pub(super) struct Accepted {
    pub(super) socket: OwnedFd,
    pub(super) peer: Peer,
    pub(super) permit: Permit,
}

/// A client that is refused.
struct Refused {
    peer: Option<Peer>,
    reason: RefusalReason,
    detail: String,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.interest.remove(&self.socket);
    }
}

/// Binds straight to the final name, never with more rights than asked for.
fn bind_with_mode(kind: Kind, socket: &ParentOnly, guard: &NameGuard, config: &ListenConfig) -> io::Result<()> {
    let mode = Mode::from_raw_mode(config.mode);
    // The file inherits the socket's mode; after `bind` this call would change the socket alone.
    fchmod(socket, mode & Mode::RWXU)?;
    let path = directory::socket_path(guard.directory(), guard.path(), kind.file_name());
    bind(socket, &SocketAddrUnix::new(path)?)?;
    // Nobody can connect before `listen`. The group comes first, so that no other group ever has the rights.
    if let Some(group) = config.group {
        chownat(guard.directory(), kind.file_name(), None, Some(Gid::from_raw(group)), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    // The umask may have taken bits away.
    Ok(chmodat(guard.directory(), kind.file_name(), mode, AtFlags::empty())?)
}

/// A socket that is connected to a server whom we want.
pub(super) struct Connected {
    pub(super) socket: OwnedFd,
    pub(super) peer: Peer,
    /// Ours to remove until the server has seen it, or will.
    pub(super) own_file: Option<OwnFile>,
}

impl Connected {
    pub(super) fn establish<T>(self, establish: Establish<T>, message_max: MessageMax) -> T {
        // From here on the file is the server's to remove.
        if let Some(own_file) = self.own_file {
            own_file.leave_to_the_server();
        }
        establish(self.socket, self.peer, None, message_max)
    }
}

/// One attempt to connect; see the contract in [`super`].
pub(super) fn connect(kind: Kind, found: &Found, config: &ConnectConfig) -> Result<Connected, Attempt> {
    let path = kind.path(found);
    let failed = |errno: Errno| Error::io(Operation::Connect, &*path, errno);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&found.directory, kind.file_name(), flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT => Attempt::Absent(absent(&path)),
        errno => Attempt::Failed(failed(errno)),
    })?;
    let stat = fstat(&file).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        let detail = format!("not a socket but a {}", directory::describe_file(&stat));
        return Err(Attempt::Failed(
            Error::new(ErrorKind::UnsafeDirectory, Operation::Connect, path, detail)
                .next("find out who put it there, and remove it"),
        ));
    }
    if !config.accepts(Some(stat.st_uid)) {
        return Err(Attempt::Failed(config.refuse(&path, Some(stat.st_uid))));
    }

    let socket = kind.new_socket().map_err(|error| Error::io(Operation::Connect, &*path, error))?;
    kind.refuse_fds(&socket, config.message_max).map_err(|error| Error::io(Operation::Connect, &*path, error))?;
    let own_file = client_file::bind_own(&socket, found, config)?;
    // To the very inode that was checked, whatever its name leads to by now.
    let inode = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let connected =
        SocketAddrUnix::new(inode).and_then(|address| connect_socket(&socket, &address)).map_err(|errno| match errno {
            Errno::AGAIN => Attempt::Again(
                Error::new(ErrorKind::Busy, Operation::Connect, &*path, "its queue of waiting clients is full")
                    .next("try again later, or have the server accept faster"),
            ),
            Errno::CONNREFUSED => {
                let detail = "its server has the name but does not listen";
                not_served(found, &path, Error::new(ErrorKind::NoServer, Operation::Connect, &*path, detail))
            }
            errno => Attempt::Failed(failed(errno)),
        });
    let checked = connected.and_then(|()| {
        let credentials = peer_credentials(&socket).map_err(|error| Error::io(Operation::Connect, &*path, error))?;
        let peer = Peer::from_kernel(credentials);
        match config.accepts(peer.uid()) {
            true => Ok(peer),
            false => Err(Attempt::Failed(config.refuse(&path, peer.uid()))),
        }
    });
    Ok(Connected { socket, peer: checked?, own_file })
}

fn absent(path: &str) -> Error {
    Error::new(ErrorKind::NoServer, Operation::Connect, path, "nobody listens there").next("start the server")
}

/// Nobody answers on a socket file: its server is about to (`busy` says what it does instead), or dead.
pub(super) fn not_served(found: &Found, path: &str, busy: Error) -> Attempt {
    match lock::look(&found.directory, &found.path) {
        // Another user's lock tells us nothing, so we wait as for a server that is about to listen.
        Ok(Holder::Live(_) | Holder::Unknown) => Attempt::Again(busy),
        Ok(Holder::Dead(_) | Holder::Nothing) => Attempt::Absent(absent(path)),
        Err(error) => Attempt::Failed(error),
    }
}
