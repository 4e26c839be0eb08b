//! Requests and answers: a client calls a server, and each answer reaches the call that it belongs to.
//!
//! On a plain connection, the answer to a request that has timed out is what the next receive returns, and from then on
//! every answer is taken for that of the next request. Here each request carries a number, and its answer carries the
//! same. docs/calls.md in the repository is an introduction, and docs/wire.md specifies the bytes.
//!
//! - [`Caller`] calls, from any number of threads over one connection. [`CallStream`] are the answers to a request that
//!   has several. A [`CallSession`] is a caller that outlives its servers.
//! - [`Server::serve_calls`](crate::Server::serve_calls) and [`CallServer`] serve. The handler gets a [`Call`]. A
//!   [`Pusher`] sends messages that answer no call.

mod call;
mod caller;
pub(crate) mod exchange;
mod followers;
mod ids;
mod line;
mod open;
mod options;
pub(crate) mod outbox;
#[cfg(feature = "tokio")]
pub(crate) mod outboxes;
mod park;
mod polled;
mod polled_session;
mod push;
mod queue;
mod serve;
pub(crate) mod served;
mod serving;
mod session;
pub(crate) mod succession;
#[cfg(feature = "serde")]
mod typed;
#[cfg(feature = "serde")]
mod typed_session;

pub use call::Call;
#[cfg(feature = "tokio")]
pub(crate) use caller::{Begun, failed};
pub use caller::{CallStream, Caller};
#[cfg(feature = "tokio")]
pub(crate) use line::{User, lost};
pub use options::{CallerOptions, CallerStats};
pub use push::Pusher;
pub use serve::CallServer;
pub use session::CallSession;
#[cfg(feature = "serde")]
pub use typed::{TypedCall, TypedCallStream, TypedCaller};
#[cfg(feature = "serde")]
pub use typed_session::TypedCallSession;
