//! `parlour list`: prints the names with their servers and states.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use parlour::inspect::{self, BaseState, NameState, NameStats, NameStatus};
use parlour::{ConnectOptions, Owner};
use serde::{Deserialize, Serialize};

use super::{clients, holder};
use crate::args::List;
use crate::output::{self, JsonPath};

/// A name as `--json` prints it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NameRow {
    pub(super) name: String,
    /// `live`, `waiting`, `dead`, `foreign` or `unsafe`.
    pub(super) state: String,
    /// The reason why it is unsafe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
    pub(super) transports: Vec<String>,
    /// The process that holds the name, or that held it last.
    pub(super) pid: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) program: Option<JsonPath>,
    /// The time at which that process took the name, in UTC.
    pub(super) since: Option<String>,
    pub(super) path: JsonPath,
    /// True if the process that holds the name is stopped, so that clients wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stopped: Option<bool>,
    /// True if the process that holds the name yields it to any other server of its user.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) yields: bool,
    /// The socket or FIFO of each transport.
    #[serde(default)]
    pub(super) endpoints: BTreeMap<String, JsonPath>,
    /// The traffic, with `--long`, of a server whose counters this process can read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) traffic: Option<Traffic>,
}

/// The clients of a server, and what they and the server send in a second.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Traffic {
    clients: u64,
    stuck: usize,
    messages_per_second: f64,
    bytes_per_second: f64,
}

impl Traffic {
    fn between(before: &NameStats, after: &NameStats) -> Self {
        let seconds = after.uptime.saturating_sub(before.uptime).as_secs_f64().max(0.001);
        let messages = |stats: &NameStats| stats.received.messages.wrapping_add(stats.sent.messages);
        let bytes = |stats: &NameStats| stats.received.bytes.wrapping_add(stats.sent.bytes);
        let rate = |of: &dyn Fn(&NameStats) -> u64| (of(after).saturating_sub(of(before)) as f64 / seconds).round();
        Self {
            clients: after.open,
            stuck: after.clients.iter().filter(|client| clients::stuck(client).is_some()).count(),
            messages_per_second: rate(&messages),
            bytes_per_second: rate(&bytes),
        }
    }
}

impl NameRow {
    pub(super) fn new(status: &NameStatus) -> NameRow {
        let owner = status.owner.as_ref();
        let endpoint = |transport: String| {
            let path = status.path.join(&transport);
            (transport, JsonPath::new(&path))
        };
        NameRow {
            name: status.name.clone(),
            state: state(&status.state).to_owned(),
            why: match &status.state {
                NameState::Unsafe(error) => Some(error.to_string()),
                _ => None,
            },
            transports: status.transports.iter().map(ToString::to_string).collect(),
            pid: owner.map(|owner| owner.pid),
            uid: owner.map(|owner| owner.uid),
            program: owner.map(|owner| JsonPath::new(&owner.program)),
            since: owner.map(|owner| timestamp(owner.since)),
            path: JsonPath::new(&status.path),
            stopped: owner.filter(|_| matches!(status.state, NameState::Live)).and_then(Owner::is_stopped),
            yields: matches!(status.state, NameState::Live) && owner.is_some_and(|owner| owner.yields),
            endpoints: status.transports.iter().map(ToString::to_string).map(endpoint).collect(),
            traffic: None,
        }
    }

    fn cells(&self, is_long: bool) -> Vec<String> {
        let transports = self.transports.join(",");
        let mut cells = vec![
            output::cell(&self.name),
            output::or_dash((!transports.is_empty()).then_some(transports)),
            output::or_dash(self.pid),
            output::or_dash(self.uid),
            output::or_dash(self.program.as_ref()),
            output::or_dash(self.since.as_ref()),
            shown(&self.state, self.stopped),
        ];
        if is_long {
            let traffic = self.traffic.as_ref();
            cells.extend([
                output::or_dash(traffic.map(|traffic| traffic.clients)),
                output::or_dash(traffic.map(|traffic| traffic.stuck)),
                output::or_dash(traffic.map(|traffic| traffic.messages_per_second)),
                output::or_dash(traffic.map(|traffic| traffic.bytes_per_second)),
            ]);
        }
        cells.push(self.path.to_string());
        cells
    }
}

pub(super) fn run(args: &List) -> anyhow::Result<()> {
    let options = holder::options(args.server_uid);
    for base in inspect::bases_with(&options)? {
        if let BaseState::Unsafe(error) = base.state {
            output::note(format_args!("{} is skipped: {error}", inspect::escaped(&base.path)));
        }
    }
    let names = inspect::names_with(&options)?;
    let is_shown = |name: &&NameStatus| args.all || !matches!(name.state, NameState::Dead);
    let mut rows: Vec<NameRow> = names.iter().filter(is_shown).map(NameRow::new).collect();
    if args.long {
        measure(&mut rows, names.iter().filter(is_shown), &options);
    }
    if args.json {
        return output::json(&rows);
    }
    if rows.is_empty() {
        match names.len() {
            0 => output::note("there are no names"),
            dead => {
                output::note(format_args!("there are no live names; `parlour list --all` shows the dead ones ({dead})"))
            }
        }
        return Ok(());
    }
    for row in &rows {
        if let Some(why) = &row.why {
            output::note(why);
        }
    }
    let header: &[&str] = match args.long {
        false => &["NAME", "TRANSPORTS", "PID", "UID", "PROGRAM", "SINCE", "STATE", "PATH"],
        true => &LONG_HEADER,
    };
    let numbers = ["PID", "UID", "CLIENTS", "STUCK", "MESSAGES/S", "BYTES/S"];
    output::table(header, &numbers, rows.iter().map(|row| row.cells(args.long)).collect())
}

const LONG_HEADER: [&str; 12] = [
    "NAME",
    "TRANSPORTS",
    "PID",
    "UID",
    "PROGRAM",
    "SINCE",
    "STATE",
    "CLIENTS",
    "STUCK",
    "MESSAGES/S",
    "BYTES/S",
    "PATH",
];

/// The time for which `--long` measures.
const MEASURED: Duration = Duration::from_millis(500);

/// Measures the traffic of the live names.
fn measure<'a>(rows: &mut [NameRow], names: impl Iterator<Item = &'a NameStatus>, options: &ConnectOptions) {
    // The counters of another user, or of a server without some, are not shown.
    let read = |path: &Path| inspect::stats_with(path.to_str()?, options).ok();
    let paths: Vec<&Path> = names.map(|name| &*name.path).collect();
    let before: Vec<_> = paths.iter().map(|path| read(path)).collect();
    if before.iter().all(Option::is_none) {
        return;
    }
    std::thread::sleep(MEASURED);
    for ((row, path), before) in rows.iter_mut().zip(paths).zip(before) {
        let after = before.as_ref().and_then(|_| read(path));
        row.traffic = before.zip(after).map(|(before, after)| Traffic::between(&before, &after));
    }
}

/// Returns the state as a table shows it. A stopped server is alive, but no client gets an answer.
pub(super) fn shown(state: &str, stopped: Option<bool>) -> String {
    if stopped == Some(true) { format!("{state}, stopped") } else { state.to_owned() }
}

/// Returns the word for a state.
pub(super) fn state(state: &NameState) -> &'static str {
    match state {
        NameState::Live => "live",
        NameState::Dead => "dead",
        NameState::Waiting => "waiting",
        NameState::Foreign => "foreign",
        NameState::Unsafe(_) => "unsafe",
        _ => "unknown",
    }
}

/// Formats a time as `2026-11-22T17:42:00Z`.
pub(super) fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
