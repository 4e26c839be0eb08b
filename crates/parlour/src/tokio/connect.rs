//! Connecting as a task.

use std::future::poll_fn;
use std::process::{Child, Command};

use tokio::task::coop::poll_proceed;

use super::connection::Connection;
use super::registration::{check_runtime, registration_error};
use super::waiting::Waiting;
use crate::connect::Connecting;
use crate::connect::connector::Connector;
use crate::error::{Operation, Result};
use crate::escape::escaped;
use crate::options::ConnectOptions;
use crate::transport::Transport;

impl ConnectOptions {
    /// Creates both ends of a connection, in the current tokio runtime. See [`Connection::pair`].
    ///
    /// # Errors
    ///
    /// Those of [`pair`](ConnectOptions::pair), and [`Unsupported`](crate::ErrorKind::Unsupported) outside of a
    /// runtime.
    pub fn pair_tokio(&self, transport: Transport) -> Result<(Connection, Connection)> {
        let (one, other) = self.pair(transport)?;
        Ok((Connection::from_blocking(one)?, Connection::from_blocking(other)?))
    }

    /// Starts a program and returns a connection to it, in the current tokio runtime. See [`Connection::spawn`].
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](ConnectOptions::spawn), and [`Unsupported`](crate::ErrorKind::Unsupported) outside of a
    /// runtime. Then no program is started.
    pub fn spawn_tokio(&self, command: Command, transport: Transport) -> Result<(Connection, Child)> {
        // A child that is already running would have to be ended.
        check_runtime(Operation::Spawn, escaped(command.get_program()).to_string())?;
        let (connection, mut child) = self.spawn(command, transport)?;
        match Connection::from_blocking(connection) {
            Ok(connection) => Ok((connection, child)),
            Err(error) => {
                // An error means that the child has ended.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Takes the connection that the parent of this process passed to it, in the current tokio runtime. See
    /// [`Connection::from_env`].
    ///
    /// # Errors
    ///
    /// Those of [`from_env`](ConnectOptions::from_env), and [`Unsupported`](crate::ErrorKind::Unsupported) outside of a
    /// runtime. Then the connection can still be taken.
    #[allow(clippy::wrong_self_convention, reason = "it converts the environment, with these options")]
    pub fn from_env_tokio(&self) -> Result<Connection> {
        check_runtime(Operation::Inherit, "$PARLOUR_FD")?;
        Connection::from_blocking(self.from_env()?)
    }

    /// Connects, in a task of a tokio runtime. See [`Connection::connect`].
    ///
    /// # Errors
    ///
    /// Those of [`connect`](ConnectOptions::connect), and [`Unsupported`](crate::ErrorKind::Unsupported) outside of a
    /// runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, nothing is left behind. The server may accept a client that has
    /// disconnected.
    pub async fn connect_tokio(&self, address: impl AsRef<str>) -> Result<Connection> {
        finish(Connecting::new(address.as_ref(), self)?).await
    }
}

impl Connector {
    /// Connects to the server, in a task of a tokio runtime. See [`Connector::connect`].
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Connector::connect), and [`Unsupported`](crate::ErrorKind::Unsupported) outside of a
    /// runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, nothing is left behind. The server may accept a client that has
    /// disconnected.
    pub async fn connect_tokio(&self) -> Result<Connection> {
        finish(self.connecting()).await
    }
}

/// Takes all steps, and waits between them.
async fn finish(mut connecting: Connecting) -> Result<Connection> {
    loop {
        // A task that connects in a loop, to a server that admits every client, gives way to other tasks.
        poll_fn(poll_proceed).await.made_progress();
        if let Some(connection) = connecting.step()? {
            return Connection::from_blocking(connection);
        }
        let waiting = Waiting::new(&connecting.wait_set())
            .map_err(|error| registration_error(Operation::Connect, connecting.object(), error))?;
        waiting.wait().await.map_err(|error| connecting.failed(error))?;
    }
}
