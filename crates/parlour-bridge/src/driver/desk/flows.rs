//! The traffic of each host, in each role of this one, and of each name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::identity::{Host, Name};
use crate::link::Role;
use crate::status::TrafficStatus;
use crate::traffic::Traffic;

/// The hosts and names that have had conversations. Those of the configuration bound their number.
#[derive(Debug, Default)]
pub(super) struct Flows {
    hosts: BTreeMap<(Host, Role), Arc<Traffic>>,
    names: BTreeMap<Name, Arc<Traffic>>,
}

impl Flows {
    /// Returns the traffic to which a conversation adds.
    pub(super) fn of(&mut self, host: &Host, role: Role, name: &Name) -> [Arc<Traffic>; 2] {
        let host = self.hosts.entry((host.clone(), role)).or_default();
        let name = self.names.entry(name.clone()).or_default();
        [Arc::clone(host), Arc::clone(name)]
    }

    pub(super) fn of_host(&self, host: &Host, role: Role) -> TrafficStatus {
        self.hosts.get(&(host.clone(), role)).map(|traffic| TrafficStatus::from(&**traffic)).unwrap_or_default()
    }

    pub(super) fn of_name(&self, name: &Name) -> TrafficStatus {
        self.names.get(name).map(|traffic| TrafficStatus::from(&**traffic)).unwrap_or_default()
    }

    /// Forgets what is not configured any more, and has no conversation.
    pub(super) fn retain(&mut self, is_host: impl Fn(&Host) -> bool, is_name: impl Fn(&Name) -> bool) {
        let is_used = |traffic: &Arc<Traffic>| Arc::strong_count(traffic) > 1;
        self.hosts.retain(|(host, _), traffic| is_host(host) || is_used(traffic));
        self.names.retain(|name, traffic| is_name(name) || is_used(traffic));
    }
}
