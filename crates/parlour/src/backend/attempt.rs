//! Outcomes of an attempt to connect.

use crate::admission::Permit;
use crate::error::{Error, ErrorKind, Operation};
use crate::peer::Peer;

/// Why an attempt to connect failed, for the caller to decide what to do next.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// Nobody is there; somebody may be elsewhere, or later.
    Absent(Error),
    /// Somebody is there and has no time; try again soon.
    Again(Error),
    /// Trying again cannot help.
    Failed(Error),
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The progress of an attempt to connect: `T` has been made, or the handshake `H` has to go on.
pub(crate) enum Progress<T, H> {
    Done(T),
    /// The server has to answer first.
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

/// What a client is told whom the server cannot take in, because something of its own failed.
pub(super) fn failed_there(path: &str) -> Error {
    Error::new(
        ErrorKind::Busy,
        Operation::Connect,
        path,
        "the server could not let us in, because something failed on its side",
    )
    .next("try again; if it goes on, look at the server's log")
}
