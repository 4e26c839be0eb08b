//! One front with the methods of the blocking API over all APIs of the library. Each scenario is written once and runs
//! with every API over every transport.
//!
//! The child processes of a scenario always use the blocking API.

mod connection;
mod error;
mod halves;
mod hub;
mod server;
#[cfg(feature = "tokio")]
mod tasks;

use parlour::{ConnectOptions, ServerOptions, Transport};

use crate::support::Base;
use crate::support::declare::Value;

pub use connection::{Connection, echo};
pub use error::{Error, Result, TryRecvError, TrySendError};
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

#[cfg(not(feature = "tokio"))]
const WITHOUT_TOKIO: &str = "these tests are built without the feature `tokio`";

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
            #[cfg(feature = "tokio")]
            Api::Tokio => {
                let runtime = tasks::runtime();
                let _inside = runtime.enter();
                Ok(Server::Tokio(options.bind_tokio(address)?))
            }
            #[cfg(not(feature = "tokio"))]
            Api::Tokio => panic!("{WITHOUT_TOKIO}"),
            Api::Hub => Ok(Server::Hub(hub::HubServer::bind(options, address.as_ref())?)),
        }
    }

    pub fn connect(self, address: impl AsRef<str>) -> Result<Connection> {
        self.connect_with(&ConnectOptions::new(), address)
    }

    pub fn connect_with(self, options: &ConnectOptions, address: impl AsRef<str>) -> Result<Connection> {
        match self.api {
            Api::Blocking | Api::Hub => Ok(Connection::Blocking(options.connect(address)?)),
            #[cfg(feature = "tokio")]
            Api::Tokio => Ok(Connection::Tokio(tasks::block_on(options.connect_tokio(address))?)),
            #[cfg(not(feature = "tokio"))]
            Api::Tokio => panic!("{WITHOUT_TOKIO}"),
        }
    }
}
