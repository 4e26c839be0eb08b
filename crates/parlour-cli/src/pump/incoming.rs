//! From the peer to our side.

use std::os::fd::AsFd;

use anyhow::Context as _;
use parlour::{Connection, ErrorKind, TryRecvError};
use rustix::event::PollFlags;

use super::outgoing::Peer;
use super::sink::Sink;
use super::watched::{Watched, Whose};
use crate::lines::Framing;

/// How much may wait for the sink before no more is received: the size of a pipe's buffer.
const SINK_BYTES_MAX: usize = 64 * 1024;

/// What is received and written at our side.
pub(super) struct Incoming {
    /// `None` once nobody reads it: what still comes is dropped then, so that the peer can reach the end of what it
    /// wants to say.
    sink: Option<Sink>,
    framing: Framing,
    /// The end of what the peer says is the end of a program's input; our own stdout stays open.
    sink_ends_with_peer: bool,
    receiving: bool,
}

impl Incoming {
    pub(super) fn new(sink: Sink, framing: Framing, sink_ends_with_peer: bool) -> Incoming {
        Incoming { sink: Some(sink), framing, sink_ends_with_peer, receiving: true }
    }

    /// Whether the peer said everything and the sink took it.
    pub(super) fn is_over(&self) -> bool {
        !self.receiving && self.is_delivered()
    }

    /// Whether nothing waits for the sink.
    pub(super) fn is_delivered(&self) -> bool {
        self.sink.as_ref().is_none_or(Sink::is_empty)
    }

    /// Whether nobody reads what is written.
    pub(super) fn is_unread(&self) -> bool {
        self.sink.is_none()
    }

    /// Whether there is room for more messages.
    pub(super) fn wants_messages(&self) -> bool {
        self.receiving && self.sink.as_ref().is_none_or(|sink| sink.len() < SINK_BYTES_MAX)
    }

    /// Watches the connection while there is room for messages, and the sink for room and for its end.
    pub(super) fn watch<'a>(&'a self, connection: &'a Connection, watched: &mut Watched<'a>) {
        if self.wants_messages() {
            watched.add(Whose::Recv, connection.recv_fd(), PollFlags::IN);
        }
        if let Some(sink) = &self.sink {
            let flags = if sink.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            watched.add(Whose::Sink, sink.as_fd(), flags);
        }
    }

    /// Receives what has arrived, as far as there is room.
    pub(super) fn receive(&mut self, connection: &mut Connection) -> anyhow::Result<Peer> {
        loop {
            match connection.try_recv() {
                Ok(Some(message)) => {
                    if let Some(sink) = &mut self.sink {
                        sink.push(&message, self.framing);
                    }
                }
                Ok(None) => self.nothing_more_comes(),
                Err(TryRecvError::Empty) => return Ok(Peer::There),
                Err(TryRecvError::Failed(error)) if error.kind() == ErrorKind::Disconnected => {
                    self.nothing_more_comes();
                    return Ok(Peer::GoneWithoutReading);
                }
                Err(TryRecvError::Failed(error)) => return Err(error.into()),
            }
            if !self.wants_messages() || !connection.has_message() {
                return Ok(Peer::There);
            }
        }
    }

    fn nothing_more_comes(&mut self) {
        self.receiving = false;
        self.close_sink_when_done();
    }

    fn close_sink_when_done(&mut self) {
        if self.sink_ends_with_peer && self.is_over() {
            self.sink = None;
        }
    }

    /// Writes once to the sink, which takes something.
    pub(super) fn write(&mut self) -> anyhow::Result<()> {
        if let Some(sink) = &mut self.sink
            && !sink.write_some().context("writing")?
        {
            self.sink = None;
        }
        self.close_sink_when_done();
        Ok(())
    }

    /// Nobody reads what is written, from now on.
    pub(super) fn drop_sink(&mut self) {
        self.sink = None;
    }
}
