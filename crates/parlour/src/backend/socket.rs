//! Listening and connecting over UNIX sockets, unix(7), for every transport that begins with a socket. docs/wire.md
//! describes the handshake.
//!
//! Both the server and the client decide by the peer credentials of the kernel (`SO_PEERCRED`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, chmodat, chownat, fchmod, fstat, lstat, openat, renameat,
};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, acceptfrom_with, bind, connect as connect_socket,
    listen, shutdown, socket_with,
};

use super::attempt::{Attempt, private};
use super::client_file::{self, OwnFile};
use super::config::{ClientFilePolicy, ConnectConfig, ListenConfig, MessageMax};
use super::fd_reserve::{Reserve, out_of_descriptors};
use super::notice::{self, Origin};
use crate::admission::{Admission, Permit, RefusalReason};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::name::directory::{self, FileId};
use crate::name::entry::Entry;
use crate::name::lock::{self, Holder};
use crate::name::{Found, NameGuard};
use crate::peer::Peer;
use crate::poller::Interest;
use crate::sys::credentials::peer_credentials;
use crate::sys::fork::ParentOnly;
use crate::sys::listen_fds::Passed;
use crate::sys::pass_rights::{refuse_descriptors, take_descriptors};
use crate::sys::proc_fd;
use crate::sys::retry::{Retry, is_shortage, retry};
use crate::transport::Transport;
use crate::wait::Deadline;
use crate::wire::hello::Reason;

/// The kind of socket: the differences between the transports that begin with a socket.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) transport: Transport,
    pub(super) socket_type: SocketType,
}

/// A function that makes an established connection of a connected socket whose peer was admitted.
pub(super) type Establish<T> = fn(OwnedFd, Peer, Origin, MessageMax) -> T;

impl Kind {
    fn file_name(&self) -> &'static str {
        self.transport.file_name()
    }

    /// Returns the path of a server's socket, for error texts.
    pub(super) fn path(&self, found: &Found) -> String {
        found.path.join(self.file_name()).display().to_string()
    }

    fn new_socket(&self) -> io::Result<OwnedFd> {
        Ok(retry(|| socket_with(AddressFamily::UNIX, self.socket_type, FLAGS, None))?)
    }

    /// Makes the kernel refuse descriptors, before any peer can send some. On a kernel that cannot refuse them, the
    /// first ones that arrive end their connection.
    fn refuse_fds(&self, socket: impl AsFd, max: MessageMax) -> io::Result<()> {
        // The handshake of `shm` passes descriptors.
        if max.fds() == 0 && self.transport != Transport::Shm {
            refuse_descriptors(socket)?;
        }
        Ok(())
    }
}

/// The flags of every socket: close-on-exec and non-blocking.
const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// A listening socket.
pub(crate) struct Listener {
    kind: Kind,
    socket: ParentOnly,
    id: FileId,
    interest: Interest,
    admission: Arc<Admission>,
    client_file: ClientFilePolicy,
    message_max: MessageMax,
    reserve: Reserve,
    /// True if another process created the socket and keeps it when this server closes.
    is_adopted: bool,
    /// True once no further client may connect.
    is_withdrawn: bool,
    /// True while clients wait for the end of a hand-over.
    is_paused: bool,
    /// True once another process has taken the socket over. The descriptor is inert from then on.
    has_left: bool,
}

impl Listener {
    pub(super) fn bind(kind: Kind, guard: &NameGuard, config: &ListenConfig, interest: Interest) -> Result<Self> {
        Self::bind_at(kind.file_name(), kind, guard, config, interest)
    }

