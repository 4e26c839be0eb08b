//! The direction from the local side to the peer.

use std::os::fd::AsFd;

use anyhow::Context as _;
use parlour::{Connection, ErrorKind, TrySendError};
use rustix::event::PollFlags;

use super::source::Source;
use super::watched::{Watched, Whose};
use crate::exit::{self, Failure};
use crate::lines::{Fault, Framing, Splitter};

/// The number of bytes that are fed to the connection before it is flushed. This is well below the 64 KiB at which
/// `feed` writes by itself, and blocks.
const FEED_BYTES_MAX: usize = 32 * 1024;

/// An upper bound for the framing overhead of a message in bytes.
const FRAME_BYTES: usize = 16;

/// Reads from the local source and sends messages to the peer.
pub(super) struct Outgoing {
    /// `None` once nothing more is read.
    source: Option<Source>,
    /// The bytes that were read and not yet passed to the connection.
    messages: Splitter,
    framing: Framing,
    message_max: usize,
    /// True if the connection stays open after the last message.
    stays_open: bool,
    /// True if a zero byte was read.
    is_binary: bool,
    state: State,
    /// True if the connection has written everything that it was given.
    flushed: bool,
    /// True if the peer disconnected without reading everything.
    unread: bool,
    /// The number of bytes that the connection has buffered for the next write.
    fed: usize,
    /// The number of messages that were passed to the connection, and of times that it had space again.
    progress: u64,
    /// The length of the longest message that was passed to it or refused by it, in bytes.
    longest: usize,
}

/// The state of this direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The next message can be sent.
    Free,
    /// Sending would block.
    Blocked,
    /// The last message was sent, or the peer has disconnected.
    Over,
}

/// The state of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// It is connected.
    There,
    /// It has disconnected.
    Gone,
    /// It has disconnected without reading everything, as far as the transport can tell.
    GoneWithoutReading,
}

impl Outgoing {
    pub(super) fn new(source: Source, framing: Framing, message_max: usize) -> Outgoing {
        Outgoing {
            source: Some(source),
            messages: Splitter::new(framing, message_max),
            framing,
            message_max,
            stays_open: false,
            is_binary: false,
            state: State::Free,
            flushed: true,
            unread: false,
            fed: 0,
            progress: 0,
            longest: 0,
        }
    }

    /// Keeps the connection open after the last message, if `stays_open` is true. Otherwise it is half-closed.
    pub(super) fn staying_open(self, stays_open: bool) -> Outgoing {
        Outgoing { stays_open, ..self }
    }

    /// Returns the number of messages that were passed to the connection, and of times that it had space again.
    pub(super) fn progress(&self) -> u64 {
        self.progress
    }

    /// Returns the length of the longest message that was passed to the connection or refused by it, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Returns true if the source is read as lines although it has NUL bytes, as no text has.
    pub(super) fn is_doubtful(&self) -> bool {
        self.framing == Framing::Lines && self.is_binary
    }

    /// Returns true if the peer must read before more can be sent.
    pub(super) fn is_blocked(&self) -> bool {
        self.state == State::Blocked
    }

    /// Returns true if the connection was half-closed, so that the peer is expected to end its direction, too.
    pub(super) fn is_half_closed(&self) -> bool {
        self.is_over() && !self.stays_open
    }

    /// Returns true if nothing more will be sent.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Returns true if the source was at end of file, everything was sent, and nothing is known to be unread.
    pub(super) fn is_all_sent(&self) -> bool {
        self.messages.has_ended() && self.messages.is_empty() && self.flushed && !self.unread
    }

