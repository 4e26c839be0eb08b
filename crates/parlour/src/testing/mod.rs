//! Tools for the tests of programs that use this crate (feature `testing`).
//!
//! - [`Connection::pair`](crate::Connection::pair), which needs no feature, makes both ends of a connection: one for
//!   the code under test, one for the test.
//! - [`Faulty`] is a peer that misbehaves as real ones do: it is slow, sends in pieces, ends after some messages or
//!   within one, does not receive, or sends what no program of this crate would send. The same seed gives the same
//!   faults.
//! - [`Base`] is a private directory for names. A server in it has a name that no other test and no program of the
//!   machine has.
//!
//! Enable the feature for tests alone:
//!
//! ```toml
//! [dev-dependencies]
//! parlour = { version = "0.1", features = ["testing"] }
//! ```

mod base;
pub(crate) mod faults;
mod faulty;
mod random;

pub use self::base::Base;
pub use self::faulty::Faulty;
