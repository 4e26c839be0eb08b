//! The outboxes of a server that has one for each client.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::outbox::{Outbox, Post, To};
use crate::error::{ErrorKind, Result};
use crate::payload::Payload;
use crate::sys::fork_mutex::ForkMutex;
use crate::wire::call::Kind;

/// See the [module](self).
pub(crate) struct Outboxes {
    /// The outbox of no client, which makes messages and errors, and knows of the end.
    common: Outbox,
    /// By the number of the client.
    each: ForkMutex<BTreeMap<u64, Arc<Outbox>>>,
}

impl Outboxes {
    pub(crate) fn new(common: Outbox) -> Self {
        Self { common, each: ForkMutex::default() }
    }

    pub(crate) fn insert(&self, number: u64, outbox: Arc<Outbox>) {
        if let Some(mut each) = self.each.lock() {
            each.insert(number, outbox);
        }
    }

    pub(crate) fn remove(&self, number: u64) {
        if let Some(mut each) = self.each.lock() {
            each.remove(&number);
        }
    }

    /// Notes that nothing is sent any more.
    pub(crate) fn end(&self) {
        self.common.end();
    }

    /// Queues a message that answers no call, for one client or for all, or for none of them if one of the queues is
    /// full.
    pub(crate) fn push(&self, client: Option<u64>, payload: &Payload<'_>) -> Result<()> {
        self.common.check_open()?;
        let bytes = self.common.message(Kind::Push, 0, payload)?;
        let outboxes: Vec<_> = match (self.each.lock(), client) {
            (None, _) => Vec::new(),
            (Some(each), Some(client)) => each.get(&client).cloned().into_iter().collect(),
            (Some(each), None) => each.values().cloned().collect(),
        };
        if !outboxes.iter().all(|outbox| outbox.has_room_for_push(bytes.len())) {
            let detail = "the tasks of the server do not keep up with the messages that are pushed";
            return Err(self.common.error(ErrorKind::Busy, detail).next("push again later"));
        }
        for outbox in outboxes {
            // An error means that the client has left.
            let _ = outbox.post(Post { to: To::This, bytes: bytes.clone() });
        }
        Ok(())
    }
}