    /// Listens on a socket with this file name.
    pub(super) fn bind_at(
        file_name: &'static str,
        kind: Kind,
        guard: &NameGuard,
        config: &ListenConfig,
        interest: Interest,
    ) -> Result<Self> {
        let failed = |error: io::Error| Error::io(Operation::Listen, guard.display_path(file_name), error);
        let socket = ParentOnly::open(|| kind.new_socket()).map_err(failed)?;
        bind_private(file_name, &socket, guard, config).map_err(|error| {
            let unreachable =
                directory::check_reachable(guard.directory(), guard.path(), file_name, Operation::Listen).err();
            unreachable.unwrap_or_else(|| failed(error))
        })?;
        if let Err(error) = admit_users(file_name, guard, config) {
            // Only the listener would remove the file later.
            let _ = directory::remove(guard.directory(), file_name);
            return Err(error);
        }
        let listener = Self::new(kind, socket, file_name, guard, config, interest, false)?;
        listener.start(guard, config)?;
        Ok(listener)
    }

    /// Prepares to serve a name that its server hands over to this process. Clients find the socket after
    /// [`take_up`](Self::take_up).
    ///
    /// Nothing about an inherited socket changes before, because that server may have to continue with it. Without one,
    /// this listens on a new socket beside that of the server.
    pub(super) fn prepare(
        kind: Kind,
        inherited: Option<ParentOnly>,
        guard: &NameGuard,
        config: &ListenConfig,
        interest: Interest,
    ) -> Result<Self> {
        match inherited {
            Some(socket) => Self::new(kind, socket, kind.file_name(), guard, config, interest, false),
            None => Self::bind_at(kind.transport.new_file_name(), kind, guard, config, interest),
        }
    }

    /// Takes over a listening socket that another process created. Clients that already wait there are served, however
    /// long they have waited.
    pub(super) fn adopt(
        kind: Kind,
        passed: Passed,
        guard: &NameGuard,
        config: &ListenConfig,
        interest: Interest,
    ) -> Result<Self> {
        let failed = |error: io::Error| Error::io(Operation::Activate, guard.display_path(kind.file_name()), error);
        // A duplicate is used, so that the passed descriptor is unchanged until every step has succeeded.
        let duplicate = || Ok(rustix::io::fcntl_dupfd_cloexec(&passed, 0)?);
        let socket = ParentOnly::open(duplicate).map_err(failed)?;
        rustix::io::ioctl_fionbio(&socket, true).map_err(|errno| failed(errno.into()))?;
        if config.message_max.fds() > 0 {
            // An earlier server on the same socket may have refused descriptors.
            take_descriptors(&socket).map_err(failed)?;
        }
        let listener = Self::new(kind, socket, kind.file_name(), guard, config, interest, true)?;
        listener.start(guard, config)?;
        passed.close();
        Ok(listener)
    }

    fn new(
        kind: Kind,
        socket: ParentOnly,
        file_name: &'static str,
        guard: &NameGuard,
        config: &ListenConfig,
        interest: Interest,
        is_adopted: bool,
    ) -> Result<Self> {
        let failed = |error: io::Error| Error::io(Operation::Listen, guard.display_path(file_name), error);
        let id = FileId::at(guard.directory(), file_name)
            .ok_or_else(|| failed(io::Error::other("another process removed the file immediately")))?;
        let reserve = Reserve::new().map_err(|errno| failed(errno.into()))?;
        Ok(Self {
            kind,
            socket,
            id,
            interest,
            admission: Arc::clone(&config.admission),
            client_file: config.client_file,
            message_max: config.message_max,
            reserve,
            is_adopted,
            is_withdrawn: false,
            is_paused: false,
            has_left: false,
        })
    }

    /// Lets clients connect, and registers the socket with the poller.
    fn start(&self, guard: &NameGuard, config: &ListenConfig) -> Result<()> {
        let failed = |error: io::Error| Error::io(Operation::Listen, guard.display_path(self.kind.file_name()), error);
        self.kind.refuse_fds(&self.socket, config.message_max).map_err(failed)?;
        // On a socket that already listens, this call makes the kernel report this process as the peer to clients that
        // connect from now on, instead of the process that created the socket.
        listen(&self.socket, i32::try_from(config.backlog).unwrap_or(i32::MAX))
            .map_err(|errno| failed(errno.into()))?;
        self.interest.add_readable(&self.socket, 0).map_err(|errno| failed(errno.into()))
    }

