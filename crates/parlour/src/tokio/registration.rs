//! Errors of registering a descriptor with the runtime.

use std::io;

use crate::error::{Error, ErrorKind, Operation};

/// Makes the error for a descriptor that the runtime does not register.
pub(super) fn registration_error(operation: Operation, object: impl Into<String>, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::Unsupported => {
            Error::new(ErrorKind::Unsupported, operation, object, "there is no tokio runtime here")
                .next("call it in a task, or enter the runtime first")
        }
        _ => Error::io(operation, object, error),
    }
}
