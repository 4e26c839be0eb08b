//! The file that a client of a socket server binds for itself. The client creates it, and the server checks and removes
//! it.
//!
//! In the classic design the file proves the identity of the client. Here the kernel proves it, and the file shows
//! people which process is connecting. A client with an invalid file is still refused, because no honest client creates
//! one.
//!
//! Two properties of the classic design are not checked, because they would refuse honest clients. The process id in
//! the name is a label: a client in another PID namespace has another number there. The age of the file depends on the
//! wall clock, which may be wrong and may be changed; the connection itself proves that the client is alive.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, Stat, chmodat, fchmod, statat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with};
use rustix::process::geteuid;

use super::bad_client_file::BadClientFile;
use super::config::{ClientFilePolicy, ConnectConfig};
use super::origin_file;
use crate::error::{Error, Operation, Result};
use crate::escape::escaped;
use crate::name::directory;
use crate::name::entry::{Entry, EntryHandle};
use crate::name::{CLIENTS, Found, NameGuard};
use crate::peer::Peer;
use crate::sys::fork::Process;
use crate::sys::proc_fd;
use crate::wire::client_file::{ClientFile, ClientId};
use crate::wire::nonce::Nonce;
use crate::wire::origin::Origin;

/// The exact mode of the file, as in the classic design.
const MODE: Mode = Mode::RWXU;

/// The user of the process that may have created files in the directory of this server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    OwnUser,
    /// Root, which is not the user of this process.
    Root,
    Nobody,
}

/// Removes the files of a client that has connected, and returns an error if the client is to be refused. `bound_to` is
/// the address that its socket is bound to, if any. Returns the origin that the client shows.
pub(super) fn judge(
    policy: ClientFilePolicy,
    bound_to: Option<&[u8]>,
    peer: &Peer,
    guard: &NameGuard,
) -> Result<Option<Origin>, BadClientFile> {
    // Only the user of this process and root can have created a file there, so the address of another user is not
    // looked up. Root does it for the sake of an origin only.
    let by = match peer.uid() {
        Some(uid) if uid == geteuid().as_raw() => By::OwnUser,
        Some(0) => By::Root,
        _ => By::Nobody,
    };
    // The file is removed before the decision, because a refused client must leave none behind either.
    let id = bound_to.and_then(client_id).filter(|id| match by {
        By::OwnUser => true,
        By::Root => id.nonce.has_origin(),
        By::Nobody => false,
    });
    let file = id.map(|id| take(guard, &id));
    let origin = id.filter(|id| id.nonce.has_origin()).map(|id| origin_file::take(guard, &id));
    match (policy, file) {
        (ClientFilePolicy::Ignore, _) | (ClientFilePolicy::Check, None) => {}
        (ClientFilePolicy::Require, None) => return Err(BadClientFile::Absent),
        (ClientFilePolicy::Check | ClientFilePolicy::Require, Some(file)) => check(&file?, by)?,
    }
    // A client that shows an invalid origin must not pass for one of this host.
    origin.transpose()
}

/// Returns the client that the last component of a bound address names. The peer controls the rest of the address, so
/// it is not used. An address of any other form counts as no address.
fn client_id(bound_to: &[u8]) -> Option<ClientId> {
    let file_name = bound_to.rsplit(|&c| c == b'/').next()?;
    let (id, file) = ClientId::parse(std::str::from_utf8(file_name).ok()?)?;
    (file == ClientFile::Socket).then_some(id)
}

/// Inspects a client's file in the directory of this server, and removes it, whatever it is. A race between the two
/// steps gains nothing, because only the user of this process can replace the file.
fn take(guard: &NameGuard, id: &ClientId) -> Result<Stat, BadClientFile> {
    let file_name = id.file_name(ClientFile::Socket);
    let stat = statat(guard.clients(), &file_name, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| match errno {
        Errno::NOENT => BadClientFile::Absent,
        errno => BadClientFile::Io(errno),
    })?;
    if let Err(error) = directory::remove(guard.clients(), &file_name) {
        tracing::warn!(file = file_name, %error, "file of a client cannot be removed");
    }
    Ok(stat)
}