    /// Watches the connection for space and for a disconnected peer, and the source while more can be sent.
    pub(super) fn watch<'a>(&'a self, connection: &'a Connection, watched: &mut Watched<'a>) {
        if let Some(fd) = connection.send_fd()
            && !self.is_over()
        {
            let flags = if self.state == State::Blocked { PollFlags::OUT } else { PollFlags::empty() };
            watched.add(Whose::Send, fd, flags);
        }
        if let Some(source) = &self.source
            && self.state == State::Free
        {
            watched.add(Whose::Source, source.as_fd(), PollFlags::IN);
        }
    }

    /// Handles a connection that has become writable.
    pub(super) fn room(&mut self) {
        if self.state == State::Blocked {
            self.state = State::Free;
            self.progress += 1;
        }
    }

    /// Sends messages until none is left or sending would block. After the last message, half-closes the connection
    /// unless it stays open. Returns the state of the peer.
    pub(super) fn send(&mut self, connection: &mut Connection) -> anyhow::Result<Peer> {
        if self.state != State::Free {
            return Ok(Peer::There);
        }
        match self.try_send(connection) {
            Ok(true) => {}
            Ok(false) => {
                self.state = State::Blocked;
                return Ok(Peer::There);
            }
            Err(error) => return gone_or_failed(error),
        }
        if let Some(fault) = self.messages.fault() {
            return Err(failure(fault, self.framing, self.message_max).into());
        }
        if self.messages.has_ended() {
            self.state = State::Over;
            if !self.stays_open
                && let Err(error) = connection.finish()
            {
                return gone_or_failed(error);
            }
        }
        Ok(Peer::There)
    }

    /// Passes every whole message to the connection. Returns false if sending would block.
    fn try_send(&mut self, connection: &mut Connection) -> parlour::Result<bool> {
        while let Some(message) = self.messages.peek() {
            self.flushed = false;
            self.longest = self.longest.max(message.len());
            // Many small messages are buffered for one write, which is several times faster.
            if self.fed + message.len() < FEED_BYTES_MAX {
                connection.feed(message)?;
                self.fed += message.len() + FRAME_BYTES;
            } else if self.fed > 0 {
                if !self.flush(connection)? {
                    return Ok(false);
                }
                continue;
            } else {
                match connection.try_send(message) {
                    Ok(()) => {}
                    Err(TrySendError::Full(_)) => return Ok(false),
                    Err(TrySendError::Failed(error)) => return Err(error),
                }
            }
            self.progress += 1;
            self.messages.consume();
        }
        self.flush(connection)
    }

    /// Writes what the connection has buffered. Returns true if nothing is left.
    fn flush(&mut self, connection: &mut Connection) -> parlour::Result<bool> {
        self.flushed = match connection.try_flush() {
            Ok(()) => true,
            Err(TrySendError::Full(())) => false,
            Err(TrySendError::Failed(error)) => return Err(error),
        };
        if self.flushed {
            self.fed = 0;
        }
        Ok(self.flushed)
    }

    /// Reads once from the source, which `poll` reported as readable.
    pub(super) fn read(&mut self) -> anyhow::Result<()> {
        let before = self.messages.len();
        if let Some(source) = &mut self.source
            && !source.read_some(&mut self.messages).context("reading")?
        {
            self.messages.end();
            self.source = None;
        }
        self.is_binary = self.is_binary || self.messages.has_zero_since(before);
        Ok(())
    }

    /// Reads the available bytes and treats them as the last ones. It does not read to the end of the stream, which a
    /// child of the program may keep open for ever.
    pub(super) fn read_the_last(&mut self) -> anyhow::Result<()> {
        if let Some(mut source) = self.source.take() {
            source.read_what_is_there(&mut self.messages).context("reading the remaining output of the program")?;
            self.messages.end();
        }
        Ok(())
    }

    /// Records that the peer disconnected without reading everything.
    pub(super) fn was_not_all_read(&mut self) {
        self.unread = true;
    }

    /// Stops sending, because the peer has disconnected.
    pub(super) fn give_up(&mut self) -> anyhow::Result<()> {
        // `is_all_sent` depends on the end of the source, so check once if the source is at end of file.
        if self.source.as_ref().is_some_and(Source::is_readable_now) {
            self.read()?;
        }
        self.source = None;
        self.state = State::Over;
        Ok(())
    }
}

/// Returns the error for a source that is not a sequence of messages.
pub(super) fn failure(fault: Fault, framing: Framing, limit: usize) -> Failure {
    match fault {
        Fault::TooLong => {
            let what = if framing == Framing::Lines { "line" } else { "message" };
            let or = if framing == Framing::Frames { ", or check that the data is in frames" } else { "" };
            let text =
                format!("a {what} is longer than the limit of {limit} bytes; raise the limit (--message-max){or}");
            Failure::new(exit::TOO_LONG, text)
        }
        Fault::PartialHeader => Failure::new(
            exit::OTHER,
            "the input ends inside a frame, in the 4 bytes of its length; that message was not sent",
        ),
        Fault::PartialFrame { there, length } => Failure::new(
            exit::OTHER,
            format!(
                "the input ends inside a frame, after {there} of {length} bytes; that message was not sent; each \
                 message must follow its length, a big-endian number of 4 bytes"
            ),
        ),
    }
}

/// Converts a disconnect into [`Peer::Gone`], and returns every other error.
fn gone_or_failed(error: parlour::Error) -> anyhow::Result<Peer> {
    if error.kind() == ErrorKind::Disconnected { Ok(Peer::Gone) } else { Err(error.into()) }
}
