//! The reason why a client is refused because of a file of its own.

use std::fmt;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::admission::RefusalReason;
use crate::name::directory;

/// The reason why a client is refused because of its file.
#[derive(Debug)]
pub(super) enum BadClientFile {
    Absent,
    NotASocket(FileType),
    Mode(u32),
    Owner(u32),
    Io(Errno),
    /// The file that shows the origin is not valid.
    BadOrigin(&'static str),
}

impl BadClientFile {
    /// Returns the reason of the refusal.
    pub(super) fn reason(&self) -> RefusalReason {
        match self {
            // The client tries again.
            Self::Io(Errno::MFILE | Errno::NFILE) => RefusalReason::Descriptors,
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
            Self::BadOrigin(why) => write!(f, "the file with the origin of the client {why}"),
        }
    }
}
