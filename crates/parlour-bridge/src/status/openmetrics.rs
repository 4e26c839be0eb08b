//! The status in the text format of OpenMetrics 1.0.

use std::fmt::{Display, Write};

use super::{Direction, FlowStatus, HostState, ImportState, RegistryStatus, Status};

/// Returns the exposition.
#[must_use]
pub fn exposition(status: &Status) -> String {
    let mut out = Exposition(String::new());
    // The textfile collector of node_exporter refuses a text with the type `info`.
    out.family("parlour_bridge_info", "gauge", "1. The labels describe the bridge.");
    out.sample("parlour_bridge_info", &[("host", &status.host), ("version", &status.version)], 1);
    out.family("parlour_bridge_uptime_seconds", "gauge", "The time since the start.");
    out.sample("parlour_bridge_uptime_seconds", &[], status.uptime_seconds);

    out.family("parlour_bridge_host_up", "gauge", "1 if the link with the host is up.");
    for host in &status.hosts {
        let labels = [("host", host.host.as_str()), ("direction", host.direction.as_str())];
        out.sample("parlour_bridge_host_up", &labels, u8::from(host.state == HostState::Up));
    }
    out.family("parlour_bridge_host_conversations", "gauge", "The conversations with the host.");
    for host in &status.hosts {
        let labels = [("host", host.host.as_str()), ("direction", host.direction.as_str())];
        out.sample("parlour_bridge_host_conversations", &labels, host.conversations);
    }

    out.family("parlour_bridge_import_held", "gauge", "1 if the bridge holds the imported name.");
    for import in &status.imports {
        let is_held = import.state == ImportState::Held;
        out.sample("parlour_bridge_import_held", &[("name", &import.name)], u8::from(is_held));
    }
    out.family("parlour_bridge_import_exporters", "gauge", "The hosts that export the imported name.");
    for import in &status.imports {
        out.sample("parlour_bridge_import_exporters", &[("name", &import.name)], import.exporters.len());
    }
    out.family("parlour_bridge_export_server", "gauge", "1 if the exported name has a server on this host.");
    for export in &status.exports {
        out.sample("parlour_bridge_export_server", &[("name", &export.name)], u8::from(export.has_server));
    }
    out.family("parlour_bridge_name_conversations", "gauge", "The conversations of the name.");
    let imports = status.imports.iter().map(|import| (Direction::Import, &import.name, import.conversations));
    let exports = status.exports.iter().map(|export| (Direction::Export, &export.name, export.conversations));
    for (direction, name, conversations) in imports.chain(exports) {
        let labels = [("name", name.as_str()), ("direction", direction.as_str())];
        out.sample("parlour_bridge_name_conversations", &labels, conversations);
    }

    out.traffic(status);
    if let Some(registry) = &status.registry {
        out.registry(registry);
    }
    let counts = &status.counts;
    out.family("parlour_bridge_conversations", "counter", "The clients that a server has got.");
    for (direction, count) in [(Direction::Import, counts.imported), (Direction::Export, counts.exported)] {
        out.sample("parlour_bridge_conversations_total", &[("direction", direction.as_str())], count);
    }
    out.family("parlour_bridge_aborted", "counter", "The clients of this host that no exporter has taken.");
    out.sample("parlour_bridge_aborted_total", &[], counts.aborted);
    out.family("parlour_bridge_refused", "counter", "The clients of other hosts that were refused.");
    for (reason, count) in &counts.refused {
        out.sample("parlour_bridge_refused_total", &[("reason", reason)], count);
    }
    out.family("parlour_bridge_connections_refused", "counter", "The connections without a valid beginning.");
    out.sample("parlour_bridge_connections_refused_total", &[], counts.connections_refused);
    out.family("parlour_bridge_links_lost", "counter", "The links that have ended without an announcement.");
    out.sample("parlour_bridge_links_lost_total", &[], counts.links_lost);
    out.0 + "# EOF\n"
}

struct Exposition(String);

