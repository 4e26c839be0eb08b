//! The state of a session beside its connection. The APIs share it, and each has its own kind of connection.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::account::Account;
use super::reconnect::Reconnect;
use super::reconnecting::Reconnecting;
use crate::endpoint::Common;
use crate::error::{Error, ErrorKind, Operation, Result, TryRecvError};
use crate::message::Message;
use crate::options::ConnectOptions;
use crate::transport::Transport;
use crate::wait::poll_now;

/// The limits on the messages that are kept when a send finds the connection ended: their number, and the number of
/// bytes after which no other is taken. They exceed what a channel of default size holds of messages of 1 KiB.
const UNRECEIVED_MAX: usize = 1024;
const UNRECEIVED_BYTES_MAX: usize = 1 << 20;

/// The interval at which a send looks for the end of a `shm` connection, whose ring takes messages without one.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

pub(crate) struct State {
    pub(crate) reconnecting: Reconnecting,
    pub(crate) account: Account,
    /// Messages that had arrived over the last connection.
    unreceived: VecDeque<Message>,
    /// The time at which the present connection was established.
    connected: Instant,
    /// The last look for the end of the connection.
    looked: Instant,
}

impl State {
    pub(crate) fn new(address: &str, options: &ConnectOptions, reconnect: &Reconnect) -> Result<Self> {
        let now = Instant::now();
        Ok(Self {
            reconnecting: Reconnecting::new(address, options, reconnect)?,
            account: Account::default(),
            unreceived: VecDeque::new(),
            connected: now,
            looked: now,
        })
    }

    /// Notes that a connection was established and that its hook succeeded.
    pub(crate) fn connected(&mut self) {
        self.reconnecting.done();
        self.account = Account::default();
        self.unreceived.clear();
        self.connected = Instant::now();
        self.looked = self.connected;
    }

    /// Takes the messages that had arrived over the connection that has ended.
    pub(crate) fn take_unreceived(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.unreceived).into()
    }

    /// Keeps the messages that have arrived over a connection on which sending failed. Returns true if the peer closed
    /// without reading all.
    pub(crate) fn keep_arrived(&mut self, mut try_recv: impl FnMut() -> Result<Option<Message>, TryRecvError>) -> bool {
        self.unreceived.clear();
        let mut bytes = 0;
        while self.unreceived.len() < UNRECEIVED_MAX && bytes < UNRECEIVED_BYTES_MAX {
            match try_recv() {
                Ok(Some(message)) => {
                    bytes += message.len();
                    self.unreceived.push_back(message);
                }
                Err(TryRecvError::Failed(error)) => return error.is_reset(),
                Ok(None) | Err(TryRecvError::Empty) => return false,
            }
        }
        false
    }

    /// Ends the account of a connection that has ended because of `cause`, and returns the error that reports it.
    pub(crate) fn ended(&mut self, cause: Error, unread: bool, unwritten: bool) -> Error {
        self.reconnecting.ended(self.connected, self.account.has_received());
        let unread = unread || cause.is_reset();
        let loss = self.account.end(unread, unwritten, self.unreceived.len());
        let kind = match cause.kind() {
            ErrorKind::Disconnected | ErrorKind::Truncated | ErrorKind::Busy => ErrorKind::Lost,
            kind => kind,
        };
        cause.into_loss(kind, loss)
    }

    /// Returns true if the server of a `shm` connection has gone. The ring takes messages until it is full, also if
    /// nobody reads it any more. Over the other transports the send itself fails.
    pub(crate) fn has_hung_up(&mut self, transport: Transport, fd: BorrowedFd<'_>) -> bool {
        match transport {
            Transport::Shm => {}
            Transport::Packet | Transport::Unix | Transport::Fifo => return false,
        }
        let now = Instant::now();
        if now.saturating_duration_since(self.looked) < LOOK_INTERVAL {
            return false;
        }
        self.looked = now;
        poll_now(fd, PollFlags::empty()).intersects(PollFlags::HUP | PollFlags::ERR)
    }
}

/// Returns the error for the end of the stream, which a session does not expect.
pub(crate) fn end_of_stream(common: &Common) -> Error {
    common.error(ErrorKind::Disconnected, Operation::Receive, "the server has closed the connection or died")
}

/// Returns true if a connection cannot be used after this error of a receive.
pub(crate) fn ends_receiving(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Io)
}

/// Returns true if a connection cannot be used after this error of a send. `is_refused`: the server refused this
/// client, and not just the descriptors of a message.
pub(crate) fn ends_sending(error: &Error, is_refused: impl FnOnce() -> bool) -> bool {
    match error.kind() {
        ErrorKind::Disconnected | ErrorKind::Protocol | ErrorKind::Busy => true,
        ErrorKind::Refused => is_refused(),
        _ => false,
    }
}

/// Converts the error of a hook. An error of this library stays as it is.
pub(crate) fn error_of_hook(error: io::Error, object: &str) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error.note("the hook after connecting failed"),
        Err(error) => Error::io(Operation::Connect, object, error).note("the hook after connecting failed"),
    }
}
