//! Local messaging by name. A server takes a name, clients find the server by that name, and each client gets a private
//! two-way channel of messages.
//!
//! A server with a thread for each client:
//!
//! ```no_run
//! use std::thread;
//!
//! use parlour::{Connection, Server};
//!
//! fn main() -> parlour::Result<()> {
//!     for client in Server::bind("echo")?.incoming() {
//!         let client = client?;
//!         thread::spawn(move || echo(client)); // an error of a client ends the thread of this client
//!     }
//!     Ok(())
//! }
//!
//! fn echo(mut client: Connection) -> parlour::Result<()> {
//!     while let Some(message) = client.recv()? {
//!         client.send(&message)?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A client:
//!
//! ```no_run
//! use parlour::Connection;
//!
//! fn main() -> parlour::Result<()> {
//!     let mut connection = Connection::connect("echo")?;
//!     connection.send("hello")?;
//!     println!("{:?}", connection.recv()?);
//!     Ok(())
//! }
//! ```
//!
//! An error of a client ends its connection, and not the server. [`incoming`](Server::incoming) returns an error only
//! if the server itself cannot go on.
//!
//! # Guarantees
//!
//! - **Names.** At most one live server has a name. A name cannot be taken from a live server. It is free as soon as
//!   its server is dead, with nothing to remove. See [`Server::bind`].
//! - **Messages** arrive whole, in order and at most once. They are never merged or split. A message may have 0
//!   bytes; the peer receives it as an empty message.
//! - **Identity.** Each side knows the identity of its peer and the source of that knowledge ([`Peer`]). The client
//!   verifies the server before it sends a byte.
//! - **Limits.** Every resource that a peer can make this process allocate has a default limit ([`ServerOptions`]).
//! - **The host process.** The library starts no thread and no runtime, raises no signal, changes neither signal
//!   dispositions nor the umask, and writes no output. It panics only if a closure of the caller panics.
//!
//! # Behaviour
//!
//! - *The channel is full*: [`send`](Connection::send) blocks, [`send_timeout`](Connection::send_timeout) gives up at
//!   its deadline, and [`try_send`](Connection::try_send) returns the message ([`TrySendError::Full`]). No message is
//!   dropped, and memory use is bounded.
//! - *The channel is empty*: [`recv`](Connection::recv) blocks, [`recv_timeout`](Connection::recv_timeout) gives up at
//!   its deadline, and [`try_recv`](Connection::try_recv) returns [`TryRecvError::Empty`].
//! - *The peer closes or dies*: `recv` returns the remaining messages and then `None`. If the kernel reports that the
//!   peer did not read some messages of this side, `recv` returns [`Disconnected`](ErrorKind::Disconnected) instead of
//!   `None`. If the peer ended mid-message, or called [`abort`](Connection::abort), `recv` returns
//!   [`Truncated`](ErrorKind::Truncated). `send` returns
//!   `Disconnected`. On `shm`, if this side does not receive, `send` may succeed until the ring is full after the peer
//!   was killed.
//! - *The server dies*: its connections end as described above, and the next server can take the name immediately. With
//!   [`wait_for_server`](ConnectOptions::wait_for_server) clients wait for that server. A [`Session`] connects again by
//!   itself.
//!
//! # Limitations
//!
//! The library does not cross machines, encrypt, store messages, or tell whether the peer has read a message. It does
//! not defend against root or against processes of the same user.
//!
//! # Overview
//!
//! - [`Server`] and [`ServerOptions`] serve clients; [`Server::stats`] counts them. A [`Hub`] serves many clients in
//!   one thread ([`hub`]).
//! - [`Connection`] and [`ConnectOptions`] connect to a server. [`Sender`] and [`Receiver`] are the halves of a
//!   connection, for two threads.
//! - [`Connection::pair`] makes both ends of a connection without a server. [`Connection::spawn`] gives one end to a
//!   child process.
//! - A [`Session`] is a client that outlives its servers, and reports what may have been lost.
//! - A [`Caller`] sends requests and receives the answer to each, from any number of threads over one connection;
//!   [`Server::serve_calls`] answers them ([`calls`]). A [`CallSession`] is a caller that outlives its servers.
//! - Every function that sends takes `impl Into<`[`Payload`]`>`: bytes as they are, or a `Payload` that has several
//!   parts, descriptors or [`SharedBytes`]. A received [`Message`] dereferences to its bytes.
//! - A [`FramePool`](frames::FramePool) lends blocks of memory to many readers, again and again, without a copy
//!   ([`frames`]).
//! - [`Address`] is a name with an optional [`Transport`]. [`Peer`] is the identity of the other end.
//! - [`Error`] names the operation, the object, the reason and, where one is known, the next step. Programs branch on
//!   [`ErrorKind`].
//! - [`inspect`] lists the names that exist on this machine, and watches a name.
//!
//! # Features
//!
//! No feature is enabled by default.
//!
//! - `serde`: `Connection::typed` sends and receives values of types of your own.
//! - `json`: `Connection::typed_json` does so in JSON, for peers in other languages. It includes `serde`.
//! - `testing`: `parlour::testing` has tools for the tests of your program.
//! - `tokio`: `parlour::tokio` is the same API for tasks of a tokio runtime, with streams and sinks. The blocking API
//!   does not use a runtime.
//!
//! # Platform
//!
//! Linux 5.6 or newer. Newer kernels provide more: `SO_PEERPIDFD` from 6.5, `SO_PASSRIGHTS` from 6.16, `RWF_NOSIGNAL`
//! from 6.18. Without `SO_PEERPIDFD`, [`Connection::peer_pidfd`] returns an error. Without `SO_PASSRIGHTS`, unwanted
//! descriptors end the connection ([`Payload::fds`]). Without `RWF_NOSIGNAL`, `SIGPIPE` is blocked in the calling
//! thread during a write to a FIFO. In a sandbox without memfd_create(2), `shm` and [`SharedBytes`] are not available.
//! The library also works without `/proc`, in namespaces, and with a wall clock that is wrong. docs/platforms.md in the
//! repository lists the cost of each feature that is missing.

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
mod batch;
pub mod calls;
mod child;
mod connect;
mod connection;
mod endpoint;
mod error;
mod escape;
pub mod frames;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(all(test, not(any(fuzzing, loom))))]
mod fuzzing;
pub mod hub;
pub mod inspect;
mod limits;
mod loss;
mod message;
mod name;
mod options;
mod owner;
mod pair;
mod payload;
mod peer;
mod poller;
mod raw_parts;
mod receiver;
mod sender;
mod server;
mod session;
mod shared_bytes;
mod shm;
mod standby;
mod stats;
mod sys;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tokio")]
pub mod tokio;
mod transport;
#[cfg(feature = "serde")]
mod typed;
#[cfg(feature = "serde")]
mod typed_hub;
mod wait;
mod wait_fd;
mod wire;

