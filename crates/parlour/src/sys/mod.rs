//! Thin, typed wrappers of the few system calls that rustix lacks or cannot express; no policy.
//!
//! This directory is the only one with unsafe code. Each file that has some allows it at its top, so that
//! `grep -rl 'allow(unsafe_code)'` lists what to audit.

pub(crate) mod credentials;
pub(crate) mod fork;
pub(crate) mod listen_fds;
pub(crate) mod no_sigpipe;
pub(crate) mod ofd_lock;
pub(crate) mod pass_rights;
#[cfg(feature = "tokio")]
pub(crate) mod readiness;
pub(crate) mod shared_fd;
pub(crate) mod splice_pages;