    /// Serves the clients of a prepared socket: they find a new one from here on, and the options and the queue of an
    /// inherited one are those of this server.
    pub(super) fn take_up(&self, is_inherited: bool, guard: &NameGuard, config: &ListenConfig) -> Result<()> {
        let failed = |error: io::Error| Error::io(Operation::Listen, guard.display_path(self.kind.file_name()), error);
        if !is_inherited {
            let (directory, transport) = (guard.directory(), self.kind.transport);
            return renameat(directory, transport.new_file_name(), directory, transport.file_name())
                .map_err(|errno| failed(errno.into()));
        }
        ioctl_fionbio(&self.socket, true).map_err(|errno| failed(errno.into()))?;
        if config.message_max.fds() > 0 {
            // The earlier server may have refused descriptors.
            take_descriptors(&self.socket).map_err(failed)?;
        }
        self.start(guard, config)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Lets clients wait in the queue.
    pub(super) fn pause(&mut self) {
        self.is_paused = true;
        self.interest.remove(&self.socket);
    }

    /// Accepts clients again.
    pub(super) fn resume(&mut self) {
        self.is_paused = false;
        if self.reserve.rest_until().is_none() && self.interest.add_readable(&self.socket, 0).is_err() {
            // After a rest the socket is registered again.
            self.reserve.rest(Instant::now());
        }
    }

    /// Leaves a socket to the process that has taken it over: replaces the descriptor by a duplicate of `instead`.
    pub(super) fn leave(&mut self, instead: BorrowedFd<'_>) -> io::Result<()> {
        self.has_left = true;
        self.interest.remove(&self.socket);
        self.socket.close_in_place(instead)
    }

    /// Returns true if no client can come through this socket any more, given that the poller reports nothing.
    pub(super) fn is_left(&self) -> bool {
        self.has_left || self.is_withdrawn && self.is_drained()
    }

    pub(super) fn transport(&self) -> Transport {
        self.kind.transport
    }

    /// Accepts a client on a transport without a further handshake.
    pub(super) fn advance<T>(&mut self, guard: &NameGuard, establish: Establish<T>) -> Result<Option<T>> {
        let Some(Accepted { socket, peer, permit }) = self.accept(guard)? else { return Ok(None) };
        tracing::debug!(transport = %self.transport(), %peer, "client connected");
        Ok(Some(establish(socket, peer, Origin::Accepted(permit), self.message_max)))
    }

    /// Takes a client out of the queue, and returns it if it is admitted. Otherwise tells it the reason.
    pub(super) fn accept(&mut self, guard: &NameGuard) -> Result<Option<Accepted>> {
        let (socket, address) = match retry(|| acceptfrom_with(&self.socket, FLAGS)) {
            Ok(accepted) => accepted,
            Err(Errno::AGAIN | Errno::INVAL) if self.is_withdrawn => {
                // The queue stays empty, and the kernel reports a socket after shutdown(2) for ever.
                self.interest.remove(&self.socket);
                return Ok(None);
            }
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
                // Every refusal is counted before the client can see it.
                self.admission.refuse(self.transport(), refused.peer, refused.reason, refused.detail);
                notice::refuse(self.transport(), &socket, Reason::of(refused.reason));
                Ok(None)
            }
        }
    }

    /// Identifies and admits the client on this socket.
    fn admit(
        &self,
        socket: BorrowedFd<'_>,
        bound_to: Option<&[u8]>,
        guard: &NameGuard,
    ) -> Result<(Peer, Permit), Refused> {
        let credentials = peer_credentials(socket).map_err(|error| {
            let detail = format!("the kernel does not report the credentials of the client: {error}");
            Refused { peer: None, reason: RefusalReason::System, detail }
        })?;
        let mut peer = Peer::from_kernel(credentials);
        let judged = client_file::judge(self.client_file, bound_to, &peer, guard);
        let admitted = judged.map_err(|bad| (bad.reason(), bad.to_string())).and_then(|origin| {
            peer = peer.clone().with_origin(origin.map(Box::new));
            self.admission.admit(&peer).map_err(|rejection| (rejection.reason(), rejection.to_string()))
        });
        match admitted {
            Ok(permit) => Ok((peer, permit)),
            Err((reason, detail)) => Err(Refused { peer: Some(peer), reason, detail }),
        }
    }

