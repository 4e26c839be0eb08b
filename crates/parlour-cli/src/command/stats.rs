//! `parlour stats`: prints one reading of the counters of a server.

use std::collections::BTreeMap;

use parlour::inspect::{self, NameStats};
use parlour::{Address, RefusalReason};
use serde::Serialize;

use super::clients::{self, ClientRow};
use super::holder;
use super::list::timestamp;
use super::openmetrics::Exposition;
use crate::args::Stats;
use crate::output::{self, JsonPath};

/// The counters of a server as `--json` prints them.
#[derive(Debug, Serialize)]
struct StatsDocument {
    name: String,
    pid: u32,
    uid: u32,
    program: JsonPath,
    since: String,
    uptime_seconds: f64,
    accepted: u64,
    open: u64,
    refused: BTreeMap<String, u64>,
    received_messages: u64,
    received_bytes: u64,
    sent_messages: u64,
    sent_bytes: u64,
    held_bytes: u64,
    stuck: usize,
    /// Clients that `clients` does not have.
    unlisted: u64,
    clients: Vec<ClientRow>,
}

pub(super) fn run(args: &Stats) -> anyhow::Result<()> {
    let stats = inspect::stats_with(&args.address, &holder::options(args.server_uid))?;
    let name = Address::parse(&args.address)?.name().to_owned();
    match (args.json, args.openmetrics) {
        (true, _) => output::json(&document(name, &stats)),
        (false, true) => output::bytes(exposition(&name, &stats).as_bytes()),
        (false, false) => output::bytes(text(&name, &stats).as_bytes()),
    }
}

/// Returns the number of refusals for each reason, by its name.
fn refused(stats: &NameStats) -> impl Iterator<Item = (String, u64)> {
    RefusalReason::ALL.iter().map(|reason| (reason.to_string(), stats.refused_by(*reason)))
}

/// Returns the number of bytes that the server holds for its clients.
fn held(stats: &NameStats) -> u64 {
    stats.clients.iter().fold(0, |sum, client| sum.saturating_add(client.held))
}

fn stuck(stats: &NameStats) -> usize {
    stats.clients.iter().filter(|client| clients::stuck(client).is_some()).count()
}

/// Returns the number of clients that bridges have connected for each other host.
fn by_host(stats: &NameStats) -> BTreeMap<&str, usize> {
    let mut hosts = BTreeMap::new();
    for origin in stats.clients.iter().filter_map(|client| client.origin.as_ref()) {
        *hosts.entry(origin.host()).or_default() += 1;
    }
    hosts
}

fn document(name: String, stats: &NameStats) -> StatsDocument {
    StatsDocument {
        name,
        pid: stats.owner.pid,
        uid: stats.owner.uid,
        program: JsonPath::new(&stats.owner.program),
        since: timestamp(stats.owner.since),
        uptime_seconds: stats.uptime.as_secs_f64(),
        accepted: stats.accepted,
        open: stats.open,
        refused: refused(stats).collect(),
        received_messages: stats.received.messages,
        received_bytes: stats.received.bytes,
        sent_messages: stats.sent.messages,
        sent_bytes: stats.sent.bytes,
        held_bytes: held(stats),
        stuck: stuck(stats),
        unlisted: stats.unlisted,
        clients: stats.clients.iter().map(ClientRow::new).collect(),
    }
}

fn text(name: &str, stats: &NameStats) -> String {
    let reasons: Vec<_> = refused(stats).filter(|(_, count)| *count > 0).collect();
    let reasons: Vec<_> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    let mut lines = vec![
        ("name", name.to_owned()),
        ("server", output::cell(&stats.owner)),
        ("up", clients::whole_seconds(stats.uptime)),
        (
            "clients",
            format!("{} connected, {} accepted, {} refused{reasons}", stats.open, stats.accepted, stats.refused),
        ),
        ("received", format!("{} messages, {} bytes", stats.received.messages, stats.received.bytes)),
        ("sent", format!("{} messages, {} bytes, {} bytes held", stats.sent.messages, stats.sent.bytes, held(stats))),
    ];
    for (host, count) in by_host(stats) {
        lines.push(("of host", output::cell(format_args!("{host}: {count} connected"))));
    }
    for client in &stats.clients {
        if let Some(waiting) = clients::stuck(client) {
            let (pid, time) = (output::or_dash(client.pid), clients::whole_seconds(waiting.time));
            let from = client.origin.as_ref().map(|origin| format!(", from {}", clients::origin(origin)));
            let from = from.unwrap_or_default();
            lines.push(("stuck", format!("pid {pid}{from}: the server {} ({time})", waiting.reason)));
        }
    }
    lines.iter().map(|(label, value)| format!("{label:<9} {value}\n")).collect()
}

/// Returns the counters in the text format of OpenMetrics 1.0.
fn exposition(name: &str, stats: &NameStats) -> String {
    let mut out = Exposition::default();
    let name = ("name", name);
    out.family("parlour_server", "info", "The server that holds the name.");
    let (pid, program) = (stats.owner.pid.to_string(), output::cell(stats.owner.program.display()));
    out.sample("parlour_server_info", &[name, ("pid", &pid), ("program", &program)], 1);
    out.family("parlour_server_uptime_seconds", "gauge", "The time since the server began.");
    out.sample("parlour_server_uptime_seconds", &[name], stats.uptime.as_secs_f64());
    out.family("parlour_server_clients", "gauge", "The clients that are connected.");
    out.sample("parlour_server_clients", &[name], stats.open);
    let hosts = by_host(stats);
    if !hosts.is_empty() {
        out.family(
            "parlour_server_origin_clients",
            "gauge",
            "The clients that a bridge has connected for another host.",
        );
    }
    for (host, count) in hosts {
        out.sample("parlour_server_origin_clients", &[name, ("host", host)], count);
    }
    out.family("parlour_server_stuck_clients", "gauge", "The clients that have held the server up for a second.");
    out.sample("parlour_server_stuck_clients", &[name], stuck(stats));
    out.family("parlour_server_held_bytes", "gauge", "The bytes that the server holds for clients that do not read.");
    out.sample("parlour_server_held_bytes", &[name], held(stats));
    out.family("parlour_server_accepted", "counter", "The clients that were accepted.");
    out.sample("parlour_server_accepted_total", &[name], stats.accepted);
    out.family("parlour_server_refused", "counter", "The attempts to connect that were refused.");
    for (reason, count) in refused(stats) {
        out.sample("parlour_server_refused_total", &[name, ("reason", &reason)], count);
    }
    if !stats.is_exact {
        // A counter that goes back would be taken for a new server. The next reading has these.
        return out.finish();
    }
    out.family("parlour_server_messages", "counter", "The messages of all clients.");
    out.sample("parlour_server_messages_total", &[name, ("direction", "received")], stats.received.messages);
    out.sample("parlour_server_messages_total", &[name, ("direction", "sent")], stats.sent.messages);
    out.family("parlour_server_message_bytes", "counter", "The bytes of these messages.");
    out.sample("parlour_server_message_bytes_total", &[name, ("direction", "received")], stats.received.bytes);
    out.sample("parlour_server_message_bytes_total", &[name, ("direction", "sent")], stats.sent.bytes);
    out.finish()
}
