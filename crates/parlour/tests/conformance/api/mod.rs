//! One front with the methods of the blocking API over all APIs of the library. Each scenario is written once and runs
//! with every API over every transport.
//!
//! The child processes of a scenario always use the blocking API.

mod connection;
mod error;
mod halves;
mod hub;
mod server;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use parlour::{ConnectOptions, Message, ServerOptions, Transport};
use tokio::runtime::{Builder, Runtime};

use crate::support::declare::Value;
use crate::support::{Base, alone, eventually};

pub use connection::{Connection, echo};
use error::Error;
pub use error::{Result, TryRecvError, TrySendError};
pub use halves::{Receiver, Sender};
pub use server::Server;

/// An API of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    Blocking,
    /// The async API. Each call blocks the calling thread on a future.
    Tokio,
    /// The server is a hub, which serves its end of each connection. The clients use the blocking API.
    Hub,
}

/// Returns the runtime of [`Api::Tokio`]. It is dropped at the end of the trial, when no task may be left.
fn runtime() -> Arc<Runtime> {
    static RUNTIME: Mutex<Option<Arc<Runtime>>> = Mutex::new(None);
    let start = || {
        alone::at_end(|| {
            let runtime = RUNTIME.lock().unwrap().take().unwrap();
            eventually("no task is left", || runtime.metrics().num_alive_tasks() == 0);
        });
        Arc::new(Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
    };
    Arc::clone(RUNTIME.lock().unwrap().get_or_insert_with(start))
}

fn block_on<F: Future>(future: F) -> F::Output {
    runtime().block_on(future)
}

/// Applies a timeout as the blocking API does. Returns `None` when it has expired.
fn block_on_for<F: Future>(timeout: Duration, future: F) -> Option<F::Output> {
    block_on(async { tokio::time::timeout(timeout, future).await.ok() })
}

/// Converts the result of `try_recv`, which stands in for a timeout of zero: a future that is polled only once may be
/// pending because the runtime has not yet reported the event.
fn from_try_recv(received: std::result::Result<Option<Message>, parlour::TryRecvError>) -> Result<Option<Message>> {
    received.map_err(|error| match error {
        parlour::TryRecvError::Empty => Error::TimedOut,
        parlour::TryRecvError::Failed(error) => error.into(),
    })
}

/// The parameters of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub transport: Transport,
    pub api: Api,
}

/// Returns the API of this test executable with each transport.
pub fn settings() -> Vec<Setting> {
    Transport::ALL.iter().map(|&transport| Setting { transport, api: crate::API }).collect()
}

impl Value for Setting {
    fn word(&self) -> String {
        self.transport.word()
    }
}

impl Setting {
    /// Returns the reason if the API is the hub.
    pub fn is_a_hub(self, reason: &str) -> Option<&str> {
        (self.api == Api::Hub).then_some(reason)
    }

    /// Returns the reason if the API is not the blocking one.
    pub fn is_not_blocking(self, reason: &str) -> Option<&str> {
        (self.api != Api::Blocking).then_some(reason)
    }

    /// Returns the address of a name in this base over the transport.
    pub fn address(self, base: &Base, name: &str) -> String {
        base.address(self.transport, name)
    }

    pub fn bind(self, address: impl AsRef<str>) -> Result<Server> {
        self.bind_with(&ServerOptions::new(), address)
    }

    pub fn bind_with(self, options: &ServerOptions, address: impl AsRef<str>) -> Result<Server> {
        match self.api {
            Api::Blocking => Ok(Server::Blocking(options.bind(address)?)),
            Api::Tokio => {
                let runtime = runtime();
                let _inside = runtime.enter();
                Ok(Server::Tokio(options.bind_tokio(address)?))
            }
            Api::Hub => Ok(Server::Hub(hub::HubServer::bind(options, address.as_ref())?)),
        }
    }

    pub fn connect(self, address: impl AsRef<str>) -> Result<Connection> {
        self.connect_with(&ConnectOptions::new(), address)
    }

    pub fn connect_with(self, options: &ConnectOptions, address: impl AsRef<str>) -> Result<Connection> {
        match self.api {
            Api::Blocking | Api::Hub => Ok(Connection::Blocking(options.connect(address)?)),
            Api::Tokio => Ok(Connection::Tokio(block_on(options.connect_tokio(address))?)),
        }
    }
}
