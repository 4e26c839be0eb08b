//! The part of the desk in a registry, if one is configured.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::super::event::Event;
use super::super::nats::{self, Report};
use super::flaps::Flaps;
use super::registered::Registered;
use super::{Desk, REDIAL_MIN};
use crate::files::config::Config;
use crate::files::discovery::Discovery;
use crate::files::nats::Nats;
use crate::identity::{Host, Name};
use crate::registry::{Action, Myself, Registry};
use crate::status::RegistryStatus;
use crate::wire::control::Endpoint;

fn wanted(config: &Config) -> BTreeMap<Name, BTreeSet<Host>> {
    // An address in the configuration needs no registry.
    let from =
        |hosts: &BTreeSet<Host>| hosts.iter().filter(|host| !config.peers.contains_key(*host)).cloned().collect();
    let wanted = config.imports.iter().map(|(name, import)| (name.clone(), from(&import.from)));
    wanted.filter(|(_, hosts): &(Name, BTreeSet<Host>)| !hosts.is_empty()).collect()
}

/// Returns true if the entries of a bridge with one configuration take the places of those with the other.
fn puts_the_same(former: &Nats, nats: &Nats) -> bool {
    let place = |nats: &Nats| (nats.servers.clone(), nats.bucket.clone(), nats.realm.clone(), nats.endpoint.is_some());
    place(former) == place(nats)
}

impl Desk {
    /// Begins, goes on with, or leaves a registry, as the configuration says.
    pub(super) fn configure_registry(&mut self) {
        let Discovery::Nats(nats) = &self.config.discovery else { return self.leave_registry() };
        let nats = (**nats).clone();
        let wanted = wanted(&self.config);
        if let Some(registered) = self.registry.as_mut().filter(|registered| registered.nats == nats) {
            let actions = registered.state.want(wanted);
            return self.register(actions);
        }
        let myself = Myself {
            realm: nats.realm.clone(),
            host: self.myself.host.clone(),
            instance: self.myself.instance,
            endpoint: nats.endpoint.clone(),
            ttl: nats.ttl,
        };
        let former = self.registry.take_if(|former| puts_the_same(&former.nats, &nats));
        // Otherwise its entries would stay until they expire.
        let former = former.or_else(|| self.take_back());
        let run = self.number();
        let (actions, heard) = tokio::sync::mpsc::unbounded_channel();
        let (events, client) = (self.events.clone(), format!("parlour-bridge {}", self.config.host));
        let report = move |report| drop(events.send(Event::Registry { run, report }));
        // A bridge that ends waits for its last messages.
        self.linked.spawn(nats::run(nats.clone(), client, heard, report));
        let mut state = Registry::new(myself, wanted);
        let (mut losses, mut is_told, mut flaps) = (0, false, Flaps::default());
        if let Some(former) = former {
            (losses, is_told, flaps) = (former.losses, former.is_told, former.flaps);
            if former.nats.realm == nats.realm {
                state.inherit(former.state);
            }
        }
        let (since, problem) = (None, None);
        self.registry = Some(Registered { nats, state, actions, run, since, problem, is_told, flaps, losses });
    }

    pub(super) fn hear_registry(&mut self, run: u64, report: Report) {
        let now = self.now();
        let Some(registered) = self.registry.as_mut().filter(|registered| registered.run == run) else { return };
        let actions = match report {
            Report::Up(kept) => {
                registered.since = Some(Instant::now());
                registered.state.up(kept, now)
            }
            Report::Settled => {
                registered.is_told = false;
                if let Some(end) = registered.flaps.came(now) {
                    (self.log)(&format!("the registry is there: {}{end}", registered.servers().join(", ")));
                }
                Vec::new()
            }
            Report::Entry { key, source, value, place } => {
                let actions = registered.state.entry(&key, source, value.as_deref(), now);
                drop(place);
                actions
            }
            Report::Answered => {
                registered.state.answered();
                Vec::new()
            }
            Report::Down { problem, had_settled } => {
                registered.state.down();
                registered.since = None;
                registered.losses += u64::from(had_settled);
                if !std::mem::replace(&mut registered.is_told, true)
                    && let Some(end) = registered.flaps.went(now)
                {
                    let effect = "links, conversations and known hosts stay; trying again";
                    (self.log)(&format!("the registry cannot be used: {problem}; {effect}{end}"));
                }
                registered.problem = Some(problem);
                Vec::new()
            }
        };
        self.register(actions);
    }

    /// Reports the own names that have a server.
    pub(super) fn offer_served(&mut self) {
        let now = self.now();
        let Some(registered) = &mut self.registry else { return };
        let served = self.exporter.names().filter(|exported| exported.has_server);
        let names: BTreeSet<Name> = served.map(|exported| exported.name.clone()).collect();
        let actions = registered.state.offer(&names, now);
        self.register(actions);
    }

    /// Looks at the clock.
    pub(super) fn tick_registry(&mut self) {
        let now = self.now();
        let actions = self.registry.as_mut().map(|registered| registered.state.tick(now));
        self.register(actions.unwrap_or_default());
    }

    pub(super) fn registry_due(&self) -> Option<Instant> {
        let deadline = self.registry.as_ref().and_then(|registered| registered.state.deadline());
        deadline.map(|deadline| self.start + deadline)
    }

    /// Takes the own entries back, and lets the task end.
    pub(super) fn leave_registry(&mut self) {
        self.take_back();
    }

    /// Takes the own entries back. The task ends when the result is dropped.
    fn take_back(&mut self) -> Option<Registered> {
        let now = self.now();
        let actions = self.registry.as_mut().map(|registered| registered.state.quit(now));
        self.register(actions.unwrap_or_default());
        self.registry.take()
    }

    /// Returns the endpoints of a host that the registry knows, or `None` if that is not for the registry.
    pub(super) fn registered(&self, host: &Host) -> Option<Vec<Endpoint>> {
        let registered = self.registry.as_ref().filter(|_| !self.config.peers.contains_key(host))?;
        Some(registered.state.endpoints(host))
    }

    fn register(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Found(host) => {
                    // An entry that changes all the time does not have the host dialled all the time.
                    let soon = Instant::now() + REDIAL_MIN / 10;
                    if let Some(peer) = self.peers.get_mut(&host) {
                        peer.due = peer.due.map(|due| due.min(soon));
                    }
                }
                Action::Log(line) => (self.log)(&line),
                action => drop(self.registry.as_ref().map(|registered| registered.actions.send(action))),
            }
        }
    }

    pub(super) fn registry_status(&self) -> Option<RegistryStatus> {
        let registered = self.registry.as_ref()?;
        Some(RegistryStatus {
            servers: registered.servers(),
            connected_seconds: registered.since.map(|since| since.elapsed().as_secs()),
            problem: registered.problem.clone(),
            names_put: if registered.state.is_up() { registered.state.offered() } else { 0 },
            names_watched: registered.state.watched(),
            hosts_found: registered.state.hosts(),
            entries_refused: registered.state.refused(),
            losses: registered.losses,
        })
    }
}
