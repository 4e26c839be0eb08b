//! Another configuration while the bridge runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::super::directory::Directory;
use super::super::links::Wish;
use super::{Desk, Peer, REDIAL_MIN};
use crate::files::config::Config;
use crate::files::tls::Tls;
use crate::identity::{Host, LinkId, Name};
use crate::link::Role;

impl Desk {
    /// Goes on with another configuration. Links and conversations go on as they began.
    pub(super) fn configure(&mut self, config: Arc<Config>, tls: Tls, directory: Directory) {
        let _ = self.server.send(tls.server());
        self.tls = tls;
        self.directory = Arc::new(directory);
        self.config = Arc::clone(&config);
        let actions = self.exporter.configure(config.limits, config.exports.clone(), self.now());
        self.export(actions);
        self.in_use.retain(|name| config.imports.contains_key(name));
        let actions = self.importer.configure(config.limits, config.imports.clone());
        self.import(actions);
        self.configure_registry();
        self.change_peers();
        // Each name is looked at again: an imported one that is exported now may have a server that was known before.
        self.watched.clear();
        self.must_watch = true;
        self.untaken.clear();
        let from = |host: &Host| config.imports.values().any(|import| import.from.contains(host));
        let to = |host: &Host| config.exports.values().any(|to| to.contains(host));
        let is_name = |name: &Name| config.imports.contains_key(name) || config.exports.contains_key(name);
        self.flows.retain(|host| from(host) || to(host), is_name);
        self.look();
        (self.log)("the configuration and the certificates were read again, and are used from now on");
    }

    /// Dials the hosts that are new, and forgets those that are not needed any more.
    fn change_peers(&mut self) {
        let from: BTreeSet<&Host> = self.config.imports.values().flat_map(|import| &import.from).collect();
        self.peers.retain(|host, _| from.contains(host));
        let now = Instant::now();
        for host in from {
            let has_link = self.has_link_to(host);
            match self.peers.get_mut(host) {
                // Its address may be another one, or its certificate may be accepted now.
                Some(peer) if peer.due.is_some() => (peer.due, peer.pause) = (Some(now), REDIAL_MIN),
                Some(_) => {}
                None => {
                    let due = (!has_link).then_some(now);
                    self.peers.insert(host.clone(), Peer { pause: REDIAL_MIN, due, problem: None });
                }
            }
        }
    }

    /// Closes the links to hosts from which nothing is imported any more, once they have no conversations.
    pub(super) fn close_unneeded_links(&mut self) {
        let is_needed =
            |id: LinkId, host: &Host| self.peers.contains_key(host) || self.importer.conversations_of(id) > 0;
        let unneeded =
            self.links.iter().filter(|&(&id, open)| open.role == Role::Importer && !is_needed(id, &open.host));
        for id in unneeded.map(|(&id, _)| id).collect::<Vec<_>>() {
            // The other host does not count it as lost.
            self.wish(id, Wish::Quit);
            self.links.remove(&id);
            let actions = self.importer.link_down(id, self.now());
            self.import(actions);
        }
    }
}
