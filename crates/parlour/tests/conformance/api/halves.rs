//! The halves of a connection of any API.

use std::time::Duration;

use parlour::{Message, Peer, Transport};

use super::error::Error;
use super::{Result, block_on, block_on_for};

#[derive(Debug)]
pub enum Sender {
    Blocking(parlour::Sender),
    Tokio(parlour::tokio::Sender),
}

impl Sender {
    pub fn send(&mut self, message: &[u8]) -> Result<()> {
        match self {
            Self::Blocking(sender) => Ok(sender.send(message)?),
            Self::Tokio(sender) => Ok(block_on(sender.send(message))?),
        }
    }

    pub fn flush(&mut self) -> Result<()> {
        match self {
            Self::Blocking(sender) => Ok(sender.flush()?),
            Self::Tokio(sender) => Ok(block_on(sender.flush())?),
        }
    }

    pub fn finish(&mut self) -> Result<()> {
        match self {
            Self::Blocking(sender) => Ok(sender.finish()?),
            Self::Tokio(sender) => Ok(block_on(sender.finish())?),
        }
    }

    pub fn peer(&self) -> &Peer {
        match self {
            Self::Blocking(sender) => sender.peer(),
            Self::Tokio(sender) => sender.peer(),
        }
    }

    pub fn transport(&self) -> Transport {
        match self {
            Self::Blocking(sender) => sender.transport(),
            Self::Tokio(sender) => sender.transport(),
        }
    }
}

#[derive(Debug)]
pub enum Receiver {
    Blocking(parlour::Receiver),
    Tokio(parlour::tokio::Receiver),
}

impl Receiver {
    pub fn recv(&mut self) -> Result<Option<Message>> {
        match self {
            Self::Blocking(receiver) => Ok(receiver.recv()?),
            Self::Tokio(receiver) => Ok(block_on(receiver.recv())?),
        }
    }

    pub fn recv_into(&mut self, message: &mut Vec<u8>) -> Result<bool> {
        match self {
            Self::Blocking(receiver) => Ok(receiver.recv_into(message)?),
            Self::Tokio(receiver) => Ok(block_on(receiver.recv_into(message))?),
        }
    }

    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message>> {
        match self {
            Self::Blocking(receiver) => Ok(receiver.recv_timeout(timeout)?),
            Self::Tokio(receiver) => Ok(block_on_for(timeout, receiver.recv()).ok_or(Error::TimedOut)??),
        }
    }

    pub fn peer(&self) -> &Peer {
        match self {
            Self::Blocking(receiver) => receiver.peer(),
            Self::Tokio(receiver) => receiver.peer(),
        }
    }

    pub fn transport(&self) -> Transport {
        match self {
            Self::Blocking(receiver) => receiver.transport(),
            Self::Tokio(receiver) => receiver.transport(),
        }
    }
}
