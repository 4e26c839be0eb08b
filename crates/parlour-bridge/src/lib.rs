//! The bridge between hosts: its protocol `parlour-bridge/1` without I/O, its files, and the driver.
//!
//! A bridge runs on each host. It *exports* chosen names of its host, and *imports* names of other hosts: it holds an
//! imported name as a server does, so that the clients of its host find it there as always. Two bridges talk over
//! connections that are encrypted and authenticated by certificates on both sides. docs/bridge.md is the guide, and
//! docs/wire-bridge.md specifies the bytes.
//!
//! Every part of the protocol is a state that is told events, with the time, and that returns the actions that follow.
//! No such part opens a file or a socket, reads a clock, or starts a thread. The feature `driver` adds the part that
//! carries the actions out with tokio, and the feature `program` the program `parlour-bridge`.
//!
//! - [`link`]: a control connection between two hosts: who is there, and which names are exported.
//! - [`importer`]: the names that this host holds for others, and the choice of an exporter for each client.
//! - [`exporter`]: the names that other hosts may reach, and the admission of their clients.
//! - [`conversation`]: one client and its server, once they are joined. It states the promise about messages.
//! - [`registry`]: the entries that this host puts into a registry of names, and the hosts that it finds there.
//! - [`wire`]: the bytes.
//! - [`counters`]: the counts since the start of a bridge.
//! - [`traffic`]: the messages and bytes of each host and of each name.
//! - `status`, with the feature `files`: the status of a bridge as JSON, as text, and for OpenMetrics.
//! - `files`, with the feature of that name: the configuration, the certificates of a realm, and the check of both. All
//!   features are on by default.

#![forbid(unsafe_code)]

pub mod boundary;
pub mod conversation;
pub mod counters;
#[cfg(feature = "driver")]
pub mod driver;
pub mod exporter;
#[cfg(feature = "files")]
pub mod files;
mod flow;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod hold;
pub mod identity;
pub mod importer;
pub mod limits;
pub mod link;
pub mod registry;
mod spare;
#[cfg(feature = "files")]
pub mod status;
pub mod traffic;
pub mod wire;

pub use spare::BUFFER_LEN;
