//! Thin, typed wrappers of the few system calls that rustix lacks or cannot express. They contain no policy.
//!
//! Only this directory and `shm` contain unsafe code. Each file with unsafe code allows it in its first lines, so that
//! `grep -rl 'allow(unsafe_code)'` lists the files to audit.

pub(crate) mod blocked_signals;
pub(crate) mod child_fd;
pub(crate) mod credentials;
pub(crate) mod fork;
pub(crate) mod fork_mutex;
pub(crate) mod id_maps;
pub(crate) mod listen_fds;
pub(crate) mod no_sigpipe;
pub(crate) mod ofd_lock;
pub(crate) mod pass_rights;
pub(crate) mod privileges;
pub(crate) mod proc_fd;
#[cfg(feature = "tokio")]
pub(crate) mod readiness;
pub(crate) mod retry;
pub(crate) mod shared_fd;
pub(crate) mod splice_pages;
pub(crate) mod timer;
