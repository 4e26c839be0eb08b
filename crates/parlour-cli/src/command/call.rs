//! `parlour call`: sends one message and prints one reply, or all replies.

use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parlour::{Connection, ErrorKind, Message, TryRecvError};

use super::reply::{framing, left, printed};
use super::{call_id, connect, holder};
use crate::args::Call;
use crate::exit::{self, Failure};
use crate::{json, output, stdio};

/// The longest time to look for a second reply, in case the server neither sends one nor ends its side. Most servers
/// end it at once, because the client has ended its own.
const LOOK_FOR_MORE: Duration = Duration::from_secs(1);

/// The number of bytes of replies that are written to stdout at once, if that many have arrived.
const WRITE_BYTES: usize = 64 * 1024;

pub(super) fn run(args: &Call) -> anyhow::Result<()> {
    // The message is read before connecting, so that a slow stdin does not occupy a connection of the server.
    let message = match &args.message {
        Some(message) if message.as_bytes() != b"-" => message.as_bytes().to_vec(),
        _ => stdio::read_stdin().context("reading stdin")?,
    };
    let message = match args.json {
        true => json::compact(&message)
            .map_err(|error| Failure::new(exit::USAGE, format!("the message is not JSON: {error}")))?,
        false => message,
    };
    // A timeout beyond the range of the clock means no deadline.
    let deadline = args
        .timeout
        .and_then(|timeout| Instant::now().checked_add(timeout.saturating_add(args.connect.wait.unwrap_or_default())));
    let connection = connect::connect(&args.address, args.timeout, &args.connect)?;
    if args.id {
        let called = call_id::run(args, &message, connection, deadline);
        return called.map_err(|error| holder::explain(args.into(), None, error));
    }
    let mut call = Calling { args, connection, deadline };
    let outcome = call.run(&message);
    outcome.map_err(|error| holder::explain(args.into(), Some(&call.connection), error))
}

/// A connection on which a message is sent.
struct Calling<'a> {
    args: &'a Call,
    connection: Connection,
    /// The end of the time for everything up to the first reply.
    deadline: Option<Instant>,
}

impl Calling<'_> {
    fn run(&mut self, message: &[u8]) -> anyhow::Result<()> {
        // A server may reply and disconnect without reading the message. This is not an error if there is a reply.
        let was_sent = match self.send(message) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::Disconnected => false,
            Err(error) => return Err(error.into()),
        };
        let first = match self.receive(self.deadline) {
            Ok(first) => first,
            // A server aborts the connection of a client that violates its protocol.
            Err(error) if matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::Truncated) => {
                return Err(self.no_reply(message));
            }
            Err(error) => return Err(error.into()),
        };
        match first {
            Some(first) if self.args.all => self.print_all(&first),
            Some(first) => {
                output::bytes(&printed(self.args, &first)?)?;
                self.look_for_more()
            }
            None if self.args.all && was_sent => {
                holder::message_too_long(self.args.into(), message.len()).map_or(Ok(()), Err)
            }
            None => Err(self.no_reply(message)),
        }
    }

    /// Sends the message and half-closes the connection. Some servers, such as a program that reads to end of file,
    /// reply only after that.
    fn send(&mut self, message: &[u8]) -> parlour::Result<()> {
        match self.answer_deadline(self.deadline) {
            None => {
                self.connection.send(message)?;
                self.connection.finish()
            }
            Some(deadline) => {
                self.connection.send_timeout(message, left(deadline))?;
                // A part of the message may still be in the buffer.
                self.connection.finish_timeout(left(deadline))
            }
        }
    }

    /// Receives a reply until this deadline and that for an answer.
    fn receive(&mut self, deadline: Option<Instant>) -> parlour::Result<Option<Message>> {
        match self.answer_deadline(deadline) {
            None => self.connection.recv(),
            Some(deadline) => self.connection.recv_timeout(left(deadline)),
        }
    }

    /// Returns the earlier one of this deadline and that for an answer.
    fn answer_deadline(&self, deadline: Option<Instant>) -> Option<Instant> {
        let answer = self.args.answer_timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        deadline.into_iter().chain(answer).min()
    }

    /// Prints this reply and all that follow, until the server ends its side.
    fn print_all(&mut self, first: &[u8]) -> anyhow::Result<()> {
        let mut text = printed(self.args, first)?;
        let mut inexact = u64::from(!self.is_exact(first));
        loop {
            let received = match self.connection.try_recv() {
                // Replies are printed before this process waits for the next one.
                Err(TryRecvError::Empty) => {
                    output::bytes(&std::mem::take(&mut text))?;
                    self.receive(None)
                }
                Err(TryRecvError::Failed(error)) => Err(error),
                Ok(received) => Ok(received),
            };
            match received {
                Ok(Some(reply)) => {
                    text.extend_from_slice(&printed(self.args, &reply)?);
                    inexact += u64::from(!self.is_exact(&reply));
                }
                // The server may not have read the message, but it has replied.
                Ok(None) => break,
                Err(error) if error.kind() == ErrorKind::Disconnected => break,
                Err(error) => {
                    output::bytes(&text)?;
                    return Err(error.into());
                }
            }
            if text.len() >= WRITE_BYTES {
                output::bytes(&std::mem::take(&mut text))?;
            }
        }
        output::bytes(&text)?;
        if inexact > 0 {
            let text = format!(
                "replies that contain a newline were printed as several lines: {inexact}; use `parlour connect \
                 --frames` to keep replies apart"
            );
            return Err(Failure::new(exit::INEXACT, text).into());
        }
        Ok(())
    }

    /// Returns an error if the server sends a second reply.
    fn look_for_more(&mut self) -> anyhow::Result<()> {
        let wait = self.deadline.map_or(LOOK_FOR_MORE, |deadline| left(deadline).min(LOOK_FOR_MORE));
        match self.connection.recv_timeout(wait) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => {
                let address = &self.args.address;
                let text =
                    format!("the server of `{address}` sent more than one reply; use --all to print every reply");
                Err(Failure::new(exit::INEXACT, text).into())
            }
            // The server keeps the connection open, or has not read the message. It has replied.
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Disconnected) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns true if the printed reply shows where the reply ends.
    fn is_exact(&self, reply: &[u8]) -> bool {
        self.args.json || framing(self.args).is_exact_for(reply)
    }

    fn no_reply(&self, message: &[u8]) -> anyhow::Error {
        let when = "before it sent a reply (if it answers calls, use `parlour call --id`)";
        connect::disconnected_error(self.args.into(), &self.connection, when, message.len())
    }
}
