//! Moves messages between a connection and two streams of bytes, in one thread.
//!
//! `connect` pumps between the server and its own stdin and stdout, `serve` between a client and a program. The pump
//! waits nowhere but in one `poll(2)` over everything that could go on. So a side that does not read cannot stop the
//! other direction, and the end of any side is seen while the others are silent.

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

/// A connection and what is at our side of it.
pub(crate) struct Pump<'a> {
    connection: &'a mut Connection,
    outgoing: Outgoing,
    incoming: Incoming,
    /// The peer reads no more. What it said before is still delivered.
    peer_gone: bool,
    side: Side<'a>,
}

/// What our side is: this decides what ends the conversation.
enum Side<'a> {
    /// Streams of our own: when nobody reads our output, all is over.
    Streams,
    /// A program: when it is gone, all is over once its output is sent.
    Program {
        /// Readable when the program is gone (a pidfd); `None` after that was seen.
        pidfd: Option<BorrowedFd<'a>>,
        /// Readable when everything is to stop.
        stop: BorrowedFd<'a>,
        /// How long the program may leave untouched what a peer said that is gone.
        patience: Duration,
        /// When that patience is at its end.
        deadline: Instant,
    },
}

/// Why the pump came to its end.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Each side said what it wanted to say.
    Finished,
    /// The peer went away.
    PeerGone {
        /// Our source was at its end by then, nothing was left to be sent, and nothing is known to be unread.
        all_sent: bool,
    },
    /// Nobody reads our output.
    SinkClosed,
    /// The stop descriptor became readable.
    Stopped,
    /// The connection broke, or a message did not fit.
    Failed(anyhow::Error),
}

impl<'a> Pump<'a> {
    /// Pumps between `connection` and our own streams. Their descriptions are shared with other processes, so nothing
    /// about them is changed.
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

    /// Pumps between `connection` and a program's output and input, whose ends here are ours alone and become
    /// non-blocking.
    ///
    /// Ends when `stop` becomes readable; when `pidfd` does, what the program wrote is still sent. When the client is
    /// gone, the program may take what the client said before, but not rest for longer than `patience` over it.
    pub(crate) fn with_program(
        connection: &'a mut Connection,
        (output, input): (OwnedFd, OwnedFd),
        framing: Framing,
        pidfd: BorrowedFd<'a>,
        stop: BorrowedFd<'a>,
        patience: Duration,
    ) -> rustix::io::Result<Pump<'a>> {
        rustix::io::ioctl_fionbio(&output, true)?;
        rustix::io::ioctl_fionbio(&input, true)?;
        let message_max = connection.capabilities().message_max;
        Ok(Pump {
            connection,
            outgoing: Outgoing::new(Source::new(output), framing, message_max),
            incoming: Incoming::new(Sink::ours(input), framing, true),
            peer_gone: false,
            side: Side::Program { pidfd: Some(pidfd), stop, patience, deadline: Instant::now() + patience },
        })
    }

    /// Runs until both directions are at their end, or something ends them.
    pub(crate) fn run(mut self) -> Ended {
        loop {
            match self.turn() {
                Ok(None) => {}
                Ok(Some(ended)) => return ended,
                Err(error) => return Ended::Failed(error),
            }
        }
    }

    /// Sends what there is, then waits for something to happen and does it.
    fn turn(&mut self) -> anyhow::Result<Option<Ended>> {
        let peer = self.outgoing.send(self.connection)?;
        self.look_after(peer)?;
        if let Some(ended) = self.end_reached() {
            return Ok(Some(ended));
        }
        let ready = self.wait().context("waiting for something to happen")?;
        if ready.stop {
            return Ok(Some(Ended::Stopped));
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
            return Ok(Some(Ended::SinkClosed));
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

    /// The end, if this is it.
    fn end_reached(&self) -> Option<Ended> {
        if self.peer_gone {
            let out_of_patience = self.time_left().is_some_and(|left| left.is_zero());
            return (self.incoming.is_over() || out_of_patience)
                .then(|| Ended::PeerGone { all_sent: self.outgoing.is_all_sent() });
        }
        // A program that is gone can no longer be told anything: its last output sent, all is said.
        let nobody_to_tell = matches!(self.side, Side::Program { pidfd: None, .. });
        (self.outgoing.is_over() && (nobody_to_tell || self.incoming.is_over())).then_some(Ended::Finished)
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

    /// How long the program may still leave untouched what a gone peer said.
    fn time_left(&self) -> Option<Duration> {
        match self.side {
            Side::Program { deadline, .. } if self.peer_gone && !self.incoming.is_delivered() => {
                Some(deadline.saturating_duration_since(Instant::now()))
            }
            _ => None,
        }
    }

    fn be_patient_again(&mut self) {
        if let Side::Program { patience, deadline, .. } = &mut self.side {
            *deadline = Instant::now() + *patience;
        }
    }

    /// Waits for whatever could go on.
    fn wait(&self) -> rustix::io::Result<Ready> {
        // A message that is buffered already makes no descriptor readable.
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
