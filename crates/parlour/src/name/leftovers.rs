//! What the dead left in the directory of a name. Only the holder of its lock calls this.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RawDir, Stat, openat, statat};
use rustix::io::Errno;

use super::directory;
use crate::error::{Error, ErrorKind, Result};
use crate::transport::Transport;
use crate::wire::client_file::{ClientFile, ClientId};

/// The files that servers of any transport make, and what they must be.
const SERVER_FILES: [(&str, FileType); 5] = [
    ("unix", FileType::Socket),
    ("packet", FileType::Socket),
    ("shm", FileType::Socket),
    ("fifo", FileType::Fifo),
    ("fifo.new", FileType::Fifo),
];

/// Those of them that are sockets.
pub(super) const SOCKETS: [&str; 3] = ["unix", "packet", "shm"];

/// Removes the central points of contact of a dead server, but for those that somebody else made and keeps.
///
/// # Errors
///
/// [`ErrorKind::UnsafeDirectory`] when something else stands in the place of one; it is not touched.
pub(crate) fn remove_server_files(name_directory: impl AsFd, path: &Path, kept: &[Transport]) -> Result<()> {
    let is_kept = |file_name| kept.iter().any(|transport| transport.file_name() == file_name);
    for (file_name, kind) in SERVER_FILES.into_iter().filter(|(file_name, _)| !is_kept(*file_name)) {
        let shown = || path.join(file_name).display().to_string();
        let stat = match statat(&name_directory, file_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(Error::io("look at", shown(), errno)),
        };
        if !is_ours(&stat, kind) {
            let detail = format!(
                "a {} of ours should be there or nothing, and there is a {}",
                directory::describe(kind),
                directory::describe_file(&stat)
            );
            return Err(Error::new(ErrorKind::UnsafeDirectory, "replace", shown(), detail)
                .next("find out who put it there, and remove it"));
        }
        directory::remove(&name_directory, file_name).map_err(|error| Error::io("remove", shown(), error))?;
        tracing::debug!(file = shown(), "removed what a dead server left");
    }
    Ok(())
}

/// Removes those of the clients' files that `is_left` says are left over; files that no client of ours makes stay.
/// Gives back how many client files are still there. Allocates nothing: a server may end in a signal handler.
pub(crate) fn remove_client_files(
    clients: impl AsFd,
    mut is_left: impl FnMut(&ClientId, ClientFile, &Stat) -> bool,
) -> io::Result<usize> {
    let mut remaining = 0;
    // Opened anew, to begin at the beginning. The buffer is small, for a signal handler's stack.
    let directory = openat(&clients, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(&directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let Ok(file_name) = entry.file_name().to_str() else { continue };
        let Some((id, file)) = ClientId::parse(file_name) else { continue };
        let Ok(stat) = statat(&clients, file_name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let kind = match file {
            ClientFile::Socket => FileType::Socket,
            ClientFile::ServerToClient | ClientFile::ClientToServer => FileType::Fifo,
        };
        if is_ours(&stat, kind) && is_left(&id, file, &stat) {
            directory::remove(&clients, file_name)?;
            tracing::debug!(file = file_name, "removed what a client left");
        } else {
            remaining += 1;
        }
    }
    Ok(remaining)
}

/// Makes sure that a directory from which everything of ours was removed holds nothing else than these.
pub(crate) fn check_nothing_left_but(directory: impl AsFd, path: &Path, expected: &[&str]) -> Result<()> {
    let failed = |errno: Errno| Error::io("list", path.display().to_string(), errno);
    for entry in Dir::read_from(&directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let file_name = entry.file_name().to_bytes();
        let is_expected = [".", ".."].iter().chain(expected).any(|name| name.as_bytes() == file_name);
        if !is_expected {
            let shown = path.join(String::from_utf8_lossy(file_name).as_ref());
            let detail = "something is there that no server and no client makes";
            return Err(Error::new(ErrorKind::UnsafeDirectory, "remove", shown.display().to_string(), detail)
                .next("find out who put it there, and remove it"));
        }
    }
    Ok(())
}

fn is_ours(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind && stat.st_uid == rustix::process::geteuid().as_raw()
}
