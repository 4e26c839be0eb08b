//! Connecting as a task.

use std::future::poll_fn;

use tokio::task::coop::poll_proceed;

use super::connection::Connection;
use super::registration::registration_error;
use super::waiting::Waiting;
use crate::connect::Connecting;
use crate::error::{Operation, Result};
use crate::options::ConnectOptions;

impl ConnectOptions {
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
        let mut connecting = Connecting::new(address.as_ref(), self)?;
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
}
