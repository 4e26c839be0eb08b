//! Errors of registering a descriptor with the runtime.

use std::io;

use tokio::runtime::Handle;

use crate::error::{Error, ErrorKind, Operation, Result};

/// Returns the error for a descriptor that could not be registered with the runtime.
pub(super) fn registration_error(operation: Operation, object: impl Into<String>, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::Unsupported => no_runtime(operation, object),
        _ => Error::io(operation, object, error),
    }
}

/// Returns an error outside of a runtime, for a call that must not begin there.
pub(super) fn check_runtime(operation: Operation, object: impl Into<String>) -> Result<()> {
    Handle::try_current().map(drop).map_err(|_| no_runtime(operation, object))
}

fn no_runtime(operation: Operation, object: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, operation, object, "no tokio runtime is running in this thread")
        .next("call it in a task, or enter a runtime first")
}
