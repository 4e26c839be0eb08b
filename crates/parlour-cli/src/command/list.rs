//! `parlour list`: prints the names with their servers and states.

use std::collections::BTreeMap;
use std::time::SystemTime;

use parlour::Owner;
use parlour::inspect::{self, BaseState, NameState, NameStatus};
use serde::{Deserialize, Serialize};

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
    /// The socket or FIFO of each transport.
    #[serde(default)]
    pub(super) endpoints: BTreeMap<String, JsonPath>,
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
            endpoints: status.transports.iter().map(ToString::to_string).map(endpoint).collect(),
        }
    }

    fn cells(&self) -> Vec<String> {
        let transports = self.transports.join(",");
        vec![
            output::cell(&self.name),
            output::or_dash((!transports.is_empty()).then_some(transports)),
            output::or_dash(self.pid),
            output::or_dash(self.uid),
            output::or_dash(self.program.as_ref()),
            output::or_dash(self.since.as_ref()),
            shown(&self.state, self.stopped),
            self.path.to_string(),
        ]
    }
}

pub(super) fn run(args: &List) -> anyhow::Result<()> {
    for base in inspect::bases()? {
        if let BaseState::Unsafe(error) = base.state {
            output::note(format_args!("{} is skipped: {error}", inspect::escaped(&base.path)));
        }
    }
    let names = inspect::names()?;
    let is_shown = |name: &&NameStatus| args.all || !matches!(name.state, NameState::Dead);
    let rows: Vec<NameRow> = names.iter().filter(is_shown).map(NameRow::new).collect();
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
    let header = ["NAME", "TRANSPORTS", "PID", "UID", "PROGRAM", "SINCE", "STATE", "PATH"];
    output::table(&header, &["PID", "UID"], rows.iter().map(NameRow::cells).collect())
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
