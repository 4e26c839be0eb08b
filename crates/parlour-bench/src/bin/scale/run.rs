//! The measurements: one server process and several client processes for each row of the table.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use parlour::Transport;

use crate::args::{Args, ServerKind};
use crate::child::Child;
use crate::report::{self, Row};

/// Makes the measurements that the arguments select, and prints the table.
pub(crate) fn all(args: &Args) -> Result<()> {
    let transports = if args.transports.is_empty() { Transport::ALL } else { &args.transports };
    let servers = if args.servers.is_empty() { ServerKind::ALL } else { &args.servers };
    let mut rows = Vec::new();
    for &transport in transports {
        for &server in servers {
            let connections = args.connections.unwrap_or(match transport {
                Transport::Unix | Transport::Packet => 10_000,
                _ => 1_000,
            });
            eprintln!("scale: {connections} connections over {transport}, held by {}", server.name());
            let row = one(transport, server, connections, args.processes.clamp(1, connections));
            rows.push(row.with_context(|| format!("{transport}, {}", server.name()))?);
        }
    }
    report::print(&rows);
    report::check(&rows, args.memory_max)
}

fn one(transport: Transport, kind: ServerKind, connections: usize, processes: usize) -> Result<Row> {
    // In /dev/shm if possible: the bases of users are in memory, too, and each client creates one or two files while it
    // connects.
    let base = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
    let address = format!("{transport}:{}/crowd", base.path().display());
    let mut server = Child::spawn(&["serve", kind.name(), &address, &connections.to_string()])?;
    ensure!(server.line()? == "ready");

    // The first client causes allocations that the server makes only once, some of them after several messages.
    let mut first = Child::spawn(&["clients", &address, "1"])?;
    first.ask("connect")?;
    for _ in 0..32 {
        first.ask("in-turn")?;
    }
    first.finish()?;
    let before = settled(&mut server, 0)?;

    let mut clients = Vec::new();
    for number in 0..processes {
        let count = (connections + number) / processes;
        clients.push(Child::spawn(&["clients", &address, &count.to_string()])?);
    }
    let connect = time(&mut clients, "connect")?;
    // The clients allocate their buffers for the first answer, and the clients are not the subject of the measurement.
    time(&mut clients, "together")?;
    let together = time(&mut clients, "together")?;
    let in_turn = time(&mut clients, "in-turn")?;
    let after = settled(&mut server, connections)?;
    for client in clients {
        client.finish()?;
    }
    // All clients must leave the server.
    settled(&mut server, 0)?;
    server.finish()?;
    let each = |after: usize, before: usize| after.saturating_sub(before) as f64 / connections as f64;
    Ok(Row {
        transport,
        server: kind.name(),
        connections,
        connect,
        together,
        in_turn,
        allocated_each: each(after.allocated, before.allocated),
        resident_each: each(after.resident, before.resident),
        descriptors: after.descriptors,
    })
}

/// Sends a command to all processes, waits for all answers, and returns the elapsed time.
fn time(clients: &mut [Child], what: &str) -> Result<Duration> {
    let begin = Instant::now();
    clients.iter_mut().try_for_each(|client| client.say(what))?;
    for client in clients {
        client.line()?;
    }
    Ok(begin.elapsed())
}

/// The counters that a server reports.
struct Said {
    allocated: usize,
    resident: usize,
    descriptors: usize,
}

/// Requests reports from the server until it has `inside` clients.
fn settled(server: &mut Child, inside: usize) -> Result<Said> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let said = server.ask("report")?;
        let numbers: Vec<usize> = said.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let &[now, allocated, resident, descriptors] = &numbers[..] else { anyhow::bail!("malformed report {said:?}") };
        if now == inside {
            return Ok(Said { allocated, resident, descriptors });
        }
        ensure!(Instant::now() < deadline, "the server has {now} clients instead of {inside}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
