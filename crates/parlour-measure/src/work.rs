//! The kinds of work that the two ends do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind of work for a server and its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// One client repeatedly sends a message and waits for its return.
    RoundTrip {
        /// The length of the message in bytes.
        size: usize,
    },
    /// One client sends messages one way. The server answers every `batch` messages with one of at most 64 bytes.
    Stream {
        /// The length of the message in bytes.
        size: usize,
        /// The number of messages for which the server sends one answer.
        batch: u64,
    },
    /// One client after the other connects, makes one round trip, and disconnects.
    Connect {
        /// The length of the message in bytes.
        size: usize,
    },
    /// One thread serves this many clients at the same time. Each client sends a message, then each receives it back.
    Crowd {
        /// The length of the message in bytes.
        size: usize,
        /// The number of clients.
        clients: usize,
    },
    /// Threads that share one connection each send a message and wait for its return, many times.
    Calls {
        /// The length of the message in bytes.
        size: usize,
        /// The number of threads.
        threads: usize,
        /// The time in microseconds that the server waits before it answers a request, while it takes others: for a
        /// disk, another service, a lock.
        wait_us: u64,
    },
}

impl Work {
    /// Returns the length of the message in bytes.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::RoundTrip { size }
            | Self::Stream { size, .. }
            | Self::Connect { size }
            | Self::Crowd { size, .. }
            | Self::Calls { size, .. } => size,
        }
    }

    /// Returns the name on the command line and in results.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::RoundTrip { .. } => "roundtrip",
            Self::Stream { .. } => "stream",
            Self::Connect { .. } => "connect",
            Self::Crowd { .. } => "crowd",
            Self::Calls { wait_us: 0, .. } => "threads",
            Self::Calls { .. } => "waits",
        }
    }

    /// Returns one-way work with batches large enough that the time of the answer is small: a hundredth of the whole
    /// for the fastest contender with the shortest messages. The slowest contender takes a twentieth of a second for a
    /// batch.
    #[must_use]
    pub fn stream_of(size: usize) -> Self {
        let batch = (8 << 20) / size.max(1) as u64;
        Self::Stream { size, batch: batch.clamp(4, 16_384) }
    }

    /// Returns the number of operations in one sample.
    pub(crate) fn operations_each(self) -> u64 {
        match self {
            Self::RoundTrip { .. } | Self::Connect { .. } => 1,
            Self::Stream { batch, .. } => batch,
            Self::Crowd { clients, .. } => clients as u64,
            Self::Calls { threads, .. } => threads as u64 * self.calls_of_a_thread(),
        }
    }

    /// Returns the number of round trips of each thread in a sample. Starting the threads then takes about a hundredth
    /// of the time.
    pub(crate) fn calls_of_a_thread(self) -> u64 {
        match self {
            Self::Calls { wait_us: 1.., .. } => 50,
            _ => 1_000,
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crowd { clients, .. } => write!(f, "{}/{clients}", self.kind()),
            Self::Calls { threads, .. } => write!(f, "{}/{threads}", self.kind()),
            _ => write!(f, "{}/{}", self.kind(), Size(self.size())),
        }
    }
}

/// The answer of a server to a batch of one-way messages.
pub const DONE: &[u8] = b"done";

/// A length in the notation of the command line: `64`, `4KiB`, `1MiB`.
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
            _ => return Err(format!("{text} is not a length: give a number of bytes, or a number with KiB or MiB")),
        };
        let number: usize = text[..digits].parse().map_err(|error| format!("{text} is not a length: {error}"))?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(|| format!("{text} is too large"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parsed_size_is_displayed_as_it_was_written() {
        for (text, bytes) in [("64", 64), ("4KiB", 4096), ("64KiB", 65536), ("1MiB", 1 << 20), ("16MiB", 16 << 20)] {
            assert_eq!(text.parse(), Ok(Size(bytes)));
            assert_eq!(Size(bytes).to_string(), text);
        }
        assert_eq!("4k".parse(), Ok(Size(4096)));
        assert_eq!("64 B".parse(), Ok(Size(64)));
        assert!("4 furlongs".parse::<Size>().is_err() && "KiB".parse::<Size>().is_err());
    }

    #[test]
    fn batches_are_small_for_long_messages_and_large_for_short_ones() {
        assert_eq!(Work::stream_of(16 << 20), Work::Stream { size: 16 << 20, batch: 4 });
        assert!(matches!(Work::stream_of(64), Work::Stream { batch: 10_000.., .. }));
    }
}
