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

use std::fmt;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, Stat, chmodat, fchmod, statat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with};

use super::config::{ClientFilePolicy, ConnectConfig};
use crate::admission::RefusalReason;
use crate::error::{Error, Operation, Result};
use crate::escape::escaped;
use crate::name::directory;
use crate::name::{CLIENTS, Found, NameGuard};
use crate::peer::Peer;
use crate::wire::client_file::{ClientFile, ClientId};
use crate::wire::nonce::Nonce;

/// The exact mode of the file, as in the classic design.
const MODE: Mode = Mode::RWXU;

/// Removes the file of a client that has connected, and returns an error if the client is to be refused. `bound_to` is
/// the address that its socket is bound to, if any.
pub(super) fn judge(
    policy: ClientFilePolicy,
    bound_to: Option<&[u8]>,
    peer: &Peer,
    guard: &NameGuard,
) -> Result<(), BadClientFile> {
    // Only the user of this process can have created a file there, so the address of another user is not looked up.
    let is_own_user = peer.uid() == Some(rustix::process::geteuid().as_raw());
    // The file is removed before the decision, because a refused client must leave none behind either.
    let file = bound_to.filter(|_| is_own_user).and_then(client_id).map(|id| take(guard, &id));
    match (policy, file) {
        (ClientFilePolicy::Ignore, _) | (ClientFilePolicy::Check, None) => Ok(()),
        (ClientFilePolicy::Require, None) => Err(BadClientFile::Absent),
        (ClientFilePolicy::Check | ClientFilePolicy::Require, Some(file)) => check(&file?),
    }
}

/// The reason why a client is refused because of its file.
#[derive(Debug)]
pub(super) enum BadClientFile {
    Absent,
    NotASocket(FileType),
    Mode(u32),
    Owner(u32),
    Io(Errno),
}

impl BadClientFile {
    /// Returns the reason of the refusal.
    pub(super) fn reason(&self) -> RefusalReason {
        match self {
            Self::Io(_) => RefusalReason::System,
            _ => RefusalReason::ClientFile,
        }
    }
}

impl fmt::Display for BadClientFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("the client has no file of its own"),
            Self::NotASocket(kind) => write!(f, "the client's file is a {}, not a socket", directory::describe(*kind)),
            Self::Mode(mode) => write!(f, "the client's file has mode {mode:04o}, not 0700"),
            Self::Owner(uid) => write!(f, "the client's file belongs to uid {uid}"),
            Self::Io(errno) => write!(f, "the client's file cannot be checked: {errno}"),
        }
    }
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

fn check(stat: &Stat) -> Result<(), BadClientFile> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::Socket {
        return Err(BadClientFile::NotASocket(kind));
    }
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(BadClientFile::Owner(stat.st_uid));
    }
    let mode = stat.st_mode & 0o7777;
    if mode != MODE.bits() {
        return Err(BadClientFile::Mode(mode));
    }
    Ok(())
}

/// Returns true if the kernel reports that no socket is bound to a client's file: the client is gone, or its socket is.
/// Returns false if that cannot be found out.
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
    connected == Err(Errno::CONNREFUSED)
}

/// The file that this client bound. Dropping it removes the file, unless it was left to the server.
pub(super) struct OwnFile {
    clients: OwnedFd,
    file_name: String,
    left: bool,
}

impl OwnFile {
    /// Keeps the file, which the server removes.
    pub(super) fn leave_to_the_server(mut self) {
        self.left = true;
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        if !self.left {
            // No server has seen the file. If it cannot be removed here, the sweep of the server or the next server
            // removes it.
            let _ = directory::remove(&self.clients, &self.file_name);
        }
    }
}

/// Binds the socket to a file whose name contains the process id of this process, in the directory of a server of the
/// same user. Returns `None` if the option forbids it, if the server has another user, or if this process may not
/// create the file.
pub(super) fn bind_own(socket: &OwnedFd, found: &Found, config: &ConnectConfig) -> Result<Option<OwnFile>> {
    if !config.client_file || found.stat.st_uid != rustix::process::geteuid().as_raw() {
        return Ok(None);
    }
    let path = found.path.join(CLIENTS);
    let Some((clients, stat)) = directory::walk_inside(&found.directory, CLIENTS, &path)? else {
        return Ok(None);
    };
    directory::check_clients(&path, &stat)?;
    let id = ClientId { pid: std::process::id(), nonce: random_nonce()? };
    let file_name = id.file_name(ClientFile::Socket);
    let failed = |errno: Errno| Error::io(Operation::Bind, path.join(&file_name).display().to_string(), errno);

    fchmod(socket, MODE).map_err(failed)?;
    let address = SocketAddrUnix::new(directory::socket_path(&clients, &path, &file_name)).map_err(failed)?;
    match bind(socket, &address) {
        Ok(()) => {}
        // This process may connect but not write there, for example to a service that is mounted read-only. Or the
        // directory was removed, and with it the socket that this client is about to connect to.
        Err(errno @ (Errno::ROFS | Errno::ACCESS | Errno::PERM | Errno::NOENT)) => {
            tracing::debug!(%errno, path = %escaped(&path), "connecting without a client file");
            return Ok(None);
        }
        // The path of the file is longer than that of the server, which may fit.
        Err(errno) if directory::check_reachable(&clients, &path, &file_name, Operation::Bind).is_err() => {
            tracing::debug!(%errno, path = %path.display(), "connecting without a client file, for want of /proc");
            return Ok(None);
        }
        Err(errno) => return Err(failed(errno)),
    }
    let own_file = OwnFile { clients, file_name: file_name.clone(), left: false };
    let stat = statat(&own_file.clients, &file_name, AtFlags::SYMLINK_NOFOLLOW);
    let exact = stat.and_then(|stat| match stat.st_mode & 0o7777 == MODE.bits() {
        true => Ok(()),
        // The umask has removed bits.
        false => chmodat(&own_file.clients, &file_name, MODE, AtFlags::empty()),
    });
    match exact {
        // The file is missing if the next server has just cleared the directory. The socket that this client is about
        // to connect to then belongs to the previous server, and connect(2) fails with `ECONNREFUSED`.
        Ok(()) | Err(Errno::NOENT) => Ok(Some(own_file)),
        Err(errno) => Err(failed(errno)),
    }
}

/// Draws 128 unpredictable bits with getrandom(2).
pub(super) fn random_nonce() -> Result<Nonce> {
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
