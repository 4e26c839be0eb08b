//! Outcomes of an attempt to connect.

use rustix::fs::Stat;
use rustix::io::Errno;

use crate::admission::Permit;
use crate::error::{Error, ErrorKind, Operation};
use crate::name::{Found, directory};
use crate::peer::Peer;
use crate::wire::hello::Reason;

/// The failure of an attempt to connect, by whether another attempt can help.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// There is no server here. There may be one in another directory, or later.
    Absent(Error),
    /// The server exists but cannot take the client in at present. Another attempt soon may succeed.
    Again(Error),
    /// Another attempt cannot help.
    Failed(Error),
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The progress of an attempt to connect: the result `T`, or the handshake `H`, which is not complete.
pub(crate) enum Progress<T, H> {
    Done(T),
    /// The server has not answered yet.
    Waiting(H),
}

impl<T, H> Progress<T, H> {
    /// Converts both cases.
    pub(super) fn map<U, I>(self, done: impl FnOnce(T) -> U, waiting: impl FnOnce(H) -> I) -> Progress<U, I> {
        match self {
            Self::Done(made) => Progress::Done(done(made)),
            Self::Waiting(handshake) => Progress::Waiting(waiting(handshake)),
        }
    }
}

/// An established connection over one transport: its two directions, `O` and `I`.
pub(super) struct Established<O, I> {
    pub(super) outgoing: O,
    pub(super) incoming: I,
    pub(super) peer: Peer,
    /// The place among the connections that the server counts.
    pub(super) permit: Option<Permit>,
}

/// Creates the error for a client that the modes of the server's files exclude.
pub(super) fn private(found: &Found, path: &str, file: Option<&Stat>, errno: Errno) -> Error {
    let (what, stat, object) = match file {
        Some(file) => ("its socket", file, path.to_owned()),
        None => ("its directory", &found.stat, found.path.display().to_string()),
    };
    let detail = format!("the service admits only some users: {what} has {}", directory::owner_and_mode(stat));
    let step = "connect as that user, or have the server admit others (option mode, --mode 0666, or 0660 with a group)";
    Error::new(ErrorKind::Denied, Operation::Connect, object, detail).because(errno).next(step)
}

/// Creates the error for a client that the server refused for this reason.
pub(crate) fn refused(reason: Reason, operation: Operation, object: impl Into<String>) -> Error {
    match reason {
        Reason::Denied => {
            let detail = "the server rejected the connection: its policy or its rules do not admit this client";
            Error::new(ErrorKind::Refused, operation, object, detail).next(
                "look at the server's log for the reason; if it is the policy, have it admit this user (option allow)",
            )
        }
        Reason::Busy => {
            Error::new(ErrorKind::Busy, operation, object, "the server cannot accept more clients at present")
                .next("try again later, or raise the limits of the server")
        }
        Reason::Failed => {
            let detail = "the server could not accept the connection because a system call of it failed";
            Error::new(ErrorKind::Busy, operation, object, detail)
                .next("try again; if it fails repeatedly, look at the server's log")
        }
    }
}

impl Attempt {
    /// Creates the outcome for a client that the server refused for this reason.
    pub(super) fn refused(reason: Reason, path: &str) -> Self {
        let error = refused(reason, Operation::Connect, path);
        match reason {
            Reason::Denied => Self::Failed(error),
            Reason::Busy | Reason::Failed => Self::Again(error),
        }
    }
}
