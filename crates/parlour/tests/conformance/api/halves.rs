//! The halves of a connection of any API.

use std::time::Duration;

use parlour::{Message, Peer, Transport};

use super::Result;

#[derive(Debug)]
pub enum Sender {
    Blocking(parlour::Sender),
}

impl Sender {
    pub fn send(&mut self, message: &[u8]) -> Result<()> {
        match self {
            Self::Blocking(sender) => Ok(sender.send(message)?),
        }
    }

    pub fn flush(&mut self) -> Result<()> {
        match self {
            Self::Blocking(sender) => Ok(sender.flush()?),
        }
    }

    pub fn finish(&mut self) -> Result<()> {
        match self {
            Self::Blocking(sender) => Ok(sender.finish()?),
        }
    }

    pub fn peer(&self) -> &Peer {
        match self {
            Self::Blocking(sender) => sender.peer(),
        }
    }

    pub fn transport(&self) -> Transport {
        match self {
            Self::Blocking(sender) => sender.transport(),
        }
    }
}

#[derive(Debug)]
pub enum Receiver {
    Blocking(parlour::Receiver),
}

impl Receiver {
    pub fn recv(&mut self) -> Result<Option<Message>> {
        match self {
            Self::Blocking(receiver) => Ok(receiver.recv()?),
        }
    }

    pub fn recv_into(&mut self, message: &mut Vec<u8>) -> Result<bool> {
        match self {
            Self::Blocking(receiver) => Ok(receiver.recv_into(message)?),
        }
    }

    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message>> {
        match self {
            Self::Blocking(receiver) => Ok(receiver.recv_timeout(timeout)?),
        }
    }

    pub fn peer(&self) -> &Peer {
        match self {
            Self::Blocking(receiver) => receiver.peer(),
        }
    }

    pub fn transport(&self) -> Transport {
        match self {
            Self::Blocking(receiver) => receiver.transport(),
        }
    }
}
