//! The status of a bridge.

use std::sync::atomic::Ordering;

use super::Desk;
use crate::hold::Holding;
use crate::identity::Host;
use crate::link::Role;
use crate::status::{Counts, Direction, ExportStatus, HostState, HostStatus, ImportState, ImportStatus, Status};
use crate::wire::conversation::Refusal;

impl Desk {
    pub(super) fn status(&self) -> Status {
        let import_from = self.peers.keys().map(|host| (host, Direction::Import));
        let export_to = self.exporter.hosts().into_iter().map(|host| (host, Direction::Export));
        let imports = self.importer.names().map(|imported| ImportStatus {
            name: imported.name.to_string(),
            state: match imported.holding {
                Holding::Held => ImportState::Held,
                Holding::Local => ImportState::Local,
                Holding::Waiting => ImportState::Waiting,
                Holding::Unwanted => ImportState::NoExporter,
            },
            exporters: imported.exporters.iter().map(ToString::to_string).collect(),
            conversations: imported.conversations,
            traffic: self.flows.of_name(imported.name),
        });
        let exports = self.exporter.names().map(|exported| ExportStatus {
            name: exported.name.to_string(),
            has_server: exported.has_server,
            to: exported.to.iter().map(ToString::to_string).collect(),
            conversations: exported.conversations,
            traffic: self.flows.of_name(exported.name),
        });
        Status {
            host: self.config.host.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.myself.instance.to_string(),
            uptime_seconds: self.now().as_secs(),
            hosts: import_from.chain(export_to).map(|(host, direction)| self.host(host, direction)).collect(),
            imports: imports.collect(),
            exports: exports.collect(),
            registry: self.registry_status(),
            counts: self.counts(),
        }
    }

    fn host(&self, host: &Host, direction: Direction) -> HostStatus {
        let role = match direction {
            Direction::Import => Role::Importer,
            Direction::Export => Role::Exporter,
        };
        let links = self.links.iter().filter(|(_, open)| open.role == role && open.host == *host);
        let rank = |state: HostState| match state {
            HostState::Down => 0,
            HostState::Connecting => 1,
            HostState::Ending => 2,
            HostState::Up => 3,
        };
        let link = links.max_by_key(|(_, open)| rank(open.state));
        let state = link.map_or(HostState::Down, |(_, open)| open.state);
        let conversations = link.map_or(0, |(&id, _)| match direction {
            Direction::Import => self.importer.conversations_of(id),
            Direction::Export => self.exporter.conversations_of(id),
        });
        let peer = self.peers.get(host).filter(|_| direction == Direction::Import && state != HostState::Up);
        let problem = peer.and_then(|peer| peer.problem.clone());
        let traffic = self.flows.of_host(host, role);
        HostStatus { host: host.to_string(), direction, state, conversations, traffic, problem }
    }

    fn counts(&self) -> Counts {
        let counters = &self.counters;
        let word = |refusal| match refusal {
            Refusal::NoServer => "no_server",
            Refusal::NotExported => "not_exported",
            Refusal::Refused => "refused",
            Refusal::Busy => "busy",
            Refusal::WrongInstance => "wrong_instance",
            Refusal::Version => "version",
        };
        let refused = Refusal::ALL.into_iter().zip(counters.refused);
        Counts {
            imported: counters.imported,
            aborted: counters.aborted,
            exported: counters.exported,
            refused: refused.map(|(refusal, count)| (word(refusal).to_owned(), count)).collect(),
            connections_refused: self.strangers.load(Ordering::Relaxed),
            links_lost: counters.links_lost,
        }
    }
}
