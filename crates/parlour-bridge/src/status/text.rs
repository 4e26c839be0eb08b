//! The status as lines for people.

use std::fmt::Write;

use super::{FlowStatus, HostState, ImportState, RegistryStatus, Status, TrafficStatus};

/// Returns the lines. None has a control character.
#[must_use]
pub fn lines(status: &Status) -> String {
    // Writing to a text does not fail.
    let mut out = String::new();
    let Status { host, version, uptime_seconds, counts, .. } = status;
    let _ = writeln!(out, "{}: version {}, running for {uptime_seconds} s", plain(host), plain(version));
    out += "hosts\n";
    for host in &status.hosts {
        let state = match host.state {
            HostState::Down => "down",
            HostState::Connecting => "connecting",
            HostState::Up => "up",
            HostState::Ending => "ending",
        };
        let _ = write!(out, "  {} {}: {state}", host.direction.as_str(), plain(&host.host));
        if host.state == HostState::Up || host.conversations > 0 {
            let _ = write!(out, ", {}, {}", conversations(host.conversations), traffic(&host.traffic));
        }
        let _ = match &host.problem {
            Some(problem) => writeln!(out, ": {}", plain(problem)),
            None => writeln!(out),
        };
    }
    out += "names\n";
    for import in &status.imports {
        let exporters = plain(&import.exporters.join(", "));
        let state = match import.state {
            ImportState::NoExporter => "no host exports it".to_owned(),
            ImportState::Held => format!("held, exported by {exporters}"),
            ImportState::Local => "a server of this host has it".to_owned(),
            ImportState::Waiting => format!("not taken yet, exported by {exporters}"),
        };
        let (name, count) = (plain(&import.name), conversations(import.conversations));
        let _ = writeln!(out, "  import {name}: {state}, {count}, {}", traffic(&import.traffic));
    }
    for export in &status.exports {
        let server = if export.has_server { "has a server" } else { "has no server" };
        let (name, to) = (plain(&export.name), plain(&export.to.join(", ")));
        let (count, traffic) = (conversations(export.conversations), traffic(&export.traffic));
        let _ = writeln!(out, "  export {name}: {server}, to {to}, {count}, {traffic}");
    }
    if let Some(registry) = &status.registry {
        let _ = writeln!(out, "registry {}", plain(&registry.servers.join(", ")));
        let state =
            registry.connected_seconds.map_or("not connected".to_owned(), |time| format!("connected for {time} s"));
        let problem =
            registry.problem.as_deref().map_or_else(String::new, |text| format!("; last error: {}", plain(text)));
        let _ = writeln!(out, "  {state}{problem}");
        let RegistryStatus { names_put, names_watched, hosts_found, entries_refused, losses, .. } = registry;
        let _ = writeln!(out, "  names: {names_put} put, {names_watched} watched; hosts found: {hosts_found}");
        let _ = writeln!(out, "  entries refused: {entries_refused}; connections lost: {losses}");
    }
    out += "since the start\n";
    let _ = writeln!(out, "  clients of this host: {} served, {} without an exporter", counts.imported, counts.aborted);
    let _ = writeln!(out, "  clients of other hosts: {} served", counts.exported);
    let refused = counts.refused.iter().filter(|(_, count)| **count > 0);
    let refused: Vec<String> = refused.map(|(kind, count)| format!("{count} {}", plain(kind))).collect();
    let refused = if refused.is_empty() { "none".to_owned() } else { refused.join(", ") };
    let _ = writeln!(out, "  clients of other hosts that were refused: {refused}");
    let _ = writeln!(out, "  connections of strangers: {}", counts.connections_refused);
    let _ = writeln!(out, "  lost hosts: {}", counts.links_lost);
    out
}

fn conversations(count: usize) -> String {
    if count == 1 { "1 conversation".to_owned() } else { format!("{count} conversations") }
}

fn traffic(traffic: &TrafficStatus) -> String {
    let flow = |flow: &FlowStatus| format!("{} messages ({} bytes)", flow.messages, flow.bytes);
    format!("{} received, {} sent", flow(&traffic.received), flow(&traffic.sent))
}

/// Replaces control characters. The text may come from another program.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn people_get_lines_without_control_characters() {
        let text = lines(&example());
        let traffic = "7 messages (70 bytes) received, 8 messages (80 bytes) sent";
        assert!(text.contains(&format!("import a.example: up, 2 conversations, {traffic}\n")), "{text}");
        assert!(text.contains("import c.example: down: no route\\n\\u{1b}[31m\n"), "{text}");
        let import = format!("import wc: held, exported by a.example, 2 conversations, {traffic}\n");
        assert!(text.contains(&import), "{text}");
        assert!(text.contains("export x: has a server, to a.example, 0 conversations, 0 messages (0 bytes)"), "{text}");
        assert!(text.contains("refused: 3 busy\n"), "{text}");
        assert!(
            text.contains("registry nats://n.example:4222\n  not connected; last error: no\\u{1b}[31m\n"),
            "{text}"
        );
        assert!(text.contains("names: 1 put, 2 watched; hosts found: 3\n  entries refused: 4; connections lost: 0\n"));
    }
}
