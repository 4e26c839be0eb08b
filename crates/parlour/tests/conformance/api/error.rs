//! What the APIs say when something fails.

use std::fmt;

use parlour::{ErrorKind, Owner};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug)]
pub enum Error {
    Parlour(parlour::Error),
    /// The deadline has passed, where not the library but this front has set it.
    TimedOut,
    /// What the library has said, to be said again.
    Told(ErrorKind, String),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Parlour(error) => error.kind(),
            Self::TimedOut => ErrorKind::TimedOut,
            Self::Told(kind, _) => *kind,
        }
    }

    pub fn holder(&self) -> Option<&Owner> {
        match self {
            Self::Parlour(error) => error.holder(),
            Self::TimedOut | Self::Told(..) => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parlour(error) => error.fmt(f),
            Self::TimedOut => f.write_str("not before the deadline"),
            Self::Told(_, text) => f.write_str(text),
        }
    }
}

impl From<parlour::Error> for Error {
    fn from(error: parlour::Error) -> Self {
        Self::Parlour(error)
    }
}

#[derive(Debug)]
pub enum TryRecvError {
    Empty,
    Failed(Error),
}

impl TryRecvError {
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Returns the kind of a failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Empty => panic!("nothing had arrived"),
            Self::Failed(error) => error.kind(),
        }
    }
}

impl<M> TrySendError<M> {
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }
}

impl From<parlour::TryRecvError> for TryRecvError {
    fn from(error: parlour::TryRecvError) -> Self {
        match error {
            parlour::TryRecvError::Empty => Self::Empty,
            parlour::TryRecvError::Failed(error) => Self::Failed(error.into()),
        }
    }
}

#[derive(Debug)]
pub enum TrySendError<M> {
    Full(M),
    Failed(Error),
}

impl<M> From<parlour::TrySendError<M>> for TrySendError<M> {
    fn from(error: parlour::TrySendError<M>) -> Self {
        match error {
            parlour::TrySendError::Full(message) => Self::Full(message),
            parlour::TrySendError::Failed(error) => Self::Failed(error.into()),
        }
    }
}
