//! The files of a bridge: its configuration, the certificates, and the check of both.
//!
//! ```no_run
//! use std::path::Path;
//! use parlour_bridge::files::{check, config::Config};
//!
//! let path = Path::new("/etc/parlour/bridge.toml");
//! let findings = match Config::read(path) {
//!     Ok(config) => check::check(&config, path),
//!     Err(mistakes) => mistakes,
//! };
//! for finding in findings {
//!     eprintln!("{finding}");
//! }
//! ```

pub mod certificates;
pub mod check;
pub mod config;
pub mod discovery;
pub mod finding;
pub mod holders;
pub mod host;
pub mod nats;
pub mod tls;
