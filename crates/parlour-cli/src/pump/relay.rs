//! Moves messages between a session and the streams of this process, over one connection after the other.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::Context as _;
use parlour::{Connection, Session, TryRecvError, TrySendError};
use rustix::event::PollFlags;

use super::incoming::SINK_BYTES_MAX;
use super::outgoing::failure;
use super::sink::Sink;
use super::source::Source;
use super::watched::{Ready, Watched, Whose};
use crate::lines::{Framing, Splitter};
use crate::output;

/// A session and the streams of this process.
pub(crate) struct Relay {
    session: Session,
    /// The longest time without a connection.
    wait: Option<Duration>,
    /// `None` at the end of the input.
    source: Option<Source>,
    messages: Splitter,
    framing: Framing,
    message_max: usize,
    sink: Sink,
    /// True if the connection stays open at the end of the input.
    stays_open: bool,
    /// True if the channel is full.
    is_blocked: bool,
    /// The number of messages whose boundaries the reader of the output cannot tell.
    inexact: u64,
}

impl Relay {
    /// Creates a relay. Without `wait` it waits for a server without a limit.
    pub(crate) fn new(
        session: Session,
        (input, output): (OwnedFd, OwnedFd),
        framing: Framing,
        message_max: usize,
        wait: Option<Duration>,
    ) -> Relay {
        Relay {
            session,
            wait,
            source: Some(Source::new(input)),
            messages: Splitter::new(framing, message_max),
            framing,
            message_max,
            sink: Sink::shared(output),
            stays_open: false,
            is_blocked: false,
            inexact: 0,
        }
    }

    /// Goes on after the end of the input, if `stays_open` is true.
    pub(crate) fn staying_open(self, stays_open: bool) -> Relay {
        Relay { stays_open, ..self }
    }

    /// Runs until the end of the input, when everything was sent. Then returns the connection, on which answers may
    /// still come, and the number of messages that were printed as several lines.
    pub(crate) fn run(mut self) -> anyhow::Result<(Connection, u64)> {
        loop {
            if let Err(error) = self.turn() {
                self.deliver()?;
                return Err(error);
            }
            let is_all_sent = self.messages.has_ended() && self.messages.is_empty() && !self.stays_open;
            if is_all_sent && self.session.connection().is_some() {
                self.deliver()?;
                let inexact = self.inexact;
                if let Some(connection) = self.session.into_connection() {
                    return Ok((connection, inexact));
                }
                return Err(output::stdout_closed());
            }
        }
    }

    /// Connects if there is no connection, sends what can be sent, and handles the next event.
    fn turn(&mut self) -> anyhow::Result<()> {
        if self.session.connection().is_none() {
            // Received messages are printed before the wait, which may take long.
            self.deliver()?;
            match self.wait {
                Some(wait) => drop(self.session.connect_timeout(wait)?),
                None => drop(self.session.connect()?),
            }
            self.is_blocked = false;
        }
        self.send()?;
        let Some(connection) = self.session.connection() else { return Ok(()) };
        if self.messages.has_ended() && self.messages.is_empty() && !self.stays_open {
            return Ok(());
        }
        let mut watched = Watched::default();
        if self.sink.len() < SINK_BYTES_MAX {
            if connection.has_message() {
                return self.receive();
            }
            watched.add(Whose::Recv, connection.recv_fd(), PollFlags::IN);
        }
        if let Some(fd) = connection.send_fd()
            && self.is_blocked
        {
            watched.add(Whose::Send, fd, PollFlags::OUT);
        }
        if let Some(source) = &self.source
            && !self.is_blocked
        {
            watched.add(Whose::Source, source.as_fd(), PollFlags::IN);
        }
        let flags = if self.sink.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        watched.add(Whose::Sink, self.sink.as_fd(), flags);
        let ready = watched.poll(None).context("polling the connection and its streams")?;
        self.handle(&ready)
    }

    fn handle(&mut self, ready: &Ready) -> anyhow::Result<()> {
        if ready.sink_broken || ready.sink && !self.sink.write_some().context("writing")? {
            return Err(output::stdout_closed());
        }
        if ready.send {
            self.is_blocked = false;
        }
        if ready.recv {
            self.receive()?;
        }
        if ready.source
            && let Some(source) = &mut self.source
            && !source.read_some(&mut self.messages).context("reading")?
        {
            self.messages.end();
            self.source = None;
        }
        Ok(())
    }

    /// Sends the whole messages of the input. One that could not be sent is sent over the next connection.
    fn send(&mut self) -> anyhow::Result<()> {
        while let Some(message) = self.messages.peek()
            && !self.is_blocked
        {
            match self.session.try_send(message) {
                Ok(()) => self.messages.consume(),
                Err(TrySendError::Full(_)) => self.is_blocked = true,
                Err(TrySendError::Failed(error)) => return self.lost(error),
            }
        }
        // A message of which the channel took a part, and which is the last one.
        match self.session.flush_timeout(Duration::ZERO) {
            Ok(()) => {}
            Err(error) if error.kind() == parlour::ErrorKind::TimedOut => self.is_blocked = true,
            Err(error) => return self.lost(error),
        }
        match self.messages.fault() {
            Some(fault) if self.messages.peek().is_none() => Err(failure(fault, self.framing, self.message_max).into()),
            _ => Ok(()),
        }
    }

    /// Receives the messages that have arrived, as far as there is space.
    fn receive(&mut self) -> anyhow::Result<()> {
        while self.sink.len() < SINK_BYTES_MAX {
            match self.session.try_recv() {
                Ok(message) => self.print(&message),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Failed(error)) => return self.lost(error),
            }
        }
        Ok(())
    }

    fn print(&mut self, message: &[u8]) {
        self.sink.push(message, self.framing);
        self.inexact += u64::from(!self.framing.is_exact_for(message));
    }

    /// Reports the end of a connection on stderr. Returns any other error.
    fn lost(&mut self, error: parlour::Error) -> anyhow::Result<()> {
        if error.kind() != parlour::ErrorKind::Lost {
            return Err(error.into());
        }
        for message in self.session.take_unreceived() {
            self.print(&message);
        }
        output::note(format_args!("{error}"));
        Ok(())
    }

    /// Writes everything that waits for the output, and blocks until its reader has taken it.
    fn deliver(&mut self) -> anyhow::Result<()> {
        while !self.sink.is_empty() {
            let mut watched = Watched::default();
            watched.add(Whose::Sink, self.sink.as_fd(), PollFlags::OUT);
            let ready = watched.poll(None).context("polling the output")?;
            if ready.sink && !self.sink.write_some().context("writing")? {
                return Err(output::stdout_closed());
            }
        }
        Ok(())
    }
}
