//! `parlour clients`: prints the clients of a server, with what they send, receive and wait for.

use std::time::Duration;

use parlour::inspect;
use parlour::{ClientStats, Origin, Waiting};
use serde::Serialize;

use super::holder;
use crate::args::Clients;
use crate::output;

/// A client that waits for longer than this is shown as stuck. One that is merely busy waits for an instant.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(1);

/// A client as `--json` prints it. Times are in seconds.
#[derive(Debug, Serialize)]
pub(super) struct ClientRow {
    number: u64,
    pid: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    transport: Option<String>,
    connected_seconds: f64,
    received_messages: u64,
    received_bytes: u64,
    sent_messages: u64,
    sent_bytes: u64,
    held_bytes: u64,
    /// The reasons for which the server waits.
    receiving: Option<WaitRow>,
    sending: Option<WaitRow>,
    stuck: bool,
    /// The other host that the client comes from, if a bridge has connected for it.
    origin: Option<OriginRow>,
}

/// The host is that of a certificate. The rest is what it claims.
#[derive(Debug, Serialize)]
struct OriginRow {
    host: String,
    uid: Option<u32>,
    pid: Option<u32>,
    program: Option<String>,
}

impl OriginRow {
    fn new(origin: &Origin) -> Self {
        let program = origin.program().map(str::to_owned);
        Self { host: origin.host().to_owned(), uid: origin.uid(), pid: origin.pid(), program }
    }
}

#[derive(Debug, Serialize)]
struct WaitRow {
    reason: String,
    seconds: f64,
}

impl WaitRow {
    fn new(waiting: Waiting) -> Self {
        Self { reason: waiting.reason.to_string(), seconds: waiting.time.as_secs_f64() }
    }
}

impl ClientRow {
    pub(super) fn new(client: &ClientStats) -> Self {
        Self {
            number: client.number,
            pid: client.pid,
            uid: client.uid,
            gid: client.gid,
            transport: client.transport.map(|transport| transport.to_string()),
            connected_seconds: client.connected.as_secs_f64(),
            received_messages: client.received.messages,
            received_bytes: client.received.bytes,
            sent_messages: client.sent.messages,
            sent_bytes: client.sent.bytes,
            held_bytes: client.held,
            receiving: client.receiving.map(WaitRow::new),
            sending: client.sending.map(WaitRow::new),
            stuck: stuck(client).is_some(),
            origin: client.origin.as_ref().map(OriginRow::new),
        }
    }
}

pub(super) fn run(args: &Clients) -> anyhow::Result<()> {
    let stats = inspect::stats_with(&args.address, &holder::options(args.server_uid))?;
    if args.json {
        return output::json(&stats.clients.iter().map(ClientRow::new).collect::<Vec<_>>());
    }
    if stats.unlisted > 0 {
        let why = "they connect or disconnect at this time, or the server has no memory for their counters";
        output::note(format_args!("{} clients are not shown: {why}", stats.unlisted));
    }
    if stats.clients.is_empty() {
        output::note("there are no clients");
        return Ok(());
    }
    let mut header =
        vec!["PID", "UID", "TRANSPORT", "CONNECTED", "RECEIVED", "BYTES", "SENT", "BYTES", "HELD", "STATE"];
    let numbers = ["PID", "UID", "CONNECTED", "RECEIVED", "BYTES", "SENT", "HELD"];
    let mut rows: Vec<_> = stats.clients.iter().map(cells).collect();
    // Most names have clients of this host alone.
    if stats.clients.iter().any(|client| client.origin.is_some()) {
        header.push("ORIGIN");
        for (row, client) in rows.iter_mut().zip(&stats.clients) {
            row.push(output::or_dash(client.origin.as_ref().map(origin)));
        }
    }
    output::table(&header, &numbers, rows)
}

/// Returns the host of a client of a bridge, and the program and the process that it claims to be there.
pub(super) fn origin(origin: &Origin) -> String {
    let claims = [origin.program().map(str::to_owned), origin.pid().map(|pid| format!("pid {pid}"))];
    let claims: Vec<_> = claims.into_iter().flatten().collect();
    let claims = if claims.is_empty() { String::new() } else { format!(" ({})", claims.join(", ")) };
    output::cell(format_args!("{}{claims}", origin.host()))
}

fn cells(client: &ClientStats) -> Vec<String> {
    vec![
        output::or_dash(client.pid),
        output::or_dash(client.uid),
        output::or_dash(client.transport),
        whole_seconds(client.connected),
        client.received.messages.to_string(),
        client.received.bytes.to_string(),
        client.sent.messages.to_string(),
        client.sent.bytes.to_string(),
        client.held.to_string(),
        state(client),
    ]
}

/// Returns the wait of a client that is stuck.
pub(super) fn stuck(client: &ClientStats) -> Option<Waiting> {
    client.stuck().filter(|waiting| waiting.time >= STUCK_AFTER)
}

fn state(client: &ClientStats) -> String {
    match (stuck(client), client.receiving) {
        (Some(waiting), _) => format!("stuck: {} ({})", waiting.reason, whole_seconds(waiting.time)),
        (None, Some(waiting)) if client.stuck().is_none() => format!("idle ({})", whole_seconds(waiting.time)),
        _ => "active".to_owned(),
    }
}

/// Formats a time without fractions of a second.
pub(super) fn whole_seconds(time: Duration) -> String {
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}
