//! The errors of all APIs.

use std::fmt;

use parlour::{ErrorKind, Owner};

use crate::support::wait::HasKind;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug)]
pub enum Error {
    Parlour(parlour::Error),
    /// The deadline of this front has expired. The library did not set it.
    TimedOut,
    /// The kind and text of an error that the hub's thread reported, which can be returned repeatedly.
    Reported(ErrorKind, String),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Parlour(error) => error.kind(),
            Self::TimedOut => ErrorKind::TimedOut,
            Self::Reported(kind, _) => *kind,
        }
    }

    pub fn holder(&self) -> Option<&Owner> {
        match self {
            Self::Parlour(error) => error.holder(),
            Self::TimedOut | Self::Reported(..) => None,
        }
    }
}

impl HasKind for Error {
    fn kind(&self) -> ErrorKind {
        self.kind()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parlour(error) => error.fmt(f),
            Self::TimedOut => f.write_str("the deadline has expired"),
            Self::Reported(_, text) => f.write_str(text),
        }
    }
}

impl From<parlour::Error> for Error {
    /// Checks the text, so that every error of the suite is checked.
    #[track_caller]
    fn from(error: parlour::Error) -> Self {
        crate::support::assert_tells(&error);
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

    /// Returns the kind of a failure. Panics if the call would have blocked.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Empty => panic!("the call would have blocked"),
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
