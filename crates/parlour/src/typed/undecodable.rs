//! The reason why a message is not a value.

use std::fmt;

/// The reason why a message is not a valid value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Undecodable {
    Postcard(postcard::Error),
    /// The text of serde_json, in printable characters: it may quote the message.
    #[cfg(feature = "json")]
    Json(String),
    /// The message is not UTF-8.
    #[cfg(feature = "json")]
    NotText {
        /// The number of bytes before the first one that is not.
        at: usize,
    },
    /// The value exceeds a limit of [`Budget`](super::bounded::Budget).
    TooMuch(&'static str),
    /// The value ends before the message does.
    Surplus {
        bytes: usize,
    },
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postcard(reason) => reason.fmt(f),
            #[cfg(feature = "json")]
            Self::Json(reason) => f.write_str(reason),
            #[cfg(feature = "json")]
            Self::NotText { at } => write!(f, "JSON is UTF-8, and byte {at} (counted from 0) is not"),
            Self::TooMuch(what) => f.write_str(what),
            Self::Surplus { bytes } => write!(f, "{bytes} bytes follow the end of the value"),
        }
    }
}
