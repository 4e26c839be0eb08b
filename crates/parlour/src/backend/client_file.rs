//! The file that a client of a socket server binds for itself. The client creates it, and the server checks and removes
//! it.
//!
//! In the classic design the file proves the identity of the client. Here the kernel proves it, and the file shows
//! people which process is connecting. A client with an invalid file is still refused, because no honest client creates
//! one.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Mode, Stat, chmodat, fchmod, statat};
use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, bind};

use super::config::{ClientFilePolicy, ConnectConfig};
use crate::admission::RefusalReason;
use crate::error::{Error, Operation, Result};
use crate::escape::escaped;
use crate::name::directory;
use crate::name::{CLIENTS, Found, NameGuard};
use crate::peer::Peer;
use crate::sys::credentials::peer_pidfd;
use crate::wire::client_file::{ClientFile, ClientId};
use crate::wire::nonce::Nonce;

/// The exact mode and the maximum age of the file, as in the classic design.
const MODE: Mode = Mode::RWXU;
pub(crate) const AGE_MAX: Duration = Duration::from_secs(10);

/// Removes the file of a client that has connected, and returns an error if the client is to be refused. `bound_to` is
/// the address that its socket is bound to, if any. `waited_max` is the longest time that it can have waited for this
/// server.
pub(super) fn judge(
    policy: ClientFilePolicy,
    bound_to: Option<&[u8]>,
    peer: &Peer,
    socket: BorrowedFd<'_>,
    guard: &NameGuard,
    waited_max: Duration,
) -> Result<(), BadClientFile> {
    // Only the user of this process can have created a file there, so the address of another user is not looked up.
    let is_own_user = peer.uid() == Some(rustix::process::geteuid().as_raw());
    // The file is removed before the decision, because a refused client must leave none behind either.
    let file = bound_to.filter(|_| is_own_user).and_then(client_id).map(|id| (id, take(guard, &id)));
    match (policy, file) {
        (ClientFilePolicy::Ignore, _) | (ClientFilePolicy::Check, None) => Ok(()),
        (ClientFilePolicy::Require, None) => Err(BadClientFile::Absent),
        (ClientFilePolicy::Check | ClientFilePolicy::Require, Some((id, file))) => {
            check(&file?, waited_max)?;
            check_pid(&id, peer, socket)
        }
    }
}

/// The reason why a client is refused because of its file.
#[derive(Debug)]
pub(super) enum BadClientFile {
    Absent,
    NotASocket(FileType),
    Mode(u32),
    Owner(u32),
    Age(Duration),
    Pid { file: u32, kernel: u32 },
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
            Self::Age(age) => {
                write!(f, "the client's file is {} s old; {} are allowed", age.as_secs(), AGE_MAX.as_secs())
            }
            Self::Pid { file, kernel } => write!(f, "the client's file names pid {file}, the kernel reports {kernel}"),
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

fn check(stat: &Stat, waited_max: Duration) -> Result<(), BadClientFile> {
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
    let age = age(stat);
    if age > AGE_MAX.saturating_add(waited_max) {
        return Err(BadClientFile::Age(age));
    }
    Ok(())
}

/// Returns the distance between now and the times of a file (modification and status change), whichever is larger. A
/// time in the future therefore does not make a file young.
pub(crate) fn age(stat: &Stat) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let since = |seconds: i64, nanoseconds: u64| {
        let then = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanoseconds).unwrap_or(0));
        now.abs_diff(then)
    };
    since(stat.st_mtime, stat.st_mtime_nsec).max(since(stat.st_ctime, stat.st_ctime_nsec))
}

/// Checks that the process id in the file's name is the one that the kernel reports. A client in a PID namespace of its
/// own uses its number in that namespace, so that number is valid, too. If the kernel reports no number, the check
/// passes.
fn check_pid(id: &ClientId, peer: &Peer, socket: BorrowedFd<'_>) -> Result<(), BadClientFile> {
    let Some(kernel) = peer.pid() else { return Ok(()) };
    if id.pid == kernel || innermost_pid(socket) == Some(id.pid) {
        return Ok(());
    }
    Err(BadClientFile::Pid { file: id.pid, kernel })
}

/// Returns the peer's process id in its own PID namespace: the last number of `NSpid` in the `fdinfo` of a pidfd.
fn innermost_pid(socket: BorrowedFd<'_>) -> Option<u32> {
    let pidfd = peer_pidfd(socket).ok()?;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().last()?.parse().ok()
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