fn check(stat: &Stat, by: By) -> Result<(), BadClientFile> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::Socket {
        return Err(BadClientFile::NotASocket(kind));
    }
    let owner = if by == By::Root { 0 } else { geteuid().as_raw() };
    if stat.st_uid != owner {
        return Err(BadClientFile::Owner(stat.st_uid));
    }
    let mode = stat.st_mode & 0o7777;
    // Root cannot set the bits that its umask removes: the name may lead to another file by then.
    if mode != MODE.bits() && !(by == By::Root && mode & !MODE.bits() == 0) {
        return Err(BadClientFile::Mode(mode));
    }
    Ok(())
}

/// Returns true if the kernel reports that no socket is bound to a client's file: the client is gone, or its socket is.
/// Also returns true if there is no such file. Returns false if that cannot be found out.
///
/// Implementation notes: connect(2) with a datagram socket. The kernel looks for the socket that is bound to the file
/// and refuses one of another type with `EPROTOTYPE`. `ECONNREFUSED` means that there is none. The client does not
/// notice.
pub(crate) fn has_no_socket(guard: &NameGuard, id: &ClientId) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let Ok(probe) = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None) else { return false };
    let file_name = id.file_name(ClientFile::Socket);
    let path = directory::socket_path(guard.clients(), &guard.path().join(CLIENTS), &file_name);
    let connected = SocketAddrUnix::new(path).and_then(|address| connect(&probe, &address));
    matches!(connected, Err(Errno::CONNREFUSED | Errno::NOENT))
}

/// The file that this client bound, and the one that shows its origin. Dropping it removes both, unless they were left
/// to the server.
pub(super) struct OwnFile {
    clients: EntryHandle,
    id: ClientId,
    left: bool,
    process: Process,
}

impl OwnFile {
    /// Keeps the file, which the server removes.
    pub(super) fn leave_to_the_server(mut self) {
        self.left = true;
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        // The attempt of a parent goes on when a forked child drops its copy.
        if !self.left && self.process.is_current() {
            // No server has seen the files. If they cannot be removed here, the sweep of the server or the next server
            // removes them.
            let _ = directory::remove(&self.clients.file, &self.id.file_name(ClientFile::Socket));
            if self.id.nonce.has_origin() {
                let _ = directory::remove(&self.clients.file, &self.id.file_name(ClientFile::Origin));
            }
        }
    }
}

/// The directory in which a client creates its files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    OwnUsers,
    /// That of a server of another user, for a client of root that shows its origin. The other user may replace every
    /// entry at any moment, so nothing is done to a file by its name.
    AnotherUsers,
}

impl Place {
    /// Returns `None` if the client creates no files.
    fn of(found: &Found, config: &ConnectConfig) -> Option<Self> {
        if found.stat.st_uid == geteuid().as_raw() {
            return config.client_file.then_some(Self::OwnUsers);
        }
        (config.origin.is_some() && geteuid().is_root()).then_some(Self::AnotherUsers)
    }
}

/// Returns true if a client with these options shows its origin to this server: it has the same user, or the client is
/// one of root.
pub(super) fn shows_origin(found: &Found, config: &ConnectConfig) -> bool {
    config.origin.is_some() && Place::of(found, config).is_some()
}

