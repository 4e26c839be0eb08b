//! The direction from the local side to the peer.

use std::os::fd::AsFd;

use anyhow::Context as _;
use parlour::{Connection, ErrorKind, TrySendError};
use rustix::event::PollFlags;

use super::source::Source;
use super::watched::{Watched, Whose};
use crate::exit::{self, Failure};
use crate::lines::{Framing, Splitter};

/// The maximum length of a message of raw output in bytes, if the connection does not limit it further.
const RAW_MESSAGE_BYTES: usize = 64 * 1024;

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
    state: State,
    /// True if the connection has written everything that it was given.
    flushed: bool,
    /// True if the peer disconnected without reading everything.
    unread: bool,
    /// The number of bytes that the connection has buffered for the next write.
    fed: usize,
}

/// The state of this direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The next message can be sent.
    Free,
    /// Sending would block.
    Blocked,
    /// The sending direction was closed, or the peer has disconnected.
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
            messages: Splitter::new(framing, message_max.min(RAW_MESSAGE_BYTES)),
            framing,
            message_max,
            state: State::Free,
            flushed: true,
            unread: false,
            fed: 0,
        }
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
        }
    }

    /// Sends messages until none is left or sending would block. After the last message, half-closes the connection.
    /// Returns the state of the peer.
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
        if self.framing == Framing::Lines && self.messages.len() > self.message_max {
            let message = format!(
                "a line is longer than the limit of {} bytes; raise the limit (--message-max)",
                self.message_max
            );
            return Err(Failure::new(exit::TOO_LONG, message).into());
        }
        if self.messages.has_ended() {
            self.state = State::Over;
            if let Err(error) = connection.finish() {
                return gone_or_failed(error);
            }
        }
        Ok(Peer::There)
    }

    /// Passes every whole message to the connection. Returns false if sending would block.
    fn try_send(&mut self, connection: &mut Connection) -> parlour::Result<bool> {
        while let Some(message) = self.messages.peek() {
            self.flushed = false;
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
        if let Some(source) = &mut self.source
            && !source.read_some(&mut self.messages).context("reading")?
        {
            self.messages.end();
            self.source = None;
        }
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

/// Converts a disconnect into [`Peer::Gone`], and returns every other error.
fn gone_or_failed(error: parlour::Error) -> anyhow::Result<Peer> {
    if error.kind() == ErrorKind::Disconnected { Ok(Peer::Gone) } else { Err(error.into()) }
}
