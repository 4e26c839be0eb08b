//! The faults of a peer and what follows from its seed, without I/O.

use std::time::Duration;

use super::random::Random;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::transport::Transport;
use crate::wire::frame;
use crate::wire::pieces::Marker;

/// The maximum length of a piece, in bytes. Every socket takes a datagram of this length.
const PIECE_MAX: usize = 32 * 1024;

/// The maximum length of junk, in bytes.
const JUNK_MAX: usize = 64;

/// The faults of one side of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    random: Random,
    pub(crate) delay_max: Duration,
    pub(crate) is_in_pieces: bool,
    /// The number of messages until the end.
    pub(crate) left: Option<u64>,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), delay_max: Duration::ZERO, is_in_pieces: false, left: None }
    }

    /// Returns the time to wait, or `None` without a delay.
    pub(crate) fn delay(&mut self) -> Option<Duration> {
        if self.delay_max.is_zero() {
            return None;
        }
        let max = u64::try_from(self.delay_max.as_nanos()).unwrap_or(u64::MAX);
        Some(Duration::from_nanos(self.random.at_most(max)))
    }

    /// Counts a message.
    pub(crate) fn count(&mut self) {
        self.left = self.left.map(|left| left.saturating_sub(1));
    }

    /// Returns true if the connection must end now.
    pub(crate) fn is_over(&self) -> bool {
        self.left == Some(0)
    }

    /// Returns what has to be written one after the other for this message.
    pub(crate) fn pieces(&mut self, transport: Transport, message: &[u8]) -> Result<Vec<Vec<u8>>> {
        let frame = match transport {
            Transport::Packet => message.to_vec(),
            _ => framed(transport, message, false)?,
        };
        let mut pieces = Vec::new();
        let mut rest = &frame[..];
        loop {
            let (piece, behind) = rest.split_at(self.random.up_to(rest.len().min(PIECE_MAX)).min(rest.len()));
            rest = behind;
            let marker = if rest.is_empty() { Marker::Last } else { Marker::More };
            pieces.push(match transport {
                Transport::Packet => [piece, marker.bytes()].concat(),
                _ => piece.to_vec(),
            });
            if rest.is_empty() {
                return Ok(pieces);
            }
        }
    }

    /// Returns the part of this message that is written before the end within it.
    pub(crate) fn beginning(&mut self, transport: Transport, message: &[u8]) -> Result<Vec<u8>> {
        let mut frame = framed(transport, message, true)?;
        match transport {
            // A datagram is whole: its marker says that more pieces follow.
            Transport::Packet => drop(frame.drain(self.random.up_to(frame.len()) - 1..frame.len() - 1)),
            // At least the last byte is missing.
            _ => frame.truncate(self.random.up_to(frame.len() - 1)),
        }
        Ok(frame)
    }

    /// Returns up to 64 bytes.
    pub(crate) fn junk(&mut self) -> Vec<u8> {
        let length = self.random.up_to(JUNK_MAX);
        (0..length).map(|_| self.random.next() as u8).collect()
    }
}

/// Returns a message as it is written: a frame, or one datagram, which says that more follows if `is_cut`.
fn framed(transport: Transport, message: &[u8], is_cut: bool) -> Result<Vec<u8>> {
    if transport == Transport::Packet {
        let marker = if is_cut { Marker::More } else { Marker::Last };
        let piece = &message[..message.len().min(PIECE_MAX)];
        return Ok([piece, marker.bytes()].concat());
    }
    let header = frame::header(message.len()).ok_or_else(|| {
        Error::new(ErrorKind::MessageTooLong, Operation::Send, "a peer", "no frame has more than 2 GiB - 1")
            .next("send a shorter message")
    })?;
    Ok([&header, message].concat())
}

/// Creates the error for calls after the faults have ended the connection.
pub(crate) fn ended() -> Error {
    Error::new(ErrorKind::Disconnected, Operation::Send, "the peer", "this side was told to end before")
        .next("check how many messages `end_after` allows")
}
