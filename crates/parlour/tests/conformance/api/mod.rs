//! The APIs that the contract holds for, behind one front with the methods of the blocking API: so each scenario is written
//! once, and runs with every API over every transport.
//!
//! Children of a scenario are always blocking, whatever the API at this end is.

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
pub enum Way {
    Blocking,
    /// Each call is a future that a thread of its own blocks on, with tasks and threads as the scenarios have them.
    Tokio,
    /// The server is a hub, and its end of each connection is served by it. Its clients are blocking.
    Hub,
}

/// The runtime behind [`Way::Tokio`]. It goes at the end of the trial, when no task may be left in it.
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

/// What a timeout means to the blocking API. `None` when it has passed.
fn block_on_for<F: Future>(timeout: Duration, future: F) -> Option<F::Output> {
    block_on(async { tokio::time::timeout(timeout, future).await.ok() })
}

/// What no time at all means: polled once, a future is polled before the runtime may have noticed what has come.
fn at_once(received: std::result::Result<Option<Message>, parlour::TryRecvError>) -> Result<Option<Message>> {
    received.map_err(|error| match error {
        parlour::TryRecvError::Empty => Error::TimedOut,
        parlour::TryRecvError::Failed(error) => error.into(),
    })
}

/// What a scenario runs with.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub transport: Transport,
    pub way: Way,
}

/// Returns the API of this executable over every transport.
pub fn settings() -> Vec<Setting> {
    Transport::ALL.iter().map(|&transport| Setting { transport, way: crate::WAY }).collect()
}

impl Value for Setting {
    fn word(&self) -> String {
        self.transport.word()
    }
}

impl Setting {
    /// Returns this reason where it is a hub.
    pub fn is_a_hub(self, reason: &str) -> Option<&str> {
        (self.way == Way::Hub).then_some(reason)
    }

    /// Returns this reason where it is not the blocking API.
    pub fn is_not_blocking(self, reason: &str) -> Option<&str> {
        (self.way != Way::Blocking).then_some(reason)
    }

    /// The address of a name in this base, over the transport.
    pub fn address(self, base: &Base, name: &str) -> String {
        base.address(self.transport, name)
    }

    pub fn bind(self, address: impl AsRef<str>) -> Result<Server> {
        self.bind_with(&ServerOptions::new(), address)
    }

    pub fn bind_with(self, options: &ServerOptions, address: impl AsRef<str>) -> Result<Server> {
        match self.way {
            Way::Blocking => Ok(Server::Blocking(options.bind(address)?)),
            Way::Tokio => {
                let runtime = runtime();
                let _inside = runtime.enter();
                Ok(Server::Tokio(options.bind_tokio(address)?))
            }
            Way::Hub => Ok(Server::Hub(hub::HubServer::bind(options, address.as_ref())?)),
        }
    }

    pub fn connect(self, address: impl AsRef<str>) -> Result<Connection> {
        self.connect_with(&ConnectOptions::new(), address)
    }

    pub fn connect_with(self, options: &ConnectOptions, address: impl AsRef<str>) -> Result<Connection> {
        match self.way {
            Way::Blocking | Way::Hub => Ok(Connection::Blocking(options.connect(address)?)),
            Way::Tokio => Ok(Connection::Tokio(block_on(options.connect_tokio(address))?)),
        }
    }
}