    /// Takes one client out of the queue and ends its connection. For a full descriptor table.
    fn turn_one_away(&mut self, errno: Errno) {
        let Self { socket, admission, kind, .. } = self;
        let go_on = self.reserve.spend(Instant::now(), || {
            if let Ok((client, _)) = acceptfrom_with(&*socket, FLAGS) {
                let reason = RefusalReason::Descriptors;
                admission.refuse(kind.transport, None, reason, out_of_descriptors(errno));
                notice::refuse(kind.transport, &client, Reason::of(reason));
            }
        });
        if !go_on {
            self.interest.remove(&self.socket);
        }
    }

    /// Returns true if the poller reports waiting clients. While the listener rests, it does not.
    pub(super) fn is_watched(&self) -> bool {
        self.reserve.rest_until().is_none()
    }

    pub(super) fn is_adopted(&self) -> bool {
        self.is_adopted
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.reserve.rest_until()
    }

    pub(super) fn expire(&mut self, now: Instant) -> Result<()> {
        let is_over = self.has_left || self.is_adopted && self.is_withdrawn;
        if self.reserve.wake(now) && !self.is_paused && !is_over {
            self.interest.add_readable(&self.socket, 0).map_err(|errno| {
                // The accepting call returns the error. After another rest the socket is registered again, so clients
                // that connect in the meantime are accepted.
                self.reserve.rest(now);
                Error::io(Operation::Listen, self.kind.file_name(), errno)
            })?;
        }
        Ok(())
    }

    /// Lets no further client connect. Those in the queue can still be accepted.
    ///
    /// A client may hold the socket file open after the file was removed, and connect through it. After shutdown(2) for
    /// reading, the kernel refuses that client, and the queue cannot grow any more. A socket that another process keeps
    /// is no longer watched: its queue is for the next server.
    pub(super) fn withdraw(&mut self) {
        self.is_withdrawn = true;
        if self.is_adopted {
            self.interest.remove(&self.socket);
        } else if let Err(errno) = shutdown(&self.socket, Shutdown::Read) {
            tracing::debug!(transport = %self.transport(), %errno, "the socket still lets clients connect");
        }
    }

    /// Returns true if no client is left in the queue, given that the poller reports nothing. A listener that rests
    /// because the descriptor table was full is not reported.
    pub(super) fn is_drained(&self) -> bool {
        self.is_adopted || self.reserve.rest_until().is_none()
    }

    /// Stops listening: replaces the descriptor by a duplicate of `instead`.
    pub(super) fn close_in_place(&mut self, instead: BorrowedFd<'_>) -> io::Result<()> {
        self.socket.close_in_place(instead)
    }

    pub(super) fn is_still_there(&self, guard: &NameGuard) -> std::result::Result<bool, Errno> {
        self.id.is_at(guard.directory(), self.kind.file_name())
    }
}

/// A client that was admitted.
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

/// Binds the socket to a file. The file never has more rights than the mode.
fn bind_private(file_name: &str, socket: &ParentOnly, guard: &NameGuard, config: &ListenConfig) -> io::Result<()> {
    // The file inherits the mode of the socket. After `bind`, fchmod(2) would change the socket only.
    fchmod(socket, Mode::from_raw_mode(config.mode) & Mode::RWXU)?;
    let path = directory::socket_path(guard.directory(), guard.path(), file_name);
    Ok(bind(socket, &SocketAddrUnix::new(path)?)?)
}

/// Sets the group and the mode of the file. No client can connect before `listen`. The group is set before the mode, so
/// that no other group ever has the rights.
fn admit_users(file_name: &str, guard: &NameGuard, config: &ListenConfig) -> Result<()> {
    let failed = |errno: Errno| Error::io(Operation::Listen, guard.display_path(file_name), errno);
    if let Some(group) = config.group {
        let gid = Some(Gid::from_raw(group));
        chownat(guard.directory(), file_name, None, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| match errno {
            Errno::PERM => {
                let detail =
                    format!("this process is not a member of the group {group}, to which the socket is to belong");
                Error::new(ErrorKind::Denied, Operation::Listen, guard.display_path(file_name), detail)
                    .because(errno)
                    .next("run the server as a member of the group (`id -G` lists the groups), or as root")
            }
            errno => failed(errno),
        })?;
    }
    // The umask may have removed bits.
    chmodat(guard.directory(), file_name, Mode::from_raw_mode(config.mode), AtFlags::empty()).map_err(failed)
}

