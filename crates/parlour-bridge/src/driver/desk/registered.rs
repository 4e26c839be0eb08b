//! A registry that is configured, with the task that is connected with it.

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::flaps::Flaps;
use crate::files::nats::{Nats, NatsServer};
use crate::registry::{Action, Registry};

/// A registry with its task.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) nats: Nats,
    pub(super) state: Registry,
    /// When this is dropped, the task ends.
    pub(super) actions: UnboundedSender<Action>,
    /// The number of the task. Reports of a former one have no effect.
    pub(super) run: u64,
    pub(super) since: Option<Instant>,
    pub(super) problem: Option<String>,
    /// The loss was heard. Further tries that fail are not logged.
    pub(super) is_told: bool,
    pub(super) flaps: Flaps,
    pub(super) losses: u64,
}

impl Registered {
    /// Returns the URLs of the servers.
    pub(super) fn servers(&self) -> Vec<String> {
        self.nats.servers.iter().map(NatsServer::url).collect()
    }
}
