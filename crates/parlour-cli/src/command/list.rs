//! `parlour list`: prints every name with its server and its state.

use std::path::PathBuf;
use std::time::SystemTime;

use parlour::inspect::{self, BaseState, NameState, NameStatus};
use serde::{Deserialize, Serialize};

use crate::args::List;
use crate::output;

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
    pub(super) program: Option<PathBuf>,
    /// The time at which that process took the name, in UTC.
    pub(super) since: Option<String>,
    pub(super) path: PathBuf,
}

impl NameRow {
    pub(super) fn new(status: &NameStatus) -> NameRow {
        let owner = status.owner.as_ref();
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
            program: owner.map(|owner| owner.program.clone()),
            since: owner.map(|owner| timestamp(owner.since)),
            path: status.path.clone(),
        }
    }

    fn cells(&self) -> Vec<String> {
        let transports = self.transports.join(",");
        vec![
            output::cell(&self.name),
            output::or_dash((!transports.is_empty()).then_some(transports)),
            output::or_dash(self.pid),
            output::or_dash(self.uid),
            output::or_dash(self.program.as_ref().map(|program| program.display())),
            output::or_dash(self.since.as_ref()),
            self.state.clone(),
            output::cell(self.path.display()),
        ]
    }
}

pub(super) fn run(args: &List) -> anyhow::Result<()> {
    for base in inspect::bases()? {
        if let BaseState::Unsafe(error) = base.state {
            output::note(format_args!("{} is skipped: {error}", base.path.display()));
        }
    }
    let rows: Vec<NameRow> = inspect::names()?.iter().map(NameRow::new).collect();
    if args.json {
        return output::json(&rows);
    }
    if rows.is_empty() {
        output::note("there are no names");
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