/// Binds the socket to a file whose name contains the process id of this process, in the directory of a server of the
/// same user. Returns `None` if the option forbids it, if the server has another user, or if this process may not
/// create the file. A client with an origin also creates the file that shows it, and as root it does so for a server of
/// another user, too. It does not go on without the two files, because the server would take it for a client of this
/// host: `None` then means that the directory is gone.
pub(super) fn bind_own(socket: &OwnedFd, found: &Found, config: &ConnectConfig) -> Result<Option<OwnFile>> {
    let Some(place) = Place::of(found, config) else { return Ok(None) };
    let path = found.path.join(CLIENTS);
    let walked = found.entry(CLIENTS, || match directory::walk_inside(&found.directory, CLIENTS, &path) {
        Ok(Some((file, stat))) => Ok(Entry { file, stat }),
        Ok(None) => Err(None),
        Err(error) => Err(Some(error)),
    });
    let clients = match (walked, place) {
        (Ok(clients), _) => clients,
        (Err(None), _) => return Ok(None),
        (Err(Some(error)), Place::AnotherUsers) => return Err(error.note(CANNOT_SHOW)),
        (Err(Some(error)), Place::OwnUsers) => return Err(error),
    };
    let stat = clients.stat;
    directory::check_clients_of(&path, &stat, found.stat.st_uid)?;
    let id = ClientId { pid: std::process::id(), nonce: nonce(config)? };
    let file_name = id.file_name(ClientFile::Socket);
    let failed = |errno: Errno| Error::io(Operation::Bind, path.join(&file_name).display().to_string(), errno);
    if let Some(origin) = &config.origin {
        match origin_file::write(&clients.file, stat.st_uid, &id, origin) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(cannot_show_origin(&path, errno)),
        }
    }
    let own_file = OwnFile { clients, id, left: false, process: Process::current() };
    let clients = &own_file.clients.file;

    fchmod(socket, MODE).map_err(failed)?;
    let bind_to = match place {
        Place::OwnUsers => directory::socket_path(clients, &path, &file_name),
        Place::AnotherUsers => proc_fd::path(clients).join(&file_name),
    };
    let address = SocketAddrUnix::new(bind_to).map_err(failed)?;
    match bind(socket, &address) {
        Ok(()) => {}
        Err(errno) if config.origin.is_some() && errno != Errno::NOENT => return Err(failed(errno)),
        // This process may connect but not write there, for example to a service that is mounted read-only. Or the
        // directory was removed, and with it the socket that this client is about to connect to.
        Err(errno @ (Errno::ROFS | Errno::ACCESS | Errno::PERM | Errno::NOENT)) => {
            tracing::debug!(%errno, path = %escaped(&path), "connecting without a client file");
            return Ok(None);
        }
        // The path of the file is longer than that of the server, which may fit.
        Err(errno) if directory::check_reachable(clients, &path, &file_name, Operation::Bind).is_err() => {
            tracing::debug!(%errno, path = %path.display(), "connecting without a client file, for want of /proc");
            return Ok(None);
        }
        Err(errno) => return Err(failed(errno)),
    }
    if place == Place::AnotherUsers {
        return Ok(Some(own_file));
    }
    let stat = statat(&own_file.clients.file, &file_name, AtFlags::SYMLINK_NOFOLLOW);
    let exact = stat.and_then(|stat| match stat.st_mode & 0o7777 == MODE.bits() {
        true => Ok(()),
        // The umask has removed bits.
        false => chmodat(&own_file.clients.file, &file_name, MODE, AtFlags::empty()),
    });
    match exact {
        // The file is missing if the next server has just cleared the directory. The socket that this client is about
        // to connect to then belongs to the previous server, and connect(2) fails with `ECONNREFUSED`.
        Ok(()) | Err(Errno::NOENT) => Ok(Some(own_file)),
        Err(errno) => Err(failed(errno)),
    }
}

/// The note of an error because of which a client cannot show its origin.
const CANNOT_SHOW: &str = "the origin of the client cannot be shown to the server";

/// Returns the error of a client that cannot show its origin.
pub(super) fn cannot_show_origin(path: &Path, errno: Errno) -> Error {
    Error::io(Operation::Connect, path.display().to_string(), errno).note(CANNOT_SHOW)
}

/// Draws a nonce for a client with these options.
pub(super) fn nonce(config: &ConnectConfig) -> Result<Nonce> {
    let nonce = random_nonce()?;
    Ok(if config.origin.is_some() { nonce.with_origin() } else { nonce })
}

/// Draws 128 unpredictable bits with getrandom(2).
fn random_nonce() -> Result<Nonce> {
    let mut bytes = [0; Nonce::LEN];
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        match rustix::rand::getrandom(&mut bytes[filled..], flags) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::io(Operation::Random, "random bytes", errno)),
        }
    }
    Ok(Nonce::from_bytes(bytes))
}
