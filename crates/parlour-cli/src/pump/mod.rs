//! Moves messages between a connection and two byte streams, in one thread.
//!
//! `connect` pumps between the server and its own stdin and stdout, `serve` between a client and a program. The pump
//! blocks only in one `poll(2)` over all descriptors. So a side that does not read cannot stop the other direction, and
//! the end of each side is detected while the others are idle.

mod incoming;
mod outgoing;
mod sink;
mod source;
mod watched;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parlour::Connection;
use rustix::event::PollFlags;

use crate::lines::Framing;
use incoming::Incoming;
use outgoing::{Outgoing, Peer};
use sink::Sink;
use source::Source;
use watched::{Ready, Watched, Whose};

/// A connection and the local streams that are connected to it.
pub(crate) struct Pump<'a> {
    connection: &'a mut Connection,
    outgoing: Outgoing,
    incoming: Incoming,
    /// True if the peer has disconnected. The messages that it sent before are still delivered.
    peer_gone: bool,
    side: Side<'a>,
}

/// The kind of the local side, which determines what ends the pump.
enum Side<'a> {
    /// The streams of this process. The pump ends when the output is closed.
    Streams,
    /// A program. When it has exited, the pump ends after sending its output.
    Program {
        /// A pidfd, which is readable when the program has exited. `None` after that was detected.
        pidfd: Option<BorrowedFd<'a>>,
        /// Readable when the server stops.
        stop: BorrowedFd<'a>,
        /// The time without progress after which a program no longer gets the messages of a disconnected peer.
        stall_timeout: Duration,
        /// The end of that time.
        deadline: Instant,
    },
}

/// The reason why the pump ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Both directions are finished.
    Finished,
    /// The peer disconnected.
    PeerGone {
        /// True if the local source was at end of file, everything was sent, and nothing is known to be unread.
        all_sent: bool,
    },
    /// The local output is closed.
    SinkClosed,
    /// The stop descriptor became readable.
    Stopped,
    /// The connection failed, or a message exceeded the limit.
    Failed(anyhow::Error),
}

impl<'a> Pump<'a> {
    /// Creates a pump between `connection` and the streams of this process. Other processes share their open file
    /// descriptions, so that these are not made non-blocking.
    pub(crate) fn between_streams(connection: &'a mut Connection, input: OwnedFd, output: OwnedFd) -> Pump<'a> {
        let message_max = connection.capabilities().message_max;
        Pump {
            connection,
            outgoing: Outgoing::new(Source::new(input), Framing::Lines, message_max),
            incoming: Incoming::new(Sink::shared(output), Framing::Lines, false),
            peer_gone: false,
            side: Side::Streams,
        }
    }

    /// Creates a pump between `connection` and a program's output and input. The descriptors become non-blocking, which
    /// is safe because no other process shares them.
    ///
    /// The pump ends when `stop` becomes readable. When `pidfd` becomes readable, the remaining output of the program
    /// is still sent. When the client has disconnected, the program still gets the messages that the client sent
    /// before, as long as it takes some of them at least once per `stall_timeout`.
    pub(crate) fn with_program(
        connection: &'a mut Connection,
        (output, input): (OwnedFd, OwnedFd),
        framing: Framing,
        pidfd: BorrowedFd<'a>,
        stop: BorrowedFd<'a>,
        stall_timeout: Duration,
    ) -> rustix::io::Result<Pump<'a>> {
        rustix::io::ioctl_fionbio(&output, true)?;
        rustix::io::ioctl_fionbio(&input, true)?;
        let message_max = connection.capabilities().message_max;
        Ok(Pump {
            connection,
            outgoing: Outgoing::new(Source::new(output), framing, message_max),
            incoming: Incoming::new(Sink::ours(input), framing, true),
            peer_gone: false,
            side: Side::Program { pidfd: Some(pidfd), stop, stall_timeout, deadline: Instant::now() + stall_timeout },
        })
    }