impl Exposition {
    fn traffic(&mut self, status: &Status) {
        let hosts = status.hosts.iter().map(|host| ("host", &host.host, host.direction, host.traffic));
        let imports = status.imports.iter().map(|import| ("name", &import.name, Direction::Import, import.traffic));
        let exports = status.exports.iter().map(|export| ("name", &export.name, Direction::Export, export.traffic));
        let of: Vec<_> = hosts.chain(imports).chain(exports).collect();
        let messages: fn(&FlowStatus) -> u64 = |flow| flow.messages;
        let bytes: fn(&FlowStatus) -> u64 = |flow| flow.bytes;
        for (kind, what, value, help) in [
            ("host", "messages", messages, "The messages of conversations with the host."),
            ("host", "bytes", bytes, "The bytes of these messages."),
            ("name", "messages", messages, "The messages of conversations of the name."),
            ("name", "bytes", bytes, "The bytes of these messages."),
        ] {
            let family = format!("parlour_bridge_{kind}_{what}");
            self.family(&family, "counter", help);
            for (_, name, direction, traffic) in of.iter().filter(|(of, ..)| *of == kind) {
                for (flow, count) in [("received", &traffic.received), ("sent", &traffic.sent)] {
                    let labels = [(kind, name.as_str()), ("direction", direction.as_str()), ("flow", flow)];
                    self.sample(&format!("{family}_total"), &labels, value(count));
                }
            }
        }
    }

    fn registry(&mut self, registry: &RegistryStatus) {
        self.family("parlour_bridge_registry_up", "gauge", "1 if the registry is connected.");
        self.sample("parlour_bridge_registry_up", &[], u8::from(registry.connected_seconds.is_some()));
        let seconds = "parlour_bridge_registry_connected_seconds";
        self.family(seconds, "gauge", "The time since the connection with the registry began.");
        self.sample(seconds, &[], registry.connected_seconds.unwrap_or(0));
        for (name, help, value) in [
            ("names_put", "The names of this host that have an entry.", registry.names_put),
            ("names_watched", "The names that are watched.", registry.names_watched),
            ("hosts_found", "The hosts with an entry for a name that is imported from them.", registry.hosts_found),
        ] {
            let name = format!("parlour_bridge_registry_{name}");
            self.family(&name, "gauge", help);
            self.sample(&name, &[], value);
        }
        self.family("parlour_bridge_registry_refused", "counter", "The entries that were refused.");
        self.sample("parlour_bridge_registry_refused_total", &[], registry.entries_refused);
        self.family("parlour_bridge_registry_losses", "counter", "The connections with the registry that were lost.");
        self.sample("parlour_bridge_registry_losses_total", &[], registry.losses);
    }

    // Writing to a text does not fail.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# TYPE {name} {kind}");
        for unit in ["seconds", "bytes"] {
            if name.ends_with(&format!("_{unit}")) {
                let _ = writeln!(self.0, "# UNIT {name} {unit}");
            }
        }
        let _ = writeln!(self.0, "# HELP {name} {help}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0 += name;
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{before}{label}=\"{text}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn each_value_has_its_labels_and_labels_are_escaped() {
        let mut status = example();
        status.version = "a\"b\\c\nd".to_owned();
        let text = exposition(&status);
        assert!(text.contains("\nparlour_bridge_info{host=\"b.example\",version=\"a\\\"b\\\\c\\nd\"} 1\n"), "{text}");
        assert!(text.contains("\nparlour_bridge_host_up{host=\"c.example\",direction=\"import\"} 0\n"), "{text}");
        assert!(text.contains("\nparlour_bridge_refused_total{reason=\"busy\"} 3\n"), "{text}");
        assert!(text.contains("\nparlour_bridge_registry_up 0\n"), "{text}");
        assert!(text.contains("\nparlour_bridge_registry_hosts_found 3\n"), "{text}");
        let bytes = "\nparlour_bridge_host_bytes_total{host=\"a.example\",direction=\"import\",flow=\"received\"} 70\n";
        assert!(text.contains(bytes), "{text}");
        let sent = "\nparlour_bridge_name_messages_total{name=\"wc\",direction=\"import\",flow=\"sent\"} 8\n";
        assert!(text.contains(sent), "{text}");
        assert!(text.ends_with("\n# EOF\n"));
        // The types that the former text format of Prometheus has, too.
        let mut types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        assert!(types.all(|(_, kind)| matches!(kind, "gauge" | "counter")), "{text}");
    }
}
