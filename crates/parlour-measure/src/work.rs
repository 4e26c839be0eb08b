//! What the two ends do with each other.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a server is there for, and what its clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// One client sends a message and waits for it to come back, again and again.
    RoundTrip {
        /// Bytes of the message.
        size: usize,
    },
    /// One client sends one way. The server answers each `batch` messages with one of at most 64 bytes.
    Stream {
        /// Bytes of the message.
        size: usize,
        /// Messages for which there is one answer.
        batch: u64,
    },
    /// One client after the other connects, has one message come back, and goes.
    Connect {
        /// Bytes of the message.
        size: usize,
    },
    /// This many clients at once are served by one thread. Each sends a message, then each receives it back.
    Crowd {
        /// Bytes of the message.
        size: usize,
        /// How many there are.
        clients: usize,
    },
}

impl Work {
    /// Bytes of the message.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::RoundTrip { size }
            | Self::Stream { size, .. }
            | Self::Connect { size }
            | Self::Crowd { size, .. } => size,
        }
    }

    /// What it is called on the command line and in results.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::RoundTrip { .. } => "roundtrip",
            Self::Stream { .. } => "stream",
            Self::Connect { .. } => "connect",
            Self::Crowd { .. } => "crowd",
        }
    }

    /// Streaming with as many messages to an answer as make the answer's own time small: for the fastest, with the
    /// shortest, a hundredth of the whole. For the slowest such a batch takes a twentieth of a second.
    #[must_use]
    pub fn stream_of(size: usize) -> Self {
        let batch = (8 << 20) / size.max(1) as u64;
        Self::Stream { size, batch: batch.clamp(4, 16_384) }
    }

    /// How many operations one sample consists of.
    pub(crate) fn operations_each(self) -> u64 {
        match self {
            Self::RoundTrip { .. } | Self::Connect { .. } => 1,
            Self::Stream { batch, .. } => batch,
            Self::Crowd { clients, .. } => clients as u64,
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crowd { clients, .. } => write!(f, "{}/{clients}", self.kind()),
            _ => write!(f, "{}/{}", self.kind(), Size(self.size())),
        }
    }
}

/// Answer of a server to a batch of streamed messages.
pub const DONE: &[u8] = b"done";

/// A length as people write it: `64`, `4KiB`, `1MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub usize);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0"),
            bytes if bytes % (1 << 20) == 0 => write!(f, "{}MiB", bytes >> 20),
            bytes if bytes % (1 << 10) == 0 => write!(f, "{}KiB", bytes >> 10),
            bytes => bytes.fmt(f),
        }
    }
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let shift = match text[digits..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kib" => 10,
            "m" | "mib" => 20,
            _ => return Err(format!("{text} is no length: use bytes, or a number with KiB or MiB")),
        };
        let number: usize = text[..digits].parse().map_err(|error| format!("{text} is no length: {error}"))?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(|| format!("{text} is too long"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_they_are_written() {
        for (text, bytes) in [("64", 64), ("4KiB", 4096), ("64KiB", 65536), ("1MiB", 1 << 20), ("16MiB", 16 << 20)] {
            assert_eq!(text.parse(), Ok(Size(bytes)));
            assert_eq!(Size(bytes).to_string(), text);
        }
        assert_eq!("4k".parse(), Ok(Size(4096)));
        assert_eq!("64 B".parse(), Ok(Size(64)));
        assert!("4 furlongs".parse::<Size>().is_err() && "KiB".parse::<Size>().is_err());
    }

    #[test]
    fn the_longest_messages_stream_in_batches_of_a_few() {
        assert_eq!(Work::stream_of(16 << 20), Work::Stream { size: 16 << 20, batch: 4 });
        assert!(matches!(Work::stream_of(64), Work::Stream { batch: 10_000.., .. }));
    }
}
