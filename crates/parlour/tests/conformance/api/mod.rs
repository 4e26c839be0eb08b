//! One front with the methods of the blocking API over all APIs of the library. Each scenario is written once and runs
//! with every API over every transport.
//!
//! The child processes of a scenario always use the blocking API.

pub mod calls;
mod connection;
mod error;
mod halves;
mod hub;
mod server;
pub mod session;
#[cfg(feature = "tokio")]
mod tasks;

use parlour::{ConnectOptions, Connector, ServerOptions, Transport};

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
    /// Both ends of a connection are a pair without a server, with the blocking API and with the async API in turn.
    Pair,
}

#[cfg(not(feature = "tokio"))]
const WITHOUT_TOKIO: &str = "these tests are built without the feature `tokio`";

/// The parameters of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub transport: Transport,
    pub api: Api,
    /// The two ends of a connection are a pair.
    pub is_pair: bool,
}

/// Returns the API of this test executable with each transport.
pub fn settings() -> Vec<Setting> {
    let over_each = |api, is_pair| Transport::ALL.iter().map(move |&transport| Setting { transport, api, is_pair });
    match crate::API {
        Api::Pair => over_each(Api::Blocking, true).chain(over_each(Api::Tokio, true)).collect(),
        api => over_each(api, false).collect(),
    }
}

impl Value for Setting {
    fn word(&self) -> String {
        match (self.is_pair, self.api) {
            (true, Api::Tokio) => format!("tokio::{}", self.transport.word()),
            _ => self.transport.word(),
        }
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

    /// Returns the reason if the ends of a connection are a pair, without a server.
    pub fn is_a_pair(self, reason: &str) -> Option<&str> {
        self.is_pair.then_some(reason)
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
            Api::Pair => panic!("a pair has no server"),
        }
    }

    pub fn connect(self, address: impl AsRef<str>) -> Result<Connection> {
        self.connect_with(&ConnectOptions::new(), address)
    }

    pub fn connect_with(self, options: &ConnectOptions, address: impl AsRef<str>) -> Result<Connection> {
        match self.api {
            Api::Blocking | Api::Hub => Ok(Connection::Blocking(options.connect(address)?)),
            Api::Pair => panic!("a pair has no server"),
            #[cfg(feature = "tokio")]
            Api::Tokio => Ok(Connection::Tokio(tasks::block_on(options.connect_tokio(address))?)),
            #[cfg(not(feature = "tokio"))]
            Api::Tokio => panic!("{WITHOUT_TOKIO}"),
        }
    }

    /// Connects through a connector.
    pub fn connect_through(self, connector: &Connector) -> Result<Connection> {
        match self.api {
            Api::Blocking | Api::Hub => Ok(Connection::Blocking(connector.connect()?)),
            Api::Pair => panic!("a pair has no server"),
            #[cfg(feature = "tokio")]
            Api::Tokio => Ok(Connection::Tokio(tasks::block_on(connector.connect_tokio())?)),
            #[cfg(not(feature = "tokio"))]
            Api::Tokio => panic!("{WITHOUT_TOKIO}"),
        }
    }

    /// Serves calls on this address, in the background.
    pub fn serve_calls(self, address: &str) -> Result<calls::CallServer> {
        match self.bind(address)? {
            Server::Blocking(server) => Ok(calls::CallServer::blocking(server)),
            #[cfg(feature = "tokio")]
            Server::Tokio(server) => Ok(calls::CallServer::tokio(server)),
            Server::Hub(_) => panic!("a server of calls has its own hub"),
        }
    }

    pub fn caller(self, address: &str) -> Result<calls::Caller> {
        match self.connect(address)? {
            Connection::Blocking(connection) => Ok(calls::Caller::Blocking(parlour::Caller::new(connection)?)),
            #[cfg(feature = "tokio")]
            Connection::Tokio(connection) => {
                let runtime = tasks::runtime();
                let _inside = runtime.enter();
                Ok(calls::Caller::Tokio(parlour::tokio::Caller::new(connection)?))
            }
            Connection::Hub(_) => panic!("a hub has no clients of its own"),
        }
    }

    pub fn session(self, address: &str) -> Result<session::Session> {
        match self.api {
            Api::Blocking | Api::Hub => Ok(session::Session::Blocking(parlour::Session::new(address)?)),
            #[cfg(feature = "tokio")]
            Api::Tokio => Ok(session::Session::Tokio(parlour::tokio::Session::new(address)?)),
            api => panic!("{api:?} has no sessions"),
        }
    }

    /// Returns a session whose hook sends this message after each connect.
    pub fn session_with_greeting(self, address: &str, greeting: &'static [u8]) -> Result<session::Session> {
        Ok(match self.session(address)? {
            session::Session::Blocking(session) => {
                session::Session::Blocking(session.on_connect(move |connection| Ok(connection.send(greeting)?)))
            }
            #[cfg(feature = "tokio")]
            session::Session::Tokio(session) => {
                session::Session::Tokio(session.on_connect(move |mut connection| async move {
                    connection.send(greeting).await?;
                    Ok(connection)
                }))
            }
        })
    }

    /// Returns a pair with these options.
    pub fn pair(self, options: &ConnectOptions) -> Result<(Connection, Connection)> {
        match self.api {
            Api::Blocking => {
                let (one, other) = options.pair(self.transport)?;
                Ok((Connection::Blocking(one), Connection::Blocking(other)))
            }
            #[cfg(feature = "tokio")]
            Api::Tokio => {
                let runtime = tasks::runtime();
                let _inside = runtime.enter();
                let (one, other) = options.pair_tokio(self.transport)?;
                Ok((Connection::Tokio(one), Connection::Tokio(other)))
            }
            api => panic!("{api:?} has no pairs"),
        }
    }
}
