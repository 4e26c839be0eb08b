//! Runs one server and four clients, and checks every reply and every identity.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::bail;
use parlour::Transport;

use super::event::{Event, Identity};
use super::process::{SOON, Worker};
use super::report::{Report, Row};
use super::scene::Scene;
use super::stats::Stats;
use super::text::Text;

/// The number of client processes, which run at the same time.
const CLIENTS: usize = 4;

pub(super) fn run(scene: &Scene, transport: Transport, text: &Text, report: &mut Report) -> anyhow::Result<()> {
    let address = format!("{transport}:demo-{transport}");
    let mut server = Worker::server(scene, &address)?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Worker::client(scene, &address, false)?);
    }

    // All clients connect before any begins, so that they run at the same time.
    let mut servers_seen = Vec::new();
    for client in &mut clients {
        match client.event(SOON)? {
            Event::Connected { server } => servers_seen.push(server),
            event => bail!("the {} sent the unexpected event {event:?}", client.who()),
        }
    }
    let mut clients_seen = Vec::new();
    for _ in 0..CLIENTS {
        match server.event(SOON)? {
            Event::Accepted { client } => clients_seen.push(client),
            event => bail!("the {} sent the unexpected event {event:?}", server.who()),
        }
    }
    for client in &mut clients {
        client.begin()?;
    }
    let mut done = Vec::new();
    for client in &mut clients {
        match client.event(wait_limit(text))? {
            Event::Done(client) => done.push(client),
            event => bail!("the {} sent the unexpected event {event:?}", client.who()),
        }
    }

    let pids: Vec<u32> = clients.iter().map(Worker::pid).collect();
    let server_pid = server.pid();
    for client in clients {
        client.end()?;
    }
    server.end()?;

    let stats = Stats::of(&done);
    let lines = text.lines().len() as u64;
    let all_right = done.iter().all(|client| client.wrong_line.is_none() && client.messages == lines);
    let seen = match done.iter().find_map(|client| client.wrong_line) {
        None => format!("{} of {} messages", stats.messages, lines * CLIENTS as u64),
        Some(line) => format!("the reply to line {line} was wrong"),
    };
    report.claim(Some(transport), "every reply equals the message that was sent", all_right, &seen)?;
    identities(transport, &pids, &clients_seen, server_pid, &servers_seen, report)?;

    report.row(Row {
        transport: transport.to_string(),
        clients: CLIENTS,
        messages: stats.messages,
        bytes: stats.bytes,
        identity: clients_seen.swap_remove(0),
        p50_us: stats.p50_us,
        p99_us: stats.p99_us,
        messages_per_second: stats.messages_per_second,
    });
    Ok(())
}

/// Checks the identities that each side received against the processes that the demo started.
fn identities(
    transport: Transport,
    pids: &[u32],
    clients: &[Identity],
    server_pid: u32,
    servers: &[Identity],
    report: &mut Report,
) -> anyhow::Result<()> {
    let uid = rustix::process::geteuid().as_raw();
    let expected: BTreeSet<_> = pids.iter().map(|&pid| (Some(pid), Some(uid))).collect();
    let seen: BTreeSet<_> = clients.iter().map(|client| (client.pid, client.uid)).collect();
    let all_vouched = clients.iter().all(|client| is_vouched(&client.uid_provenance));
    let shown = clients.iter().map(|client| client.pid.map_or("?".to_owned(), |pid| pid.to_string()));
    let shown = format!("pids {} of uid {uid}", shown.collect::<Vec<_>>().join(", "));
    report.claim(
        Some(transport),
        "the server knows the identity of each client",
        seen == expected && all_vouched,
        &shown,
    )?;

    let right = |server: &Identity| {
        server.pid == Some(server_pid) && server.uid == Some(uid) && is_vouched(&server.uid_provenance)
    };
    let shown = servers.first().map(ToString::to_string).unwrap_or_default();
    report.claim(Some(transport), "each client knows the identity of the server", servers.iter().all(right), &shown)
}

/// Returns true if the identity is more than the claim of the process itself.
fn is_vouched(provenance: &str) -> bool {
    use parlour::Provenance;
    [Provenance::FileOwner, Provenance::Verified, Provenance::Kernel].iter().any(|good| good.to_string() == provenance)
}

/// Returns a generous timeout for sending a text. Only a client that hangs exceeds it.
pub(super) fn wait_limit(text: &Text) -> Duration {
    SOON + Duration::from_millis(text.lines().len() as u64) + Duration::from_micros(text.bytes() / 10)
}
