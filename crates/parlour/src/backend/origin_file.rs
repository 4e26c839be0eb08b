//! The file that shows the origin of a client. The client creates it before it connects, and the server reads and
//! removes it when it admits the client.
//!
//! The mark in the nonce of the client says that the file exists, so that other clients cost the server nothing. The
//! directory of the file belongs to the user of the server and is closed to others. Therefore the file is written by a
//! process of that user, or of root. The file of root belongs to root, so the user of the server must be able to read
//! it, which nobody else can reach in the closed directory. A chown(2) instead would take one more privilege.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, fchmod, fstat, openat};
use rustix::io::Errno;
use rustix::process::{Resource, geteuid, getrlimit};

use super::bad_client_file::BadClientFile;
use crate::name::NameGuard;
use crate::name::directory;
use crate::wire::client_file::{ClientFile, ClientId};
use crate::wire::origin::{Origin, TEXT_LEN_MAX};

/// The mode of the file.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// The mode of the file of root in the directory of another user.
const MODE_OF_ROOT: Mode = MODE.union(Mode::RGRP).union(Mode::ROTH);

/// Creates the file of this client in the directory of the user `server_uid`. An attempt that fails leaves no file.
pub(super) fn write(clients: &OwnedFd, server_uid: u32, id: &ClientId, text: &str) -> Result<(), Errno> {
    // Above this limit the kernel would raise SIGXFSZ.
    if getrlimit(Resource::Fsize).current.is_some_and(|limit| limit < text.len() as u64) {
        return Err(Errno::FBIG);
    }
    let file_name = id.file_name(ClientFile::Origin);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = if server_uid == geteuid().as_raw() { MODE } else { MODE_OF_ROOT };
    // The other user may rename or replace entries of the directory meanwhile, so everything is done to the open file.
    let file = openat(clients, &file_name, flags, mode)?;
    // The umask may have removed bits.
    let written = fchmod(&file, mode).and_then(|()| rustix::io::write(&file, text.as_bytes()));
    let failure = match written {
        Ok(count) if count == text.len() => return Ok(()),
        Ok(_) => Errno::NOSPC,
        Err(errno) => errno,
    };
    // The error of the write is the more important one.
    let _ = directory::remove(clients, &file_name);
    Err(failure)
}

/// Reads the file of a client in the directory of this server, and removes it, whatever it is.
pub(super) fn take(guard: &NameGuard, id: &ClientId) -> Result<Origin, BadClientFile> {
    let file_name = id.file_name(ClientFile::Origin);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let origin =
        openat(guard.clients(), &file_name, flags, Mode::empty()).map_err(cannot_open).and_then(|file| read(&file));
    if let Err(error) = directory::remove(guard.clients(), &file_name) {
        tracing::warn!(file = file_name, %error, "file of a client cannot be removed");
    }
    origin
}

fn cannot_open(errno: Errno) -> BadClientFile {
    match errno {
        Errno::NOENT => BadClientFile::BadOrigin("is missing"),
        Errno::LOOP => BadClientFile::BadOrigin("is a symbolic link"),
        Errno::NXIO => BadClientFile::BadOrigin("is not a regular file"),
        errno => BadClientFile::Io(errno),
    }
}

/// Checks the file and reads the origin.
fn read(file: &OwnedFd) -> Result<Origin, BadClientFile> {
    let stat = fstat(file).map_err(BadClientFile::Io)?;
    let is_of_root = stat.st_uid == 0 && !geteuid().is_root();
    let allowed = if is_of_root { MODE_OF_ROOT } else { MODE };
    let wrong = if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        Some("is not a regular file")
    } else if stat.st_uid != geteuid().as_raw() && !is_of_root {
        Some("belongs to another user")
    } else if stat.st_mode & 0o077 & !allowed.bits() != 0 {
        Some("is open to other users")
    } else if stat.st_nlink > 1 {
        Some("has another name")
    } else {
        None
    };
    if let Some(why) = wrong {
        return Err(BadClientFile::BadOrigin(why));
    }
    let mut text = [0; TEXT_LEN_MAX + 1];
    let mut length = 0;
    while length < text.len() {
        match rustix::io::read(file, &mut text[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(BadClientFile::Io(errno)),
        }
    }
    Origin::parse(&text[..length]).ok_or(BadClientFile::BadOrigin("does not state an origin"))
}
