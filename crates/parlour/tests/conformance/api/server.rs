//! A server of any API.

use std::path::Path;
use std::time::Duration;

use parlour::{Refusals, ShutdownHandle, Transport};

use super::{Connection, Result};
use crate::support::wait;

#[derive(Debug)]
pub enum Server {
    Blocking(parlour::Server),
}

impl Server {
    pub fn accept(&self) -> Result<Connection> {
        match self {
            Self::Blocking(server) => Ok(Connection::Blocking(server.accept()?)),
        }
    }

    pub fn accept_timeout(&self, timeout: Duration) -> Result<Connection> {
        match self {
            Self::Blocking(server) => Ok(Connection::Blocking(server.accept_timeout(timeout)?)),
        }
    }

    pub fn try_accept(&self) -> Result<Option<Connection>> {
        match self {
            Self::Blocking(server) => Ok(server.try_accept()?.map(Connection::Blocking)),
        }
    }

    /// The clients as they come, as the API has them.
    pub fn incoming(&self) -> Box<dyn Iterator<Item = Result<Connection>> + '_> {
        match self {
            Self::Blocking(server) => {
                Box::new(server.incoming().map(|connection| Ok(Connection::Blocking(connection?))))
            }
        }
    }

    /// Waits until there is something to do for `accept`; `false` when nothing is for long.
    pub fn has_somebody(&self) -> bool {
        match self {
            Self::Blocking(server) => wait::readable(server),
        }
    }

    pub fn shutdown_handle(&self) -> ShutdownHandle {
        match self {
            Self::Blocking(server) => server.shutdown_handle(),
        }
    }

    pub fn close(self) -> Result<()> {
        match self {
            Self::Blocking(server) => Ok(server.close()?),
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Blocking(server) => server.name(),
        }
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Blocking(server) => server.path(),
        }
    }

    pub fn transports(&self) -> Vec<Transport> {
        match self {
            Self::Blocking(server) => server.transports(),
        }
    }

    pub fn refused(&self) -> Refusals {
        match self {
            Self::Blocking(server) => server.refused(),
        }
    }
}
