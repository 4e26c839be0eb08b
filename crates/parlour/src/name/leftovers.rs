//! Removal of the files that a dead server and its clients left in the directory of a name. Only the holder of the lock
//! calls these functions.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RawDir, Stat, openat, statat};
use rustix::io::Errno;

use super::directory;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::transport::Transport;
use crate::wire::client_file::{ClientFile, ClientId};

/// The socket at which another process asks for the name.
pub(crate) const CONTROL: &str = "control";

/// The name of that socket until its server holds the name.
pub(crate) const CONTROL_NEW: &str = "control.new";

fn file_type(transport: Transport) -> FileType {
    if transport.socket_type().is_some() { FileType::Socket } else { FileType::Fifo }
}

/// Returns the files that servers create and that are not to be found by clients yet, and their types.
fn new_files() -> impl Iterator<Item = (&'static str, FileType)> {
    let points_of_contact = Transport::ALL.iter().map(|&transport| (transport.new_file_name(), file_type(transport)));
    points_of_contact.chain([(CONTROL_NEW, FileType::Socket)])
}

/// Returns the files that servers create, over any transport, and their types.
fn server_files() -> impl Iterator<Item = (&'static str, FileType)> {
    let points_of_contact = Transport::ALL.iter().map(|&transport| (transport.file_name(), file_type(transport)));
    points_of_contact.chain([(CONTROL, FileType::Socket)]).chain(new_files())
}

/// Removes the files that a server made while it took the name over, and that it did not put into their places.
pub(crate) fn remove_new_files(name_directory: impl AsFd) -> io::Result<()> {
    for (file_name, kind) in new_files() {
        if statat(&name_directory, file_name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| is_ours(&stat, kind)) {
            directory::remove(&name_directory, file_name)?;
        }
    }
    Ok(())
}

/// Removes the points of contact of a dead server, except those in `kept`, which another process created and keeps.
///
/// # Errors
///
/// - [`ErrorKind::UnsafeDirectory`]: a file of another type or owner has the name of a point of contact. The file is
///   not touched.
pub(crate) fn remove_server_files(name_directory: impl AsFd, path: &Path, kept: &[Transport]) -> Result<()> {
    let is_kept = |file_name| kept.iter().any(|transport| transport.file_name() == file_name);
    for (file_name, kind) in server_files().filter(|(file_name, _)| !is_kept(*file_name)) {
        let shown = || path.join(file_name).display().to_string();
        let stat = match statat(&name_directory, file_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(Error::io(Operation::Inspect, shown(), errno)),
        };
        if !is_ours(&stat, kind) {
            let detail = format!(
                "expected a {} of this user or no file, found a {}",
                directory::describe(kind),
                directory::describe_file(&stat)
            );
            return Err(Error::new(ErrorKind::UnsafeDirectory, Operation::Replace, shown(), detail)
                .next("find out which process created it, then remove it"));
        }
        directory::remove(&name_directory, file_name).map_err(|error| Error::io(Operation::Remove, shown(), error))?;
        tracing::debug!(file = shown(), "removed a file that a dead server left");
    }
    Ok(())
}

/// Removes the points of contact of these transports.
pub(crate) fn remove_points_of_contact(
    name_directory: impl AsFd,
    is_chosen: impl Fn(Transport) -> bool,
) -> io::Result<()> {
    for transport in Transport::ALL.iter().copied().filter(|&transport| is_chosen(transport)) {
        let looked = statat(&name_directory, transport.file_name(), AtFlags::SYMLINK_NOFOLLOW);
        if looked.is_ok_and(|stat| is_ours(&stat, file_type(transport))) {
            directory::remove(&name_directory, transport.file_name())?;
        }
    }
    Ok(())
}

/// Removes the files of clients for which `is_left` returns true, and returns the number of client files that remain. A
/// file that is not one of a client of this user is left alone. Does not allocate, because a server may end in a signal
/// handler.
pub(crate) fn remove_client_files(
    clients: impl AsFd,
    mut is_left: impl FnMut(&ClientId, ClientFile) -> bool,
) -> io::Result<usize> {
    let mut remaining = 0;
    // Opening the directory anew makes the listing start at the first entry. The buffer is small because it may be on
    // the stack of a signal handler.
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
            ClientFile::Origin => FileType::RegularFile,
        };
        if is_ours(&stat, kind) && is_left(&id, file) {
            directory::remove(&clients, file_name)?;
            tracing::debug!(file = file_name, "removed a file that a client left");
        } else {
            remaining += 1;
        }
    }
    Ok(remaining)
}

/// Checks that a directory contains nothing but the entries `expected`, after the known files were removed.
pub(crate) fn check_nothing_left_but(directory: impl AsFd, path: &Path, expected: &[&str]) -> Result<()> {
    let failed = |errno: Errno| Error::io(Operation::List, path.display().to_string(), errno);
    for entry in Dir::read_from(&directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let file_name = entry.file_name().to_bytes();
        if !is_expected(file_name, expected) {
            let shown = path.join(String::from_utf8_lossy(file_name).as_ref());
            let detail = "the file was not created by a parlour server or client";
            return Err(Error::new(ErrorKind::UnsafeDirectory, Operation::Remove, shown.display().to_string(), detail)
                .next("find out which process created it, then remove it"));
        }
    }
    Ok(())
}

/// Returns true if a directory contains nothing but entries with the names `expected`. Does not allocate memory.
pub(crate) fn has_nothing_but(directory: impl AsFd, expected: &[&str]) -> io::Result<bool> {
    let directory = openat(&directory, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(&directory, &mut buffer);
    while let Some(entry) = entries.next() {
        if !is_expected(entry?.file_name().to_bytes(), expected) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns true if an entry of a directory is the directory itself, its parent, or one of `expected`.
fn is_expected(file_name: &[u8], expected: &[&str]) -> bool {
    [".", ".."].iter().chain(expected).any(|name| name.as_bytes() == file_name)
}

fn is_ours(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind && stat.st_uid == rustix::process::geteuid().as_raw()
}
