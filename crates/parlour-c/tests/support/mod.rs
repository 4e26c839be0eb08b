//! What the tests of the C library share: building C programs against it, running them, and reading its headers.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "each test executable uses its part, and a test says what is wrong by panicking"
)]

pub mod build;
pub mod declarations;
pub mod program;

use std::path::{Path, PathBuf};

/// The directory of this crate.
pub fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A directory for names, private to a test.
pub fn base() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("parlour-c-test-").tempdir().unwrap()
}

/// Where cargo has put what it built for this test: `target/debug`, or another profile's.
pub fn built() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}