/// A socket that is connected to a server of the expected user.
pub(super) struct Connected {
    pub(super) socket: OwnedFd,
    pub(super) peer: Peer,
    /// The client file. This process removes it unless the server will.
    pub(super) own_file: Option<OwnFile>,
}

impl Connected {
    pub(super) fn establish<T>(self, establish: Establish<T>, message_max: MessageMax) -> T {
        // From here on the server removes the file.
        if let Some(own_file) = self.own_file {
            own_file.leave_to_the_server();
        }
        establish(self.socket, self.peer, Origin::Connected, message_max)
    }
}

/// Makes one attempt to connect. See the contract in [`super`].
pub(super) fn connect(
    kind: Kind,
    found: &Found,
    config: &ConnectConfig,
    deadline: Deadline,
) -> Result<Connected, Attempt> {
    let path = kind.path(found);
    let failed = |errno: Errno| Error::io(Operation::Connect, &*path, errno);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let entry = found.entry(kind.file_name(), || {
        let file = openat(&found.directory, kind.file_name(), flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => Attempt::Absent(absent(&path)),
            Errno::ACCESS => Attempt::Failed(private(found, &path, None, errno)),
            errno => Attempt::Failed(failed(errno)),
        })?;
        let stat = fstat(&file).map_err(failed)?;
        Ok::<_, Attempt>(Entry { file, stat })
    })?;
    let Entry { file, stat } = &*entry;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        let detail = format!("it is a {}, not a socket", directory::describe_file(stat));
        return Err(Attempt::Failed(
            Error::new(ErrorKind::UnsafeDirectory, Operation::Connect, path, detail)
                .next("find the process that created it, and remove it"),
        ));
    }
    let accepts = |uid| config.accepts_socket(uid, found.stat.st_uid);
    if !accepts(Some(stat.st_uid)) {
        return Err(Attempt::Failed(config.refuse(&path, Some(stat.st_uid))));
    }

    let socket = kind.new_socket().map_err(|error| Error::io(Operation::Connect, &*path, error))?;
    kind.refuse_fds(&socket, config.message_max).map_err(|error| Error::io(Operation::Connect, &*path, error))?;
    notice::expect(kind.transport, &socket);
    let own_file = client_file::bind_own(&socket, found, config)?;
    if own_file.is_none() && client_file::shows_origin(found, config) {
        let detail = "the directory of its clients is gone";
        let busy = Error::new(ErrorKind::Busy, Operation::Connect, &*path, detail);
        return Err(not_served(found, &path, busy.next("try again; the server is starting or closing")));
    }
    let connect_to = |path: PathBuf| {
        let address = SocketAddrUnix::new(path)?;
        match retry(|| connect_socket(&socket, &address)) {
            Err(Errno::AGAIN) if config.may_sleep => connect_in_turn(&socket, &address, deadline),
            connected => connected,
        }
    };
    // Connects to the inode that was checked, even if the name refers to another one by now.
    let connected = match connect_to(proc_fd::path(file)) {
        Err(Errno::NOENT | Errno::ACCESS | Errno::PERM | Errno::LOOP | Errno::NOTDIR) if !proc_fd::leads_to(file) => {
            directory::check_reachable(&found.directory, &found.path, kind.file_name(), Operation::Connect)?;
            let path = found.path.join(kind.file_name());
            connect_to(path.clone()).and_then(|()| check_inode(&path, stat))
        }
        connected => connected,
    };
    let connected = connected.map_err(|errno| match errno {
        Errno::AGAIN => Attempt::Again(
            Error::new(ErrorKind::Busy, Operation::Connect, &*path, "its queue of waiting clients is full")
                .next("try again later, or make the server accept faster"),
        ),
        Errno::STALE => Attempt::Again(
            Error::new(ErrorKind::Busy, Operation::Connect, &*path, "the server replaced its socket meanwhile")
                .next("try again"),
        ),
        Errno::CONNREFUSED => {
            let detail = "the server has the name but does not listen";
            let error = Error::new(ErrorKind::NoServer, Operation::Connect, &*path, detail);
            not_served(found, &path, error.next("try again; it is starting or closing, or stopped meanwhile"))
        }
        Errno::ACCESS => Attempt::Failed(private(found, &path, Some(stat), errno)),
        errno => Attempt::Failed(failed(errno)),
    });
    let checked = connected.and_then(|()| {
        let credentials = peer_credentials(&socket).map_err(|error| Error::io(Operation::Connect, &*path, error))?;
        let peer = Peer::from_kernel(credentials);
        match accepts(peer.uid()) {
            true => Ok(peer),
            false => Err(Attempt::Failed(config.refuse(&path, peer.uid()))),
        }
    });
    Ok(Connected { socket, peer: checked?, own_file })
}

