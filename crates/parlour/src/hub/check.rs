//! The checks of a message before any part of it is sent.

use std::sync::Arc;

use crate::backend::fault::Fault;
use crate::endpoint::{OtherSide, error_of};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::limits::FDS_MAX;
use crate::payload::{Attached, Payload};

/// The name of the server, and the limit for its messages.
#[derive(Clone, Debug)]
pub(super) struct Check {
    /// The server's name in quotes, for error texts.
    pub(super) display_name: Arc<str>,
    pub(super) message_max: usize,
}

impl Check {
    /// Fails if a hub cannot send this message to any client.
    #[inline]
    pub(super) fn message(&self, payload: &Payload<'_>) -> Result<()> {
        match payload.attached() {
            Attached::Nothing if payload.len() <= self.message_max => Ok(()),
            _ => self.examine(payload),
        }
    }

    #[cold]
    fn examine(&self, payload: &Payload<'_>) -> Result<()> {
        if let Attached::Fds(_) | Attached::Reader(_) = payload.attached() {
            let detail = "a hub sends no descriptors other than blocks of shared memory";
            return Err(Error::new(ErrorKind::Unsupported, Operation::Send, &*self.display_name, detail)
                .next("send bytes or blocks, or serve with a Server"));
        }
        let count = payload.attached().count();
        if count > FDS_MAX {
            let detail = format!("the message has {count} blocks, and one message carries at most {FDS_MAX}");
            return Err(Error::new(ErrorKind::MessageTooLong, Operation::Send, &*self.display_name, detail)
                .next("send the blocks with several messages"));
        }
        if payload.len() <= self.message_max {
            return Ok(());
        }
        let fault = Fault::TooLong { length: payload.len() };
        let object = format!("the clients of {}", self.display_name);
        Err(error_of(fault, Operation::Send, object, OtherSide::Client, self.message_max))
    }

    /// Returns the error of a call in a forked child.
    pub(super) fn in_forked_child(&self, operation: Operation) -> Error {
        let detail = "this is a forked child, and the hub belongs to the parent";
        Error::new(ErrorKind::NameLost, operation, &*self.display_name, detail)
            .next("serve in the parent, or bind after the fork")
    }
}