    /// Runs until both directions are finished or one of the other events in [`Outcome`] occurs.
    pub(crate) fn run(mut self) -> Outcome {
        loop {
            match self.turn() {
                Ok(None) => {}
                Ok(Some(ended)) => return ended,
                Err(error) => return Outcome::Failed(error),
            }
        }
    }

    /// Sends the available messages, then waits for an event and handles it. Returns the reason if the pump has ended.
    fn turn(&mut self) -> anyhow::Result<Option<Outcome>> {
        let peer = self.outgoing.send(self.connection)?;
        self.look_after(peer)?;
        if let Some(ended) = self.end_reached() {
            return Ok(Some(ended));
        }
        let ready = self.wait().context("polling the connection and its streams")?;
        if ready.stop {
            return Ok(Some(Outcome::Stopped));
        }
        if ready.program_gone {
            self.program_is_gone()?;
        }
        if ready.recv {
            let peer = self.incoming.receive(self.connection)?;
            self.look_after(peer)?;
        }
        if ready.sink_broken {
            self.incoming.drop_sink();
        } else if ready.sink {
            self.incoming.write()?;
            self.be_patient_again();
        }
        if self.incoming.is_unread() && matches!(self.side, Side::Streams) {
            return Ok(Some(Outcome::SinkClosed));
        }
        if ready.source {
            self.outgoing.read()?;
        }
        if ready.peer_gone {
            self.look_after(Peer::Gone)?;
        } else if ready.send {
            self.outgoing.room();
        }
        Ok(None)
    }

    /// Returns the reason if the pump has ended.
    fn end_reached(&self) -> Option<Outcome> {
        if self.peer_gone {
            let stalled = self.time_left().is_some_and(|left| left.is_zero());
            return (self.incoming.is_over() || stalled)
                .then(|| Outcome::PeerGone { all_sent: self.outgoing.is_all_sent() });
        }
        // A program that has exited receives no more messages, so that only its output must be sent.
        let nobody_to_tell = matches!(self.side, Side::Program { pidfd: None, .. });
        (self.outgoing.is_over() && (nobody_to_tell || self.incoming.is_over())).then_some(Outcome::Finished)
    }

    fn look_after(&mut self, peer: Peer) -> anyhow::Result<()> {
        if peer == Peer::GoneWithoutReading {
            self.outgoing.was_not_all_read();
        }
        if peer != Peer::There && !self.peer_gone {
            self.peer_gone = true;
            self.outgoing.give_up()?;
            self.be_patient_again();
        }
        Ok(())
    }

    fn program_is_gone(&mut self) -> anyhow::Result<()> {
        if let Side::Program { pidfd, .. } = &mut self.side {
            *pidfd = None;
        }
        self.incoming.drop_sink();
        self.outgoing.read_the_last()
    }

    /// Returns the time that the program still has to take some of the messages of a disconnected peer.
    fn time_left(&self) -> Option<Duration> {
        match self.side {
            Side::Program { deadline, .. } if self.peer_gone && !self.incoming.is_delivered() => {
                Some(deadline.saturating_duration_since(Instant::now()))
            }
            _ => None,
        }
    }

    fn be_patient_again(&mut self) {
        if let Side::Program { stall_timeout, deadline, .. } = &mut self.side {
            *deadline = Instant::now() + *stall_timeout;
        }
    }

    /// Waits until one of the descriptors is ready or the time for the program is over.
    fn wait(&self) -> rustix::io::Result<Ready> {
        // `poll` does not report a message that the connection has buffered already.
        if self.incoming.wants_messages() && self.connection.has_message() {
            return Ok(Ready { recv: true, ..Ready::default() });
        }
        let mut watched = Watched::default();
        if let Side::Program { pidfd, stop, .. } = &self.side {
            watched.add(Whose::Stop, *stop, PollFlags::IN);
            if let Some(pidfd) = pidfd {
                watched.add(Whose::Program, *pidfd, PollFlags::IN);
            }
        }
        self.incoming.watch(self.connection, &mut watched);
        self.outgoing.watch(self.connection, &mut watched);
        watched.poll(self.time_left())
    }
}