/// The shortest and the longest sleep in a full queue.
const SLEEP_MIN: Duration = Duration::from_millis(50);
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// Sleeps in a blocking connect(2) until the queue of the server has room. The kernel wakes one client for each that
/// the server accepts, in the order in which they began to sleep, and all of them when the server closes the socket.
/// Fails with `EAGAIN` if there is no room for half of the time that is left: a new server may have replaced this one.
fn connect_in_turn(socket: &OwnedFd, address: &SocketAddrUnix, deadline: Deadline) -> rustix::io::Result<()> {
    let sleep = deadline.left().map_or(SLEEP_MAX, |left| left.min((left / 2).max(SLEEP_MIN)));
    let until = deadline.or_after(sleep);
    ioctl_fionbio(socket, false)?;
    let mut retry = Retry::default();
    let connected = loop {
        // The kernel knows no timeout of 0. With a timeout, it does not continue the call after a signal.
        let left = until.left().unwrap_or(SLEEP_MAX).clamp(Duration::from_micros(1), SLEEP_MAX);
        set_socket_timeout(socket, Timeout::Send, Some(left))?;
        match connect_socket(socket, address) {
            Err(errno) if is_shortage(errno) && retry.is_due(errno) => {}
            Err(Errno::INTR) if !until.is_over() => {}
            Err(Errno::INTR) => break Err(Errno::AGAIN),
            connected => break connected,
        }
    };
    if connected.is_ok() {
        set_socket_timeout(socket, Timeout::Send, None)?;
        ioctl_fionbio(socket, true)?;
    }
    connected
}

/// Checks a connection to the server by the name of its socket, where `/proc` does not lead to the inode that was
/// checked. Fails with `ESTALE` if the name refers to another inode.
///
/// The name is as good as the inode: only root, this user and the user of the server can rename an entry on the path,
/// and the caller checks the user that the kernel reports for the server.
fn check_inode(path: &Path, checked: &Stat) -> std::result::Result<(), Errno> {
    let is_checked = lstat(path).is_ok_and(|stat| FileId::of(&stat) == FileId::of(checked));
    if is_checked { Ok(()) } else { Err(Errno::STALE) }
}

fn absent(path: &str) -> Error {
    Error::new(ErrorKind::NoServer, Operation::Connect, path, "no server listens there").next("start the server")
}

/// Classifies a socket on which no server answers. Its server is about to listen, which is the error `busy`, or is
/// dead.
pub(super) fn not_served(found: &Found, path: &str, busy: Error) -> Attempt {
    match lock::look(&found.directory, &found.path) {
        // The lock of another user cannot be inspected, so the client waits as for a server that is about to listen.
        Ok(Holder::Live(_) | Holder::Unknown) => Attempt::Again(busy),
        Ok(Holder::Dead(_) | Holder::Nothing) => Attempt::Absent(absent(path)),
        Err(error) => Attempt::Failed(error),
    }
}
