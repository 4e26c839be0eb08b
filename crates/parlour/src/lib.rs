//! Local messaging by name: a server takes a name, clients find it by the name, and each gets a private two-way channel
//! of messages.
//!
//! ```
//! use parlour::{Connection, Server};
//!
//! # let base = tempfile::tempdir()?;
//! # let name = format!("{}/greeter", base.path().display());
//! // let name = "greeter";
//! let server = Server::bind(&name)?;
//! let greeter = std::thread::spawn(move || -> parlour::Result<()> {
//!     let mut client = server.accept()?;
//!     while let Some(message) = client.recv()? {
//!         client.send(&[b"hello, ", &message[..]].concat())?;
//!     }
//!     Ok(())
//! });
//!
//! let mut connection = Connection::connect(&name)?;
//! connection.send(b"world")?;
//! assert_eq!(connection.recv()?.unwrap(), b"hello, world");
//! connection.close()?;
//! greeter.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is guaranteed
//!
//! - **Names.** At most one live server has a name. It cannot be stolen from a live server, and it is free as soon as a
//!   dead one is gone, with nothing to remove. See [`Server::bind`].
//! - **Messages** arrive whole, in order and at most once, and are never merged or cut; an empty message is a message.
//! - **Identity.** Each side knows who the other is and what vouches for that: [`Peer`]. The client makes sure of the
//!   server before it sends a byte.
//! - **Limits** on everything that a peer could make grow, on by default: [`ServerOptions`].
//! - **The host process** is left alone: no thread, no runtime, no signal and no signal disposition, no umask, no
//!   output; no panic but one that comes out of the caller's own closure.
//!
//! # What happens when
//!
//! - *The channel is full*: [`send`](Connection::send) waits, [`send_timeout`](Connection::send_timeout) gives up at
//!   its deadline, [`try_send`](Connection::try_send) hands the message back. Nothing is dropped and nothing grows.
//! - *The channel is empty*: [`recv`](Connection::recv) waits, `recv_timeout` and `try_recv` do not.
//! - *The peer has closed or died*: `recv` gives its last messages and then `None`, or, where the kernel says that some
//!   of ours were not read, [`Disconnected`](ErrorKind::Disconnected); in the middle of a message it is
//!   [`Truncated`](ErrorKind::Truncated). `send` gives `Disconnected`.
//!   On `shm` a sender that never receives may fill the channel before it learns that a peer was killed.
//! - *The server dies*: its connections end as above, and the next server takes the name at once.
//!   [`wait_for_server`](ConnectOptions::wait_for_server) has clients wait for it.
//!
//! # What it does not do
//!
//! It does not cross machines, encrypt, store messages, or say whether the peer has read one. It does not defend
//! against root or against processes of the same user.
//!
//! # Where to find what
//!
//! [`Server`] and [`ServerOptions`] to serve, [`Hub`] to serve many clients in one thread ([`hub`]), [`Connection`] and [`ConnectOptions`] to connect, [`Sender`] and
//! [`Receiver`] for two threads, [`Address`] and [`Transport`] for what a name can say, [`Peer`] for who is there,
//! [`Error`] for what went wrong, and [`inspect`] for what exists on this machine.
//!
//! # Features
//!
//! Both are off by default, and nothing else needs them.
//!
//! - `serde`: values of your own types as messages, `Connection::typed`.
//! - `tokio`: `parlour::tokio`, the same API for tasks of a tokio runtime, with streams and sinks. The blocking API never
//!   has a runtime behind it.
//!
//! # Platform
//!
//! Linux 5.6 or newer; newer kernels give more (`SO_PEERPIDFD` from 6.5, `RWF_NOSIGNAL` from 6.18), and older ways
//! stand in for what is missing.

// On docs.rs each item says which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "parlour supports Linux only: it is built on epoll, procfs, open file description locks and memfds. A program \
     for other systems too can depend on it under [target.'cfg(target_os = \"linux\")'.dependencies]."
);

mod address;
mod admission;
mod backend;
mod backoff;
mod connect;
mod connection;
mod endpoint;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(all(test, not(any(fuzzing, loom))))]
mod fuzzing;
pub mod hub;
pub mod inspect;
mod limits;
mod message;
mod name;
mod options;
mod owner;
mod payload;
mod peer;
mod poller;
mod raw_parts;
mod receiver;
mod sender;
mod server;
mod shared_bytes;
mod shm;
mod sys;
#[cfg(feature = "tokio")]
pub mod tokio;
mod transport;
#[cfg(feature = "serde")]
mod typed;
mod wait;
mod wire;

pub use address::{Address, NAME_LEN_MAX};
pub use admission::{Refusal, RefusalReason, ServerStats};
pub use backend::config::ClientFilePolicy;
pub use connection::Connection;
pub use error::{Error, ErrorKind, Operation, Result, TryRecvError, TrySendError};
pub use hub::Hub;
pub use message::Message;
pub use options::{ConnectOptions, ServerOptions};
pub use owner::Owner;
pub use payload::Payload;
pub use peer::{Peer, Provenance};
pub use poller::ShutdownHandle;
pub use raw_parts::{ConnectionGuard, IntoRawPartsError, RawFds, RawParts};
pub use receiver::{Iter, Receiver, TryIter};
pub use sender::Sender;
pub use server::{Incoming, Server};
pub use shared_bytes::SharedBytes;
pub use transport::{Capabilities, ParseTransportError, Transport};
#[cfg(feature = "serde")]
pub use typed::{Typed, TypedReceiver, TypedSender};

/// The code of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// So does that of the page about service managers.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/systemd.md")]
struct Systemd;
