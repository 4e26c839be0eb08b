//! The memory fence and the words of one process: those of the machine, or those of the model checker.

#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicU32, fence};
#[cfg(not(loom))]
pub(super) use std::sync::atomic::{AtomicU32, fence};
