//! Moves messages between a connection and two byte streams, in one thread.
//!
//! `connect` pumps between the server and its own stdin and stdout, `serve` between a client and a program. The pump
//! blocks only in one `poll(2)` over all descriptors. So a side that does not read cannot stop the other direction, and
//! the end of each side is detected while the others are idle.

mod answer;
mod idle;
mod incoming;
mod outgoing;
mod relay;
mod sink;
mod source;
mod watched;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parlour::Connection;
use rustix::event::PollFlags;

use crate::exit::{self, Failure};
use crate::lines::Framing;
use crate::output;
use answer::{Answer, Progress};
use idle::IdleLimit;
use incoming::Incoming;
use outgoing::{Outgoing, Peer};
pub(crate) use relay::Relay;
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
    idle: IdleLimit,
    side: Side<'a>,
}

/// The kind of the local side, which determines what ends the pump.
enum Side<'a> {
    /// The streams of this process. The pump ends when the output is closed, or when the peer does not answer in time.
    Streams { answer: Answer },
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
    /// No message has passed for the time of the idle limit.
    Idle,
    /// The stop descriptor became readable.
    Stopped,
    /// The connection failed, a message exceeded the limit, the input was malformed, or the peer did not answer in
    /// time. If everything went well otherwise, but the output does not show the boundaries of all messages, that is a
    /// failure too.
    Failed(anyhow::Error),
}

/// The options of a pump between a connection and the streams of this process.
#[derive(Debug)]
pub(crate) struct StreamOptions {
    /// The framing of both streams.
    pub(crate) framing: Framing,
    /// True if the connection stays open when the input has ended, until the peer ends it.
    pub(crate) stays_open: bool,
    /// The longest time that the peer may take to answer. See [`Answer`].
    pub(crate) answer_timeout: Option<Duration>,
}

impl<'a> Pump<'a> {
    /// Creates a pump between `connection` and the streams of this process. Other processes share their open file
    /// descriptions, so that these are not made non-blocking. They may be non-blocking already.
    pub(crate) fn between_streams(
        connection: &'a mut Connection,
        (input, output): (OwnedFd, OwnedFd),
        options: &StreamOptions,
    ) -> Pump<'a> {
        let message_max = connection.capabilities().message_max;
        let outgoing = Outgoing::new(Source::new(input), options.framing, message_max);
        Pump {
            connection,
            outgoing: outgoing.staying_open(options.stays_open),
            incoming: Incoming::new(Sink::shared(output), options.framing, false),
            peer_gone: false,
            idle: IdleLimit::default(),
            side: Side::Streams { answer: Answer::new(options.answer_timeout) },
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
            idle: IdleLimit::default(),
            side: Side::Program { pidfd: Some(pidfd), stop, stall_timeout, deadline: Instant::now() + stall_timeout },
        })
    }

    /// Ends the pump if the peer neither sends nor takes anything for this time.
    pub(crate) fn with_idle_limit(self, limit: Option<Duration>) -> Pump<'a> {
        Pump { idle: IdleLimit::new(limit), ..self }
    }

    /// Runs until both directions are finished or one of the other events in [`Outcome`] occurs. Returns the number of
    /// messages that reached the program as several lines, too.
    pub(crate) fn run(mut self) -> (Outcome, u64) {
        let outcome = self.run_to_the_end();
        (outcome, self.incoming.inexact())
    }

    /// Runs a pump between streams. Whatever ends it, the messages that were received before are written. Returns the
    /// length of the longest message that was sent, too, in bytes.
    pub(crate) fn run_streams(mut self) -> (Outcome, usize) {
        let ended = self.run_to_the_end();
        if let Err(error) = self.incoming.deliver() {
            return (Outcome::Failed(error), self.outgoing.longest());
        }
        if self.outgoing.is_doubtful() {
            output::note(
                "the input has NUL bytes and was sent line by line; use --raw or --frames for data without lines",
            );
        }
        let outcome = match (ended, self.incoming.inexact()) {
            (ended @ (Outcome::Finished | Outcome::PeerGone { all_sent: true }), inexact) => {
                inexact_output(inexact).map_or(ended, |failure| Outcome::Failed(failure.into()))
            }
            (ended, _) => ended,
        };
        (outcome, self.outgoing.longest())
    }

    fn run_to_the_end(&mut self) -> Outcome {
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
        self.note_progress();
        let ready = self.wait().context("polling the connection and its streams")?;
        if ready.stop {
            return Ok(Some(Outcome::Stopped));
        }
        // The output of a program is read only while the peer takes it.
        if ready.recv || ready.send || ready.source {
            self.idle.restart();
        } else if self.idle.is_over() && !self.peer_gone {
            return Ok(Some(Outcome::Idle));
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
        if self.incoming.is_unread() && matches!(self.side, Side::Streams { .. }) {
            return Ok(Some(Outcome::SinkClosed));
        }
        if let Side::Streams { answer } = &self.side
            && !ready.recv
            && !ready.send
        {
            answer.check()?;
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
            return (self.incoming.is_over() || self.is_stalled())
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

    /// Returns true if a program has taken too long to take the messages of a disconnected peer.
    fn is_stalled(&self) -> bool {
        self.program_deadline().is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Returns the time until which a program may take some of the messages of a disconnected peer.
    fn program_deadline(&self) -> Option<Instant> {
        match self.side {
            Side::Program { deadline, .. } if self.peer_gone && !self.incoming.is_delivered() => Some(deadline),
            _ => None,
        }
    }

    /// Returns the longest time to wait.
    fn time_left(&self) -> Option<Duration> {
        match &self.side {
            Side::Streams { answer } => answer.time_left(),
            Side::Program { .. } => {
                self.program_deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
            }
        }
    }

    fn note_progress(&mut self) {
        if let Side::Streams { answer } = &mut self.side {
            answer.note(Progress {
                sent: self.outgoing.progress(),
                received: self.incoming.received(),
                owed: self.outgoing.is_half_closed() || self.outgoing.is_blocked(),
                paused: self.incoming.is_paused(),
            });
        }
    }

    fn be_patient_again(&mut self) {
        if let Side::Program { stall_timeout, deadline, .. } = &mut self.side {
            *deadline = Instant::now() + *stall_timeout;
        }
    }

    /// Waits until one of the descriptors is ready or the time is over.
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
        let idle = self.idle.left().filter(|_| !self.peer_gone);
        watched.poll([self.time_left(), idle].into_iter().flatten().min())
    }
}

/// Returns the failure for this number of messages that were printed as several lines, unless it is 0.
pub(crate) fn inexact_output(inexact: u64) -> Option<Failure> {
    (inexact > 0).then(|| {
        let text = format!(
            "messages that contain a newline were printed as several lines: {inexact}; use --frames to keep messages \
             apart, or --raw for the bytes alone"
        );
        Failure::new(exit::INEXACT, text)
    })
}
