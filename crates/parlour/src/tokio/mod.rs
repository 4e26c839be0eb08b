//! The API for tasks of a [tokio](https://docs.rs/tokio) runtime: the same names and the same meanings as in the blocking API,
//! with `async` where that one blocks.
//!
//! ```
//! use parlour::tokio::{Connection, Server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let base = tempfile::tempdir()?;
//! # let name = format!("{}/greeter", base.path().display());
//! // let name = "greeter";
//! let server = Server::bind(&name)?;
//! tokio::spawn(async move {
//!     let mut client = server.accept().await?;
//!     while let Some(message) = client.recv().await? {
//!         client.send(&[b"hello, ", &message[..]].concat()).await?;
//!     }
//!     Ok::<(), parlour::Error>(())
//! });
//!
//! let mut connection = Connection::connect(&name).await?;
//! connection.send(b"world").await?;
//! assert_eq!(connection.recv().await?.unwrap(), b"hello, world");
//! connection.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Options are those of the blocking API: [`ServerOptions::bind_tokio`](crate::ServerOptions::bind_tokio) and
//! [`ConnectOptions::connect_tokio`](crate::ConnectOptions::connect_tokio). What was made otherwise is taken over with
//! [`Server::from_blocking`] and [`Connection::from_blocking`]. Both ends need not be of the same API.
//!
//! # How it waits
//!
//! By readiness: each descriptor is registered once with the runtime, and a task that waits is woken when something has come.
//! No thread is started, nothing polls in a loop, and an idle connection costs nothing. It works on the current-thread and
//! on the multi-thread runtime, with or without timers. What always has something to do (a peer that never stops sending)
//! gives way to other tasks when its budget is used up, [`coop`](::tokio::task::coop).
//!
//! An idle connection holds no buffer: those that are needed while bytes are waiting come from a handful that each thread
//! of the runtime keeps, and go back there. With its task, which [`serve`](Server::serve) starts, it takes less than 1 KiB of
//! memory (over `shm`, the two rings besides).
//!
//! # Timeouts and cancellation
//!
//! There are no timeouts of its own: wrap a call in `tokio::time::timeout`. Every future here may be dropped
//! at any time, and no message is lost, doubled or torn by that; each method says what it means under "Cancel safety".
//! [`messages_taken`](Connection::messages_taken) tells whether the message of a `send` that was dropped is on its way.
//!
//! To receive only what is there already, call [`try_recv`](Connection::try_recv): a future that is polled just once, as
//! under a timeout of zero, may be polled before the runtime has noticed what has come.
//!
//! # Streams and sinks
//!
//! [`Incoming`] is a [`Stream`](futures_core::Stream) of connections. A [`Connection`] is a `Stream` of messages and a
//! [`Sink`](futures_sink::Sink) for anything that is bytes, and so are its halves. With the feature `serde`,
//! `Connection::typed` makes it a stream and a sink of your own types, over which RPC crates run as they are.
//!
//! # Errors
//!
//! Every method may give, besides its own errors, [`ErrorKind::Io`](crate::ErrorKind::Io) when the runtime is shutting down.
//! What registers a descriptor gives [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) outside of a runtime.
//!
//! # Panics
//!
//! Only in a runtime that was built without I/O (`enable_io`), where tokio itself does.

mod buffers;
mod connect;
mod connection;
mod receiver;
mod registration;
mod sender;
mod serve;
mod server;
#[cfg(feature = "serde")]
mod typed;
mod waiting;

pub use connection::Connection;
pub use receiver::Receiver;
pub use sender::Sender;
pub use serve::Served;
pub use server::{Incoming, Server};
#[cfg(feature = "serde")]
pub use typed::{Typed, TypedReceiver, TypedSender};
