//! The API for tasks of a [tokio](https://docs.rs/tokio) runtime. It has the names and the meanings of the blocking
//! API. Functions that block there are `async` here.
//!
//! A server with a task for each client:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use parlour::tokio::{Connection, Server};
//!
//! #[tokio::main]
//! async fn main() -> parlour::Result<()> {
//!     // When `stop` completes, the server accepts no more clients. Open connections have five seconds to finish.
//!     let stop = std::future::pending();
//!     Server::bind("echo")?.serve(echo, stop, Duration::from_secs(5)).await?;
//!     Ok(())
//! }
//!
//! async fn echo(mut client: Connection) {
//!     while let Ok(Some(message)) = client.recv().await {
//!         if client.send(&message).await.is_err() {
//!             break;
//!         }
//!     }
//! }
//! ```
//!
//! A client:
//!
//! ```no_run
//! use parlour::tokio::Connection;
//!
//! #[tokio::main]
//! async fn main() -> parlour::Result<()> {
//!     let mut connection = Connection::connect("echo").await?;
//!     connection.send("hello").await?;
//!     println!("{:?}", connection.recv().await?);
//!     Ok(())
//! }
//! ```
//!
//! The options are those of the blocking API: [`ServerOptions::bind_tokio`](crate::ServerOptions::bind_tokio) and
//! [`ConnectOptions::connect_tokio`](crate::ConnectOptions::connect_tokio). [`Server::from_blocking`] and
//! [`Connection::from_blocking`] convert servers and connections of the blocking API. The two ends of a connection may
//! use different APIs.
//!
//! A [`Session`] connects again when its server has gone, and reports what may have been lost.
//!
//! # Implementation
//!
//! Waiting is readiness-based. Each descriptor is registered once with the runtime, and a waiting task is woken when
//! its descriptor becomes ready. No thread is started, nothing polls in a loop, and an idle connection costs no
//! processor time. The API works on the current-thread and on the multi-thread runtime, with or without timers. A task
//! that always has something to do (for example because a peer never stops sending) yields to other tasks when its
//! budget is used up. See [`coop`](::tokio::task::coop).
//!
//! An idle connection holds no buffer. Buffers are lent while bytes are waiting, from a small pool of each thread of
//! the runtime. An idle connection with its task, as [`serve`](Server::serve) starts it, takes less than 1 KiB of
//! memory, plus the two rings over `shm`.
//!
//! # Timeouts and cancellation
//!
//! There are no variants with a timeout: wrap a call in `tokio::time::timeout`. Dropping a future loses, duplicates or
//! truncates no message, with two exceptions. Dropping the future of [`close`](Connection::close) drops the connection:
//! buffered messages that a full channel does not accept are then lost. Dropping the future of [`serve`](Server::serve)
//! aborts the handlers. Each method documents the consequences under "Cancel safety".
//! [`messages_taken`](Connection::messages_taken) shows whether the message of a dropped `send` was accepted.
//!
//! After a timeout of `recv`, an answer that arrives late is what the next `recv` returns. A [`Caller`] gives each
//! answer to its own call.
//!
//! To receive only what has arrived already, call [`try_recv`](Connection::try_recv). A future that is polled just
//! once, as under a timeout of zero, may be polled before the runtime has noticed new data.
//!
//! # Streams and sinks
//!
//! [`Incoming`] is a [`Stream`](futures_core::Stream) of connections. A [`Connection`] is a `Stream` of messages, and a
//! [`Sink`](futures_sink::Sink) for values that are `AsRef<[u8]>`. So are its halves. With the feature `serde`,
//! `Connection::typed` converts it into a stream and a sink of the caller's types, over which RPC crates run unchanged.
//!
//! # Errors
//!
//! Besides its own errors, every `async` method may return [`ErrorKind::Io`](crate::ErrorKind::Io) when the runtime is
//! shutting down. Methods that register a descriptor return
//! [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) outside of a runtime.
//!
//! # Panics
//!
//! The methods panic only in a runtime that was built without
//! [`Builder::enable_io`](::tokio::runtime::Builder::enable_io), because tokio panics there.

mod buffers;
mod call_session;
mod call_task;
mod caller;
mod caller_task;
mod connect;
mod connection;
#[cfg(feature = "testing")]
mod faulty;
mod frames;
mod raw_parts;
mod receiver;
mod registration;
mod sender;
mod serve;
mod serve_calls;
mod server;
mod session;
mod standby;
#[cfg(feature = "serde")]
mod typed;
#[cfg(feature = "serde")]
mod typed_call_session;
#[cfg(feature = "serde")]
mod typed_calls;
mod waiting;

pub use call_session::CallSession;
pub use caller::{CallStream, Caller};
pub use connection::Connection;
#[cfg(feature = "testing")]
pub use faulty::Faulty;
pub use frames::FramePool;
pub use raw_parts::IntoRawPartsError;
pub use receiver::Receiver;
pub use sender::Sender;
pub use serve::Served;
pub use serve_calls::{Call, CallServer};
pub use server::{Incoming, Server};
pub use session::Session;
#[cfg(feature = "serde")]
pub use typed::{Typed, TypedReceiver, TypedSender};
#[cfg(feature = "serde")]
pub use typed_call_session::TypedCallSession;
#[cfg(feature = "serde")]
pub use typed_calls::{TypedCall, TypedCallStream, TypedCaller};