pub use address::{Address, NAME_LEN_MAX};
pub use admission::{Refusal, RefusalReason, ServerStats};
pub use backend::config::ClientFilePolicy;
pub use batch::Batch;
pub use calls::{CallSession, Caller};
pub use child::ChildEnd;
pub use connect::connector::Connector;
pub use connect::pending::PendingConnection;
pub use connection::Connection;
pub use error::{Error, ErrorKind, Operation, Result, TryRecvError, TrySendError};
pub use hub::Hub;
pub use loss::Loss;
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
pub use session::Session;
pub use session::reconnect::Reconnect;
pub use shared_bytes::SharedBytes;
pub use stats::{ClientStats, Flow, WaitReason, Waiting};
pub use transport::{Capabilities, ParseTransportError, Transport};
#[cfg(feature = "serde")]
pub use typed::{Typed, TypedReceiver, TypedSender};
#[cfg(feature = "serde")]
pub use typed_hub::{TypedEvent, TypedHub};
pub use wire::origin::Origin;

/// Compiles the code of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles the code of the page with the first programs.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../docs/start.md")]
struct Start;

/// Compiles and runs the code of the cookbook.
#[cfg(all(doctest, feature = "json", feature = "testing"))]
#[doc = include_str!("../docs/cookbook.md")]
struct Cookbook;

/// Compiles and runs the code of the page for programs that use something else.
#[cfg(all(doctest, feature = "json", feature = "testing", feature = "tokio"))]
#[doc = include_str!("../docs/migrations.md")]
struct Migrations;

/// Compiles the code of the page about sessions.
#[cfg(doctest)]
#[doc = include_str!("../docs/sessions.md")]
struct Sessions;

/// Compiles the code of the page about counters.
#[cfg(doctest)]
#[doc = include_str!("../docs/stats.md")]
struct Stats;

/// Compiles the code of the page about calls.
#[cfg(doctest)]
#[doc = include_str!("../docs/calls.md")]
struct Calls;

/// Compiles the code of the page about service managers.
#[cfg(doctest)]
#[doc = include_str!("../docs/systemd.md")]
struct Systemd;

/// Compiles the code of the page about child processes.
#[cfg(doctest)]
#[doc = include_str!("../docs/child-processes.md")]
struct ChildProcesses;

/// Compiles and runs the code of the page about tests.
#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../docs/testing.md")]
struct Testing;

/// Compiles the code of the page about hubs.
#[cfg(doctest)]
#[doc = include_str!("../docs/hub.md")]
struct HubPage;

/// Compiles the code of the page about frames.
#[cfg(doctest)]
#[doc = include_str!("../docs/frames.md")]
struct FramesPage;
