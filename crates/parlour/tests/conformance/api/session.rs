//! A session of any API.

use parlour::{Message, Payload};

use super::Result;
#[cfg(feature = "tokio")]
use super::error::Error;
#[cfg(feature = "tokio")]
use super::tasks::block_on_for;
use crate::support::DEADLINE;

pub enum Session {
    Blocking(parlour::Session),
    #[cfg(feature = "tokio")]
    Tokio(parlour::tokio::Session),
}

impl Session {
    pub fn send<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<()> {
        match self {
            Self::Blocking(session) => Ok(session.send_timeout(payload, DEADLINE)?),
            #[cfg(feature = "tokio")]
            Self::Tokio(session) => Ok(block_on_for(DEADLINE, session.send(payload.into())).ok_or(Error::TimedOut)??),
        }
    }

    pub fn recv(&mut self) -> Result<Message> {
        match self {
            Self::Blocking(session) => Ok(session.recv_timeout(DEADLINE)?),
            #[cfg(feature = "tokio")]
            Self::Tokio(session) => Ok(block_on_for(DEADLINE, session.recv()).ok_or(Error::TimedOut)??),
        }
    }

    pub fn close(self) -> Result<()> {
        match self {
            Self::Blocking(session) => Ok(session.close_timeout(DEADLINE)?),
            #[cfg(feature = "tokio")]
            Self::Tokio(session) => Ok(block_on_for(DEADLINE, session.close()).ok_or(Error::TimedOut)??),
        }
    }
}
