//! The status of a bridge: its hosts, names and conversations, and the counts of refusals.
//!
//! A bridge serves it as one JSON document under the name [`NAME`] of its host, to clients of its own user and root.
//! Every message that such a client sends is answered with the status of that moment.
//!
//! ```
//! use parlour_bridge::status::{Status, openmetrics};
//!
//! let status = Status { host: "b.example".into(), ..Status::default() };
//! let text = status.to_json().unwrap();
//! assert_eq!(Status::parse(text.as_bytes()).unwrap(), status);
//! assert!(openmetrics::exposition(&status).ends_with("# EOF\n"));
//! ```

pub mod openmetrics;
pub mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::boundary::Passed;
use crate::traffic::Traffic;

/// The name under which a bridge serves its status.
pub const NAME: &str = "parlour-bridge";

/// The status of a bridge. Later versions may add fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The host of the bridge.
    pub host: String,
    /// The version of the program.
    pub version: String,
    /// The run of the bridge.
    pub instance: String,
    /// The time since its start, in whole seconds.
    pub uptime_seconds: u64,
    /// The other hosts: one entry for each direction.
    pub hosts: Vec<HostStatus>,
    /// The names that are imported.
    pub imports: Vec<ImportStatus>,
    /// The names that are exported.
    pub exports: Vec<ExportStatus>,
    /// The registry in which hosts are found, if one is configured.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub registry: Option<RegistryStatus>,
    /// The counts since the start.
    pub counts: Counts,
}

/// The registry in which hosts are found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryStatus {
    /// The URLs of its servers.
    pub servers: Vec<String>,
    /// The time since the connection with it began, in whole seconds. Not set while there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub connected_seconds: Option<u64>,
    /// The last error, which may be over. Visible ASCII characters.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
    /// The number of names of this host that have an entry.
    pub names_put: usize,
    /// The number of names that are watched.
    pub names_watched: usize,
    /// The number of hosts with an entry for a name that is imported from them.
    pub hosts_found: usize,
    /// The number of entries that were refused.
    pub entries_refused: u64,
    /// The number of connections that were lost.
    pub losses: u64,
}

/// Another host, in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// The host.
    pub host: String,
    /// The direction, as this bridge sees it.
    pub direction: Direction,
    /// The state of the link.
    pub state: HostState,
    /// The number of conversations with it, with those that are being opened.
    pub conversations: usize,
    /// The traffic with it in this direction since the start.
    #[serde(default)]
    pub traffic: TrafficStatus,
    /// The reason why the last link ended, or could not begin. Not set while the link is up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}

/// Messages and bytes since the start of the bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficStatus {
    /// Traffic that arrived from other hosts and was passed on.
    pub received: FlowStatus,
    /// Traffic that was sent to other hosts.
    pub sent: FlowStatus,
}

/// The messages of one direction, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowStatus {
    /// The messages that have passed as a whole.
    pub messages: u64,
    /// The bytes of messages, without headers, also of those that have not passed as a whole.
    pub bytes: u64,
}

impl From<&Traffic> for TrafficStatus {
    fn from(traffic: &Traffic) -> Self {
        let flow = |Passed { messages, bytes }| FlowStatus { messages, bytes };
        Self { received: flow(traffic.received()), sent: flow(traffic.sent()) }
    }
}

/// The direction of names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// This host imports from the other one.
    #[default]
    Import,
    /// This host exports to the other one.
    Export,
}

/// The state of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// There is no link.
    #[default]
    Down,
    /// The other host has not said hello.
    Connecting,
    /// The link is up.
    Up,
    /// The other bridge has announced its end.
    Ending,
}

/// A name that is imported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportStatus {
    /// The name.
    pub name: String,
    /// The relation of the bridge to the name.
    pub state: ImportState,
    /// The hosts that export it now, to this host.
    pub exporters: Vec<String>,
    /// The number of its conversations, with those that are being opened.
    pub conversations: usize,
    /// Its traffic since the start.
    #[serde(default)]
    pub traffic: TrafficStatus,
}

/// The relation of a bridge to a name that it imports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportState {
    /// No host exports the name.
    #[default]
    NoExporter,
    /// The bridge holds the name for its clients.
    Held,
    /// A server of this host has the name.
    Local,
    /// The bridge waits for a moment before it takes the name.
    Waiting,
}

/// A name that is exported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportStatus {
    /// The name.
    pub name: String,
    /// True if it has a server on this host.
    pub has_server: bool,
    /// The hosts that may reach it.
    pub to: Vec<String>,
    /// The number of its conversations, with those that are being opened.
    pub conversations: usize,
    /// Its traffic since the start.
    #[serde(default)]
    pub traffic: TrafficStatus,
}

/// The counts since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// The clients of this host that an exporter has accepted.
    pub imported: u64,
    /// The clients of this host that no exporter has taken.
    pub aborted: u64,
    /// The clients of other hosts that this one has accepted.
    pub exported: u64,
    /// The clients of other hosts that this one has refused, by the reason.
    pub refused: BTreeMap<String, u64>,
    /// The connections that were refused before they said what they are for: strangers, and bad certificates.
    pub connections_refused: u64,
    /// The links that were lost: not those that have ended in order.
    pub links_lost: u64,
}

impl Status {
    /// Returns the status as JSON, on one line.
    ///
    /// # Errors
    ///
    /// None is known.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Parses a status that a bridge has sent. Unknown fields are passed over.
    ///
    /// # Errors
    ///
    /// The bytes are not the status of a bridge.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

impl Direction {
    /// Returns the word of the JSON document.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Import => "import",
            Self::Export => "export",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A status with one of each.
    pub(crate) fn example() -> Status {
        let a = || "a.example".to_owned();
        let traffic = TrafficStatus {
            received: FlowStatus { messages: 7, bytes: 70 },
            sent: FlowStatus { messages: 8, bytes: 80 },
        };
        Status {
            host: "b.example".into(),
            version: "0.1.0".into(),
            instance: "00ff".into(),
            uptime_seconds: 61,
            hosts: vec![
                HostStatus { host: a(), state: HostState::Up, conversations: 2, traffic, ..HostStatus::default() },
                HostStatus {
                    host: "c.example".into(),
                    problem: Some("no route\n\u{1b}[31m".into()),
                    ..HostStatus::default()
                },
                HostStatus { host: a(), direction: Direction::Export, ..HostStatus::default() },
            ],
            imports: vec![ImportStatus {
                name: "wc".into(),
                state: ImportState::Held,
                exporters: vec![a()],
                conversations: 2,
                traffic,
            }],
            exports: vec![ExportStatus {
                name: "x".into(),
                has_server: true,
                to: vec![a()],
                ..ExportStatus::default()
            }],
            registry: Some(RegistryStatus {
                servers: vec!["nats://n.example:4222".into()],
                problem: Some("no\u{1b}[31m".into()),
                names_put: 1,
                names_watched: 2,
                hosts_found: 3,
                entries_refused: 4,
                ..RegistryStatus::default()
            }),
            counts: Counts { imported: 5, refused: BTreeMap::from([("busy".into(), 3)]), ..Counts::default() },
        }
    }

    #[test]
    fn a_status_is_read_back_and_fields_of_later_versions_are_passed_over() {
        let text = example().to_json().unwrap();
        assert_eq!(Status::parse(text.as_bytes()).unwrap(), example());
        assert!(!text.contains('\n'));
        let later = text.replacen('{', "{\"more\":[1],", 1);
        assert_eq!(Status::parse(later.as_bytes()).unwrap(), example());
        assert!(Status::parse(b"hello").is_err());
    }
}
