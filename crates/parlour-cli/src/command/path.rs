//! `parlour path`: prints the directory that a name resolves to, and why.

use std::collections::BTreeMap;
use std::path::PathBuf;

use parlour::ErrorKind;
use parlour::inspect::{BaseState, Candidate, Resolution};
use serde::Serialize;

use super::{holder, list};
use crate::args;
use crate::output::{self, JsonPath};

/// The result as `--json` prints it.
#[derive(Serialize)]
struct Answer {
    address: String,
    server: Outcome,
    client: Outcome,
    candidates: Vec<Row>,
}

/// The directory that a server or a client would use, or the reason why there is none.
#[derive(Serialize)]
struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<JsonPath>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
}

/// One base directory that was searched.
#[derive(Serialize)]
struct Row {
    base: JsonPath,
    origin: String,
    /// `usable`, `missing`, `unavailable` or `unsafe`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// `live`, `waiting`, `dead`, `foreign` or `unsafe`, if the name exists there.
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_why: Option<String>,
    /// The process that holds the name there, or held it last.
    pid: Option<u32>,
    /// True if that process is stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<bool>,
    /// The socket or FIFO of each transport.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    endpoints: BTreeMap<String, JsonPath>,
}

pub(super) fn run(args: &args::Path) -> anyhow::Result<()> {
    let Resolution { address, candidates, server, client, .. } = holder::resolve(args.into())?;
    let rows: Vec<Row> = candidates.iter().map(row).collect();
    let answer =
        Answer { address: address.to_string(), server: outcome(&server), client: outcome(&client), candidates: rows };
    if args.json {
        output::json(&answer)?;
    } else {
        print(&answer)?;
    }
    // An unsafe directory comes first, because the user must fix it.
    let mut errors: Vec<_> = [server.err(), client.err()].into_iter().flatten().collect();
    errors.sort_by_key(|error| error.kind() != ErrorKind::UnsafeDirectory);
    let is_told =
        |kind| matches!(kind, ErrorKind::UnsafeDirectory | ErrorKind::NoServer | ErrorKind::Denied | ErrorKind::Io);
    match errors.into_iter().find(|error| is_told(error.kind())) {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

fn row(candidate: &Candidate) -> Row {
    let (state, why) = base_state(&candidate.base.state);
    let name = candidate.name.as_ref().map(list::NameRow::new);
    Row {
        base: JsonPath::new(&candidate.base.path),
        origin: candidate.base.origin.to_string(),
        state,
        why,
        pid: name.as_ref().and_then(|name| name.pid),
        stopped: name.as_ref().and_then(|name| name.stopped),
        endpoints: name.as_ref().map(|name| name.endpoints.clone()).unwrap_or_default(),
        name_why: name.as_ref().and_then(|name| name.why.clone()),
        name: name.map(|name| name.state),
    }
}

/// Returns the word for the state of a base directory, and the reason for that state.
pub(super) fn base_state(state: &BaseState) -> (&'static str, Option<String>) {
    match state {
        BaseState::Usable => ("usable", None),
        BaseState::Missing => ("missing", None),
        BaseState::Unavailable(error) => ("unavailable", Some(error.to_string())),
        BaseState::Unsafe(error) => ("unsafe", Some(error.to_string())),
        _ => ("unknown", None),
    }
}

fn outcome(result: &Result<PathBuf, parlour::Error>) -> Outcome {
    match result {
        Ok(path) => Outcome { path: Some(JsonPath::new(path)), why_not: None },
        Err(error) => Outcome { path: None, why_not: Some(error.to_string()) },
    }
}

fn print(answer: &Answer) -> anyhow::Result<()> {
    for (who, outcome) in [("client connects through:", &answer.client), ("server would take:      ", &answer.server)] {
        let where_to = match (&outcome.path, &outcome.why_not) {
            (Some(path), _) => path.to_string(),
            (None, why) => format!("none: {}", output::or_dash(why.as_ref())),
        };
        output::line(format_args!("{who}  {where_to}"))?;
    }
    output::line("")?;
    let cells = answer.candidates.iter().enumerate().map(|(index, row)| {
        vec![
            (index + 1).to_string(),
            row.base.to_string(),
            output::cell(&row.origin),
            row.state.to_owned(),
            list::shown(row.name.as_deref().unwrap_or("absent"), row.stopped),
            output::or_dash(row.pid),
        ]
    });
    output::table(&["", "DIRECTORY", "ORIGIN", "STATE", "NAME", "PID"], &["", "PID"], cells.collect())?;
    for row in &answer.candidates {
        // The table shows that a directory is missing. The reason why a directory is unsafe takes a sentence.
        let unsafe_base = row.why.as_ref().filter(|_| row.state == "unsafe");
        for why in [unsafe_base, row.name_why.as_ref()].into_iter().flatten() {
            output::note(why);
        }
    }
    Ok(())
}
