//! Helpers of the tests of the C library: compiling C programs, running them, and parsing the headers.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "each test executable uses a part of this, and a test fails by panicking"
)]

pub mod build;
pub mod declarations;
pub mod program;

use std::path::{Path, PathBuf};

/// Returns the directory of this crate.
pub fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Creates a directory for names, private to a test.
pub fn base() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("parlour-c-test-").tempdir().unwrap()
}

/// Returns the directory with cargo's output for this test: `target/debug`, or that of another profile.
pub fn built() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}
