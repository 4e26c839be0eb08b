//! The memory fence: that of the machine, or that of the model checker.

#[cfg(loom)]
pub(super) use loom::sync::atomic::fence;
#[cfg(not(loom))]
pub(super) use std::sync::atomic::fence;
