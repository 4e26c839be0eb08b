//! The direction from the peer to the local side.

use std::os::fd::AsFd;

use anyhow::Context as _;
use parlour::{Connection, ErrorKind, TryRecvError};
use rustix::event::PollFlags;

use super::outgoing::Peer;
use super::sink::Sink;
use super::watched::{Watched, Whose};
use crate::lines::Framing;

/// The number of bytes that may wait for the sink before receiving pauses: the size of a pipe's buffer.
pub(super) const SINK_BYTES_MAX: usize = 64 * 1024;

/// The number of messages that are received in one go. The pump then looks after its other descriptors.
const BATCH_MAX: usize = 1024;

/// Receives messages from the peer and writes them to the local sink.
pub(super) struct Incoming {
    /// `None` once the sink is closed. Further messages are then dropped, so that the peer can finish sending.
    sink: Option<Sink>,
    framing: Framing,
    /// True if the sink is closed after the last message, as for the stdin of a program. The stdout of this process
    /// stays open.
    sink_ends_with_peer: bool,
    receiving: bool,
    /// The number of messages that were received.
    received: u64,
    /// The number of messages whose boundaries the reader of the sink cannot tell.
    inexact: u64,
}

impl Incoming {
    pub(super) fn new(sink: Sink, framing: Framing, sink_ends_with_peer: bool) -> Incoming {
        Incoming { sink: Some(sink), framing, sink_ends_with_peer, receiving: true, received: 0, inexact: 0 }
    }

    /// Returns the number of messages that were received.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Returns the number of messages that were written to the sink, but whose boundaries its reader cannot tell.
    pub(super) fn inexact(&self) -> u64 {
        self.inexact
    }

    /// Returns true if the peer has finished sending and everything was written to the sink.
    pub(super) fn is_over(&self) -> bool {
        !self.receiving && self.is_delivered()
    }

    /// Returns true if no bytes wait for the sink.
    pub(super) fn is_delivered(&self) -> bool {
        self.sink.as_ref().is_none_or(Sink::is_empty)
    }

    /// Returns true if the sink is closed.
    pub(super) fn is_unread(&self) -> bool {
        self.sink.is_none()
    }

    /// Returns true if more messages should be received: the peer has not finished, and there is space for them.
    pub(super) fn wants_messages(&self) -> bool {
        self.receiving && self.sink.as_ref().is_none_or(|sink| sink.len() < SINK_BYTES_MAX)
    }

    /// Returns true if messages may come, but there is no space for them.
    pub(super) fn is_paused(&self) -> bool {
        self.receiving && !self.wants_messages()
    }

    /// Watches the connection while there is space for messages, and the sink for space and for errors.
    pub(super) fn watch<'a>(&'a self, connection: &'a Connection, watched: &mut Watched<'a>) {
        if self.wants_messages() {
            watched.add(Whose::Recv, connection.recv_fd(), PollFlags::IN);
        }
        if let Some(sink) = &self.sink {
            let flags = if sink.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            watched.add(Whose::Sink, sink.as_fd(), flags);
        }
    }

    /// Receives the messages that have arrived, as far as there is space. Returns the state of the peer.
    ///
    /// It does not ask `has_message` whether there is another one: some transports know that only by trying, and one
    /// `poll` for each message is many times slower.
    pub(super) fn receive(&mut self, connection: &mut Connection) -> anyhow::Result<Peer> {
        for _ in 0..BATCH_MAX {
            match connection.try_recv() {
                Ok(Some(message)) => {
                    self.received += 1;
                    if let Some(sink) = &mut self.sink {
                        sink.push(&message, self.framing);
                        self.inexact += u64::from(!self.framing.is_exact_for(&message));
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
            if !self.wants_messages() {
                break;
            }
        }
        Ok(Peer::There)
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

    /// Writes once to the sink, which `poll` reported as writable.
    pub(super) fn write(&mut self) -> anyhow::Result<()> {
        if let Some(sink) = &mut self.sink
            && !sink.write_some().context("writing")?
        {
            self.sink = None;
        }
        self.close_sink_when_done();
        Ok(())
    }

    /// Writes everything that waits for the sink, and blocks until its reader has taken it.
    pub(super) fn deliver(&mut self) -> anyhow::Result<()> {
        while let Some(sink) = &self.sink
            && !sink.is_empty()
        {
            let mut watched = Watched::default();
            watched.add(Whose::Sink, sink.as_fd(), PollFlags::OUT);
            watched.poll(None).context("polling the output")?;
            self.write()?;
        }
        Ok(())
    }

    /// Closes the sink. Further messages are dropped.
    pub(super) fn drop_sink(&mut self) {
        self.sink = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use parlour::{Server, Transport};

    use super::*;

    #[test]
    fn one_call_receives_all_messages_that_have_arrived() {
        let base = tempfile::tempdir().unwrap();
        for transport in Transport::ALL {
            let address = format!("{transport}:{}/{transport}", base.path().display());
            let server = Server::bind(&address).unwrap();
            let mut client = std::thread::scope(|scope| {
                let client = scope.spawn(|| Connection::connect(&address).unwrap());
                let mut connection = server.accept().unwrap();
                for _ in 0..50 {
                    connection.send(b"message").unwrap();
                }
                client.join().unwrap()
            });
            let (_reader, writer) = std::io::pipe().unwrap();
            let mut incoming = Incoming::new(Sink::shared(writer.into()), Framing::Lines, false);
            incoming.receive(&mut client).unwrap();
            assert_eq!(incoming.received(), 50, "{transport}");
        }
    }
}
