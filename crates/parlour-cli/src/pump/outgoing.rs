//! From our side to the peer.

use std::os::fd::AsFd;

use anyhow::Context as _;
use parlour::{Connection, ErrorKind, TrySendError};
use rustix::event::PollFlags;

use super::source::Source;
use super::watched::{Watched, Whose};
use crate::exit::{self, Failure};
use crate::lines::{Framing, Splitter};

/// The longest message that raw output is cut into, if the connection takes that.
const RAW_MESSAGE_BYTES: usize = 64 * 1024;

/// How much is fed to the connection before it is flushed. Well below the 64 KiB at which `feed` writes by itself and
/// waits for that.
const FEED_BYTES_MAX: usize = 32 * 1024;

/// What a message takes on the wire beside its bytes, or a little more.
const FRAME_BYTES: usize = 16;

/// What is read at our side and sent.
pub(super) struct Outgoing {
    /// `None` once nothing more will be read.
    source: Option<Source>,
    /// What was read and not yet given to the connection.
    messages: Splitter,
    framing: Framing,
    message_max: usize,
    state: State,
    /// Whether the connection passed everything on that it was given.
    flushed: bool,
    /// The peer went without having read all of it.
    unread: bool,
    /// How many bytes the connection gathers for the next write.
    fed: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The next message can be tried.
    Free,
    /// The connection takes nothing at present.
    Blocked,
    /// We said that nothing more will come, or nobody wants it.
    Over,
}

/// Whether the peer still receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    There,
    Gone,
    /// It went without having read all that it was sent, as far as the transport can tell.
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

    /// Whether nothing more will be sent.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Whether the source was at its end, nothing is left to be sent, and nothing is known to be unread.
    pub(super) fn is_all_sent(&self) -> bool {
        self.messages.has_ended() && self.messages.is_empty() && self.flushed && !self.unread
    }

    /// Watches the connection for room and for a peer that reads no more, and the source while more can be sent.
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

    /// The connection has room again.
    pub(super) fn room(&mut self) {
        if self.state == State::Blocked {
            self.state = State::Free;
        }
    }

    /// Sends until nothing is left or the connection takes no more; says so when nothing more will come.
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
            let message = format!("a line is longer than a message may be, {} bytes", self.message_max);
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

    /// Gives every whole message to the connection; false when it takes no more at present.
    fn try_send(&mut self, connection: &mut Connection) -> parlour::Result<bool> {
        while let Some(message) = self.messages.peek() {
            self.flushed = false;
            // Small messages are gathered: many of them in one write are several times faster.
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

    /// Whether everything that the connection was given is on its way.
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

    /// Reads once from the source, which is readable.
    pub(super) fn read(&mut self) -> anyhow::Result<()> {
        if let Some(source) = &mut self.source
            && !source.read_some(&mut self.messages).context("reading")?
        {
            self.messages.end();
            self.source = None;
        }
        Ok(())
    }

    /// Reads what is there, and takes that for the end. Not to the end of the stream, which a process that the program
    /// left behind may keep open for good.
    pub(super) fn read_the_last(&mut self) -> anyhow::Result<()> {
        if let Some(mut source) = self.source.take() {
            source.read_what_is_there(&mut self.messages).context("reading the program's last output")?;
            self.messages.end();
        }
        Ok(())
    }

    /// The peer went without having read all that it was sent.
    pub(super) fn was_not_all_read(&mut self) {
        self.unread = true;
    }

    /// Nobody wants more.
    pub(super) fn give_up(&mut self) -> anyhow::Result<()> {
        // Whether more was to be said makes a difference, so look once whether the source is at its end by now.
        if self.source.as_ref().is_some_and(Source::is_readable_now) {
            self.read()?;
        }
        self.source = None;
        self.state = State::Over;
        Ok(())
    }
}

/// A peer that went away is an event of its own; anything else that keeps a message from being sent is an error.
fn gone_or_failed(error: parlour::Error) -> anyhow::Result<Peer> {
    if error.kind() == ErrorKind::Disconnected { Ok(Peer::Gone) } else { Err(error.into()) }
}
