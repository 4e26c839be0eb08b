//! Errors of registering a descriptor with the runtime.

use std::io;

use crate::error::{Error, ErrorKind, Operation};

/// Returns the error for a descriptor that could not be registered with the runtime.
pub(super) fn registration_error(operation: Operation, object: impl Into<String>, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::Unsupported => {
            Error::new(ErrorKind::Unsupported, operation, object, "no tokio runtime is running in this thread")
                .next("call it in a task, or enter a runtime first")
        }
        _ => Error::io(operation, object, error),
    }
}
