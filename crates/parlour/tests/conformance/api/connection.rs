//! A connection of any API.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use parlour::{Capabilities, Message, Payload, Peer, SharedBytes, Transport};

#[cfg(feature = "tokio")]
use super::error::Error;
use super::hub::HubConnection;
#[cfg(feature = "tokio")]
use super::tasks::{block_on, block_on_for, from_try_recv};
use super::{Receiver, Result, Sender, TryRecvError, TrySendError};

#[derive(Debug)]
pub enum Connection {
    Blocking(parlour::Connection),
    #[cfg(feature = "tokio")]
    Tokio(parlour::tokio::Connection),
    Hub(HubConnection),
}

impl Connection {
    pub fn send<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<()> {
        match self {
            Self::Blocking(connection) => Ok(connection.send(payload)?),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => Ok(block_on(connection.send(payload.into()))?),
            Self::Hub(connection) => connection.send(payload.into(), None),
        }
    }

    /// Sends a message with blocks of shared memory.
    pub fn send_shared(&mut self, bytes: &[u8], blocks: &[&SharedBytes]) -> Result<()> {
        match self {
            Self::Hub(connection) => connection.send_shared(bytes, blocks),
            connection => connection.send(Payload::new(bytes).shared(blocks)),
        }
    }

    /// Sends as [`parlour::Connection::send_timeout`] does: returns `Ok` if the message was accepted, although its
    /// rest may still be buffered.
    pub fn send_timeout<'a>(&mut self, payload: impl Into<Payload<'a>>, timeout: Duration) -> Result<()> {
        match self {
            Self::Blocking(connection) => Ok(connection.send_timeout(payload, timeout)?),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => {
                let before = connection.messages_taken();
                match block_on_for(timeout, connection.send(payload.into())) {
                    Some(sent) => Ok(sent?),
                    None if connection.messages_taken() > before => Ok(()),
                    None => Err(Error::TimedOut),
                }
            }
            Self::Hub(connection) => connection.send(payload.into(), Some(timeout)),
        }
    }

    pub fn try_send<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<(), TrySendError<Payload<'a>>> {
        match self {
            Self::Blocking(connection) => Ok(connection.try_send(payload)?),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => Ok(connection.try_send(payload)?),
            Self::Hub(connection) => connection.try_send(payload.into()),
        }
    }

    pub fn feed<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<()> {
        match self {
            Self::Blocking(connection) => Ok(connection.feed(payload)?),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => Ok(block_on(connection.feed(payload.into()))?),
            Self::Hub(connection) => connection.feed(payload.into()),
        }
    }

    pub fn flush(&mut self) -> Result<()> {
        match self {
            Self::Blocking(connection) => Ok(connection.flush()?),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => Ok(block_on(connection.flush())?),
            Self::Hub(connection) => connection.flush(),
        }
    }

    pub fn try_flush(&mut self) -> Result<(), TrySendError<()>> {
        match self {
            Self::Blocking(connection) => Ok(connection.try_flush()?),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => Ok(connection.try_flush()?),
            Self::Hub(connection) => connection.try_flush().then_some(()).ok_or(TrySendError::Full(())),
        }
    }

    pub fn recv(&mut self) -> Result<Option<Message>> {
        match self {
            Self::Blocking(connection) => Ok(connection.recv()?),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => Ok(block_on(connection.recv())?),
            Self::Hub(connection) => connection.recv(None),
        }
    }

    /// Receives a batch, and takes at most `most` messages of it. A hub has no batches, so that a message is one.
    pub fn recv_batch(&mut self, most: usize) -> Result<Option<Vec<Vec<u8>>>> {
        let batch = match self {
            Self::Blocking(connection) => connection.recv_batch()?,
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => block_on(connection.recv_batch())?,
            Self::Hub(connection) => return Ok(connection.recv(None)?.map(|message| vec![message.into_vec()])),
        };
        Ok(batch.map(|mut batch| {
            let mut messages = Vec::new();
            while messages.len() < most {
                let Some(message) = batch.next_message() else { break };
                messages.push(message.to_vec());
            }
            messages
        }))
    }

    pub fn recv_into(&mut self, message: &mut Vec<u8>) -> Result<Option<usize>> {
        match self {
            Self::Blocking(connection) => Ok(connection.recv_into(message)?),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => Ok(block_on(connection.recv_into(message))?),
            Self::Hub(connection) => match connection.recv(None)? {
                Some(received) => {
                    *message = received.into_vec();
                    Ok(Some(message.len()))
                }
                None => Ok(None),
            },
        }
    }

    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message>> {
        match self {
            Self::Blocking(connection) => Ok(connection.recv_timeout(timeout)?),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) if timeout.is_zero() => from_try_recv(connection.try_recv()),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => Ok(block_on_for(timeout, connection.recv()).ok_or(Error::TimedOut)??),
            Self::Hub(connection) => connection.recv(Some(timeout)),
        }
    }

    pub fn try_recv(&mut self) -> Result<Option<Message>, TryRecvError> {
        match self {
            Self::Blocking(connection) => Ok(connection.try_recv()?),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => Ok(connection.try_recv()?),
            Self::Hub(connection) => connection.try_recv(),
        }
    }

    pub fn has_message(&self) -> bool {
        match self {
            Self::Blocking(connection) => connection.has_message(),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => connection.has_message(),
            Self::Hub(connection) => connection.has_message(),
        }
    }

    pub fn finish(&mut self) -> Result<()> {
        match self {
            Self::Blocking(connection) => Ok(connection.finish()?),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => Ok(block_on(connection.finish())?),
            Self::Hub(connection) => connection.finish(),
        }
    }

    pub fn split(self) -> (Sender, Receiver) {
        match self {
            Self::Blocking(connection) => {
                let (sender, receiver) = connection.split();
                (Sender::Blocking(sender), Receiver::Blocking(receiver))
            }
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => {
                let (sender, receiver) = connection.split();
                (Sender::Tokio(sender), Receiver::Tokio(receiver))
            }
            Self::Hub(connection) => {
                let (sender, receiver) = connection.split();
                (Sender::Hub(sender), Receiver::Hub(receiver))
            }
        }
    }

    pub fn close(self) -> Result<()> {
        match self {
            Self::Blocking(connection) => Ok(connection.close()?),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => Ok(block_on(connection.close())?),
            Self::Hub(connection) => connection.close(),
        }
    }

    /// Waits until the peer has closed.
    pub fn wait_closed(&mut self, timeout: Duration) -> Result<()> {
        match self {
            Self::Blocking(connection) => Ok(connection.wait_closed_timeout(timeout)?),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => Ok(block_on_for(timeout, connection.closed()).ok_or(Error::TimedOut)??),
            Self::Hub(connection) => panic!("{connection:?} cannot wait for that"),
        }
    }

    pub fn is_closed(&self) -> bool {
        match self {
            Self::Blocking(connection) => connection.is_closed(),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => connection.is_closed(),
            Self::Hub(connection) => panic!("{connection:?} cannot tell"),
        }
    }

    pub fn abort(self) {
        match self {
            Self::Blocking(connection) => connection.abort(),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => connection.abort(),
            Self::Hub(connection) => connection.abort(),
        }
    }

    pub fn peer(&self) -> &Peer {
        match self {
            Self::Blocking(connection) => connection.peer(),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => connection.peer(),
            Self::Hub(connection) => connection.peer(),
        }
    }

    pub fn peer_pidfd(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Blocking(connection) => connection.peer_pidfd(),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => connection.peer_pidfd(),
            Self::Hub(connection) => panic!("{connection:?} has no pidfd"),
        }
    }

    pub fn transport(&self) -> Transport {
        match self {
            Self::Blocking(connection) => connection.transport(),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => connection.transport(),
            Self::Hub(connection) => connection.transport(),
        }
    }

    pub fn capabilities(&self) -> Capabilities {
        match self {
            Self::Blocking(connection) => connection.capabilities(),
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => connection.capabilities(),
            Self::Hub(connection) => connection.capabilities(),
        }
    }

    /// Returns the blocking connection, for scenarios that run with the blocking API only.
    pub fn into_blocking(self) -> parlour::Connection {
        match self {
            Self::Blocking(connection) => connection,
            #[cfg(feature = "tokio")]
            Self::Tokio(connection) => panic!("{connection:?} is not blocking"),
            Self::Hub(connection) => panic!("{connection:?} is not blocking"),
        }
    }
}

/// Echoes every message until end of file. A disconnected peer is not an error.
pub fn echo(mut connection: Connection) {
    let mut message = Vec::new();
    while let Ok(Some(_)) = connection.recv_into(&mut message) {
        if connection.send(&message).is_err() {
            return;
        }
    }
}
