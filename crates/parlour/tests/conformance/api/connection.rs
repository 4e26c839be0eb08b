//! A connection of any API.

use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use parlour::{Capabilities, Message, Peer, SharedBytes, Transport};

use super::{Receiver, Result, Sender, TryRecvError, TrySendError};

#[derive(Debug)]
pub enum Connection {
    Blocking(parlour::Connection),
}

impl Connection {
    pub fn send(&mut self, message: &[u8]) -> Result<()> {
        match self {
            Self::Blocking(connection) => Ok(connection.send(message)?),
        }
    }

    pub fn send_vectored(&mut self, parts: &[IoSlice<'_>]) -> Result<()> {
        match self {
            Self::Blocking(connection) => Ok(connection.send_vectored(parts)?),
        }
    }

    /// As [`parlour::Connection::send_timeout`]: `Ok` when the message is on its way, although its rest may be kept.
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<()> {
        match self {
            Self::Blocking(connection) => Ok(connection.send_timeout(message, timeout)?),
        }
    }

    pub fn send_with_fds(&mut self, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        match self {
            Self::Blocking(connection) => Ok(connection.send_with_fds(message, fds)?),
        }
    }

    pub fn send_with_fds_timeout(&mut self, message: &[u8], fds: &[BorrowedFd<'_>], timeout: Duration) -> Result<()> {
        match self {
            Self::Blocking(connection) => Ok(connection.send_with_fds_timeout(message, fds, timeout)?),
        }
    }

    pub fn send_shared(&mut self, message: &[u8], blocks: &[&SharedBytes]) -> Result<()> {
        match self {
            Self::Blocking(connection) => Ok(connection.send_shared(message, blocks)?),
        }
    }

    pub fn try_send<M: AsRef<[u8]>>(&mut self, message: M) -> Result<(), TrySendError<M>> {
        match self {
            Self::Blocking(connection) => Ok(connection.try_send(message)?),
        }
    }

    pub fn feed(&mut self, message: &[u8]) -> Result<()> {
        match self {
            Self::Blocking(connection) => Ok(connection.feed(message)?),
        }
    }

    pub fn flush(&mut self) -> Result<()> {
        match self {
            Self::Blocking(connection) => Ok(connection.flush()?),
        }
    }

    pub fn try_flush(&mut self) -> Result<bool> {
        match self {
            Self::Blocking(connection) => Ok(connection.try_flush()?),
        }
    }

    pub fn recv(&mut self) -> Result<Option<Message>> {
        match self {
            Self::Blocking(connection) => Ok(connection.recv()?),
        }
    }

    pub fn recv_into(&mut self, message: &mut Vec<u8>) -> Result<bool> {
        match self {
            Self::Blocking(connection) => Ok(connection.recv_into(message)?),
        }
    }

    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message>> {
        match self {
            Self::Blocking(connection) => Ok(connection.recv_timeout(timeout)?),
        }
    }

    pub fn try_recv(&mut self) -> Result<Option<Message>, TryRecvError> {
        match self {
            Self::Blocking(connection) => Ok(connection.try_recv()?),
        }
    }

    pub fn has_message(&self) -> bool {
        match self {
            Self::Blocking(connection) => connection.has_message(),
        }
    }

    pub fn finish(&mut self) -> Result<()> {
        match self {
            Self::Blocking(connection) => Ok(connection.finish()?),
        }
    }

    pub fn split(self) -> (Sender, Receiver) {
        match self {
            Self::Blocking(connection) => {
                let (sender, receiver) = connection.split();
                (Sender::Blocking(sender), Receiver::Blocking(receiver))
            }
        }
    }

    pub fn close(self) -> Result<()> {
        match self {
            Self::Blocking(connection) => Ok(connection.close()?),
        }
    }

    pub fn peer(&self) -> &Peer {
        match self {
            Self::Blocking(connection) => connection.peer(),
        }
    }

    pub fn peer_pidfd(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Blocking(connection) => connection.peer_pidfd(),
        }
    }

    pub fn transport(&self) -> Transport {
        match self {
            Self::Blocking(connection) => connection.transport(),
        }
    }

    pub fn capabilities(&self) -> Capabilities {
        match self {
            Self::Blocking(connection) => connection.capabilities(),
        }
    }

    /// For a scenario of the blocking API alone.
    pub fn into_blocking(self) -> parlour::Connection {
        match self {
            Self::Blocking(connection) => connection,
        }
    }
}

/// Sends every message back until the end, and then ends. That the other side has gone is no reason to complain.
pub fn echo(mut connection: Connection) {
    let mut message = Vec::new();
    while let Ok(true) = connection.recv_into(&mut message) {
        if connection.send(&message).is_err() {
            return;
        }
    }
}
