//! The halves of a connection of any API.

use std::time::Duration;

use parlour::{Message, Payload, Peer, Transport};

use super::Result;
#[cfg(feature = "tokio")]
use super::error::Error;
use super::hub::HubConnection;
#[cfg(feature = "tokio")]
use super::tasks::{block_on, block_on_for, from_try_recv};

#[derive(Debug)]
pub enum Sender {
    Blocking(parlour::Sender),
    #[cfg(feature = "tokio")]
    Tokio(parlour::tokio::Sender),
    Hub(HubConnection),
}

impl Sender {
    pub fn send<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<()> {
        match self {
            Self::Blocking(sender) => Ok(sender.send(payload)?),
            #[cfg(feature = "tokio")]
            Self::Tokio(sender) => Ok(block_on(sender.send(payload.into()))?),
            Self::Hub(sender) => sender.send(payload.into(), None),
        }
    }

    pub fn flush(&mut self) -> Result<()> {
        match self {
            Self::Blocking(sender) => Ok(sender.flush()?),
            #[cfg(feature = "tokio")]
            Self::Tokio(sender) => Ok(block_on(sender.flush())?),
            Self::Hub(sender) => sender.flush(),
        }
    }

    pub fn finish(&mut self) -> Result<()> {
        match self {
            Self::Blocking(sender) => Ok(sender.finish()?),
            #[cfg(feature = "tokio")]
            Self::Tokio(sender) => Ok(block_on(sender.finish())?),
            Self::Hub(sender) => sender.finish(),
        }
    }

    pub fn abort(self) {
        match self {
            Self::Blocking(sender) => sender.abort(),
            #[cfg(feature = "tokio")]
            Self::Tokio(sender) => sender.abort(),
            Self::Hub(sender) => panic!("{sender:?} cannot abort one direction"),
        }
    }

    pub fn peer(&self) -> &Peer {
        match self {
            Self::Blocking(sender) => sender.peer(),
            #[cfg(feature = "tokio")]
            Self::Tokio(sender) => sender.peer(),
            Self::Hub(sender) => sender.peer(),
        }
    }

    pub fn transport(&self) -> Transport {
        match self {
            Self::Blocking(sender) => sender.transport(),
            #[cfg(feature = "tokio")]
            Self::Tokio(sender) => sender.transport(),
            Self::Hub(sender) => sender.transport(),
        }
    }
}

#[derive(Debug)]
pub enum Receiver {
    Blocking(parlour::Receiver),
    #[cfg(feature = "tokio")]
    Tokio(parlour::tokio::Receiver),
    Hub(HubConnection),
}

impl Receiver {
    pub fn recv(&mut self) -> Result<Option<Message>> {
        match self {
            Self::Blocking(receiver) => Ok(receiver.recv()?),
            #[cfg(feature = "tokio")]
            Self::Tokio(receiver) => Ok(block_on(receiver.recv())?),
            Self::Hub(receiver) => receiver.recv(None),
        }
    }

    pub fn recv_into(&mut self, message: &mut Vec<u8>) -> Result<Option<usize>> {
        match self {
            Self::Blocking(receiver) => Ok(receiver.recv_into(message)?),
            #[cfg(feature = "tokio")]
            Self::Tokio(receiver) => Ok(block_on(receiver.recv_into(message))?),
            Self::Hub(receiver) => match receiver.recv(None)? {
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
            Self::Blocking(receiver) => Ok(receiver.recv_timeout(timeout)?),
            #[cfg(feature = "tokio")]
            Self::Tokio(receiver) if timeout.is_zero() => from_try_recv(receiver.try_recv()),
            #[cfg(feature = "tokio")]
            Self::Tokio(receiver) => Ok(block_on_for(timeout, receiver.recv()).ok_or(Error::TimedOut)??),
            Self::Hub(receiver) => receiver.recv(Some(timeout)),
        }
    }

    pub fn peer(&self) -> &Peer {
        match self {
            Self::Blocking(receiver) => receiver.peer(),
            #[cfg(feature = "tokio")]
            Self::Tokio(receiver) => receiver.peer(),
            Self::Hub(receiver) => receiver.peer(),
        }
    }

    pub fn transport(&self) -> Transport {
        match self {
            Self::Blocking(receiver) => receiver.transport(),
            #[cfg(feature = "tokio")]
            Self::Tokio(receiver) => receiver.transport(),
            Self::Hub(receiver) => receiver.transport(),
        }
    }
}
