//! One look at the names of this machine, or at one of them, as plain values.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use parlour::inspect::{self, NameState, NameStats, NameStatus};
use parlour::{ClientStats, ConnectOptions, ErrorKind, WaitReason};

use super::super::{clients, list};
use super::process::{self, Process};
use crate::output;

/// A name, with the counters of its server.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Name {
    /// The directory of the name, or the address by which it was asked for. No other name has the same.
    pub(super) place: String,
    pub(super) name: String,
    /// The process, the user and the program of the server.
    pub(super) server: String,
    /// The process id of the server, or 0. Another server has another one.
    pub(super) pid: u32,
    /// The state as `parlour list` prints it, or the reason why there are no counters.
    pub(super) state: String,
    pub(super) counters: Option<Counters>,
}

/// The counters of a server.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counters {
    pub(super) uptime: Duration,
    pub(super) open: u64,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) unlisted: u64,
    pub(super) received: Traffic,
    pub(super) sent: Traffic,
    pub(super) clients: Vec<Client>,
    /// True if the process ids are those that this process sees.
    pub(super) has_own_pids: bool,
}

/// Messages and bytes since the server or the connection began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Traffic {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// A client, with its counters.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Client {
    pub(super) number: u64,
    pub(super) pid: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) transport: String,
    pub(super) connected: Duration,
    pub(super) received: Traffic,
    pub(super) sent: Traffic,
    pub(super) held: u64,
    pub(super) wait: Wait,
    /// The other host and the program there, if a bridge has connected for it.
    pub(super) origin: Option<String>,
}

/// The wait of a server for a client.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Wait {
    #[default]
    None,
    /// For the next message.
    Idle(Duration),
    /// For the rest of a message, or for the client to read, for a second at least.
    Stuck { time: Duration, in_short: &'static str, reason: String },
}

/// Returns the names that `parlour list` shows, with their counters.
pub(super) fn names(options: &ConnectOptions) -> anyhow::Result<Vec<Name>> {
    let names = inspect::names_with(options)?;
    let shown = names.iter().filter(|status| !matches!(status.state, NameState::Dead));
    Ok(shown.map(|status| Name::of_status(status, options)).collect())
}

/// Returns the name of an address, with its counters. Fails if there is no server, or if it has no counters.
pub(super) fn name(address: &str, options: &ConnectOptions) -> parlour::Result<Name> {
    let name = parlour::Address::parse(address)?.name().to_owned();
    let stats = inspect::stats_with(address, options)?;
    let stopped = stats.owner.is_stopped();
    Ok(Name {
        place: address.to_owned(),
        name: output::cell(name),
        server: output::cell(&stats.owner),
        pid: stats.owner.pid,
        state: list::shown("live", stopped),
        counters: Some(Counters::new(&stats, stopped.is_some())),
    })
}

/// Returns the processes of these clients, as far as they can be seen.
pub(super) fn processes<'a>(counters: &Counters, of: impl Iterator<Item = &'a Client>) -> HashMap<u64, Process> {
    if !counters.has_own_pids {
        return HashMap::new();
    }
    of.filter_map(|client| Some((client.number, process::read(client.pid?)?))).collect()
}

impl Name {
    fn of_status(status: &NameStatus, options: &ConnectOptions) -> Self {
        let owner = status.owner.as_ref();
        let is_live = matches!(status.state, NameState::Live);
        let stopped = owner.filter(|_| is_live).and_then(parlour::Owner::is_stopped);
        let mut state = list::shown(list::state(&status.state), stopped);
        let counters = match is_live.then(|| stats(&status.path, options)) {
            Some(Ok(stats)) => Some(Counters::new(&stats, stopped.is_some())),
            Some(Err(why)) => {
                state = format!("{state}, {why}");
                None
            }
            None => None,
        };
        Self {
            place: status.path.to_string_lossy().into_owned(),
            name: output::cell(&status.name),
            server: output::or_dash(owner),
            pid: owner.map_or(0, |owner| owner.pid),
            state,
            counters,
        }
    }
}

/// Returns the counters of a name, or the reason why they are not shown in a few words.
fn stats(path: &Path, options: &ConnectOptions) -> Result<NameStats, &'static str> {
    let path = path.to_str().ok_or("not readable")?;
    inspect::stats_with(path, options).map_err(|error| match error.kind() {
        ErrorKind::Denied => "of another user",
        ErrorKind::Unsupported => "no counters",
        ErrorKind::NoServer => "going",
        _ => "not readable",
    })
}

impl Counters {
    fn new(stats: &NameStats, has_own_pids: bool) -> Self {
        Self {
            uptime: stats.uptime,
            open: stats.open,
            accepted: stats.accepted,
            refused: stats.refused,
            unlisted: stats.unlisted,
            received: stats.received.into(),
            sent: stats.sent.into(),
            clients: stats.clients.iter().map(Client::new).collect(),
            has_own_pids,
        }
    }
}

impl From<parlour::Flow> for Traffic {
    fn from(flow: parlour::Flow) -> Self {
        Self { messages: flow.messages, bytes: flow.bytes }
    }
}

impl Client {
    fn new(client: &ClientStats) -> Self {
        Self {
            number: client.number,
            pid: client.pid,
            uid: client.uid,
            transport: output::or_dash(client.transport),
            connected: client.connected,
            received: client.received.into(),
            sent: client.sent.into(),
            held: client.held,
            wait: Wait::of(client),
            origin: client.origin.as_ref().map(clients::origin),
        }
    }
}

impl Wait {
    fn of(client: &ClientStats) -> Self {
        match (clients::stuck(client), client.receiving) {
            (Some(waiting), _) => Self::Stuck {
                time: waiting.time,
                in_short: if waiting.reason == WaitReason::Space { "not reading" } else { "mid-message" },
                reason: waiting.reason.to_string(),
            },
            (None, Some(waiting)) if client.stuck().is_none() => Self::Idle(waiting.time),
            _ => Self::None,
        }
    }

    /// Returns the time for which the client has been stuck.
    pub(super) fn stuck(&self) -> Option<Duration> {
        match self {
            Self::Stuck { time, .. } => Some(*time),
            _ => None,
        }
    }
}
