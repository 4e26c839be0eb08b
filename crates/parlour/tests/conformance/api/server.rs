//! A server of any API.

use std::path::Path;
use std::time::Duration;

#[cfg(feature = "tokio")]
use futures_util::StreamExt;
use parlour::{ErrorKind, Refusal, ServerStats, ShutdownHandle, Transport};

use super::error::Error;
use super::hub::HubServer;
#[cfg(feature = "tokio")]
use super::tasks::{block_on, block_on_for, runtime};
use super::{Connection, Result, TryRecvError};
use crate::support::wait;

#[derive(Debug)]
pub enum Server {
    Blocking(parlour::Server),
    #[cfg(feature = "tokio")]
    Tokio(parlour::tokio::Server),
    Hub(HubServer),
}

impl Server {
    pub fn accept(&self) -> Result<Connection> {
        match self {
            Self::Blocking(server) => Ok(Connection::Blocking(server.accept()?)),
            #[cfg(feature = "tokio")]
            Self::Tokio(server) => Ok(Connection::Tokio(block_on(server.accept())?)),
            Self::Hub(server) => Ok(server.accept(None)?.into()),
        }
    }

    pub fn accept_timeout(&self, timeout: Duration) -> Result<Connection> {
        match self {
            Self::Blocking(server) => Ok(Connection::Blocking(server.accept_timeout(timeout)?)),
            #[cfg(feature = "tokio")]
            Self::Tokio(server) => {
                Ok(Connection::Tokio(block_on_for(timeout, server.accept()).ok_or(Error::TimedOut)??))
            }
            Self::Hub(server) => Ok(server.accept(Some(timeout))?.into()),
        }
    }

    pub fn try_accept(&self) -> Result<Connection, TryRecvError> {
        match self {
            Self::Blocking(server) => Ok(Connection::Blocking(server.try_accept()?)),
            #[cfg(feature = "tokio")]
            Self::Tokio(server) => {
                let runtime = runtime();
                let _inside = runtime.enter();
                Ok(Connection::Tokio(server.try_accept()?))
            }
            Self::Hub(server) => match server.accept(Some(Duration::ZERO)) {
                Ok(connection) => Ok(connection.into()),
                Err(Error::TimedOut) => Err(TryRecvError::Empty),
                Err(error) => Err(TryRecvError::Failed(error)),
            },
        }
    }

    /// Returns the iterator or stream over new clients that the API has.
    pub fn incoming(&self) -> Box<dyn Iterator<Item = Result<Connection>> + '_> {
        match self {
            Self::Blocking(server) => {
                Box::new(server.incoming().map(|connection| Ok(Connection::Blocking(connection?))))
            }
            #[cfg(feature = "tokio")]
            Self::Tokio(server) => {
                let mut incoming = server.incoming();
                let next = move || Some(block_on(incoming.next())?.map(Connection::Tokio).map_err(Error::from));
                Box::new(std::iter::from_fn(next))
            }
            Self::Hub(server) => {
                let mut ended = false;
                let next = move || {
                    if ended {
                        return None;
                    }
                    match server.accept(None) {
                        Ok(connection) => Some(Ok(connection.into())),
                        Err(error) => {
                            ended = true;
                            (error.kind() != ErrorKind::Shutdown).then_some(Err(error))
                        }
                    }
                };
                Box::new(std::iter::from_fn(next))
            }
        }
    }

    /// Waits until `accept` would not block. Returns `false` if that takes longer than the deadline.
    pub fn wait_readable(&self) -> bool {
        match self {
            Self::Blocking(server) => wait::readable(server),
            #[cfg(feature = "tokio")]
            Self::Tokio(server) => wait::readable(server),
            Self::Hub(server) => server.wait_readable(),
        }
    }

    pub fn shutdown_handle(&self) -> ShutdownHandle {
        match self {
            Self::Blocking(server) => server.shutdown_handle(),
            #[cfg(feature = "tokio")]
            Self::Tokio(server) => server.shutdown_handle(),
            Self::Hub(server) => server.shutdown_handle(),
        }
    }

    pub fn close(self) -> Result<()> {
        match self {
            Self::Blocking(server) => Ok(server.close()?),
            #[cfg(feature = "tokio")]
            Self::Tokio(server) => Ok(server.close()?),
            // A hub closes when the last of its connections is dropped.
            Self::Hub(server) => {
                drop(server);
                Ok(())
            }
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Blocking(server) => server.name(),
            #[cfg(feature = "tokio")]
            Self::Tokio(server) => server.name(),
            Self::Hub(server) => server.name(),
        }
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Blocking(server) => server.path(),
            #[cfg(feature = "tokio")]
            Self::Tokio(server) => server.path(),
            Self::Hub(server) => server.path(),
        }
    }

    pub fn transports(&self) -> Vec<Transport> {
        match self {
            Self::Blocking(server) => server.transports().to_vec(),
            #[cfg(feature = "tokio")]
            Self::Tokio(server) => server.transports().to_vec(),
            Self::Hub(server) => server.transports(),
        }
    }

    pub fn stats(&self) -> ServerStats {
        match self {
            Self::Blocking(server) => server.stats(),
            #[cfg(feature = "tokio")]
            Self::Tokio(server) => server.stats(),
            Self::Hub(server) => server.stats(),
        }
    }

    /// Returns the next refusal of a server that is no hub.
    pub fn next_refusal(&self) -> Option<Refusal> {
        match self {
            Self::Blocking(server) => server.next_refusal(),
            #[cfg(feature = "tokio")]
            Self::Tokio(server) => server.next_refusal(),
            Self::Hub(_) => panic!("a hub has an event for each refusal"),
        }
    }
}
