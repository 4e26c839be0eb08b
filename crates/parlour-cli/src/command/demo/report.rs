//! The results of the demo: printed one by one, or as one JSON document at the end.

use std::fmt::Display;
use std::time::Duration;

use parlour::Transport;
use serde::Serialize;

use super::event::Identity;
use super::text::Text;
use crate::output;

/// The measurements of each transport, and the claims with their verdicts.
#[derive(Serialize)]
pub(super) struct Report {
    #[serde(skip)]
    json: bool,
    text: TextRow,
    transports: Vec<Row>,
    claims: Vec<Claim>,
    held: bool,
    seconds: f64,
}

#[derive(Serialize)]
struct TextRow {
    origin: String,
    lines: usize,
    bytes: u64,
}

/// The measurements of one transport.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) transport: String,
    pub(super) clients: usize,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// The identity of one client, as the server received it.
    pub(super) identity: Identity,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) messages_per_second: f64,
}

#[derive(Serialize)]
struct Claim {
    transport: Option<String>,
    claim: &'static str,
    held: bool,
    seen: String,
}

impl Report {
    pub(super) fn new(json: bool, text: &Text) -> Report {
        let text = TextRow { origin: text.origin.clone(), lines: text.lines().len(), bytes: text.bytes() };
        Report { json, text, transports: Vec::new(), claims: Vec::new(), held: true, seconds: 0.0 }
    }

    /// Returns true if every claim held.
    pub(super) fn held(&self) -> bool {
        self.held
    }

    pub(super) fn row(&mut self, row: Row) {
        self.transports.push(row);
    }

    /// Prints text, unless the output is JSON. A closed stdout does not end the demo, because the exit code covers all
    /// checks.
    pub(super) fn say(&self, text: impl Display) -> anyhow::Result<()> {
        if self.json { Ok(()) } else { output::unless_closed(output::line(text)) }
    }

    /// Records and prints a claim, its verdict and the observation behind it.
    pub(super) fn claim(
        &mut self,
        transport: Option<Transport>,
        claim: &'static str,
        held: bool,
        seen: &str,
    ) -> anyhow::Result<()> {
        self.held &= held;
        let transport = transport.map(|transport| transport.to_string());
        let verdict = if held { "ok" } else { "FAILED" };
        let on = transport.as_deref().unwrap_or("all");
        let seen = output::cell(seen);
        self.say(format_args!("{verdict:<6}  {on:<4}  {claim}: {seen}"))?;
        self.claims.push(Claim { transport, claim, held, seen });
        Ok(())
    }

    /// Prints the table of the transports.
    pub(super) fn print_rows(&self) -> anyhow::Result<()> {
        if self.json {
            return Ok(());
        }
        let TextRow { origin, lines, bytes } = &self.text;
        self.say(format_args!(
            "\nEach client sends {lines} lines with {bytes} bytes ({origin}), and waits for the reply to each line.\n"
        ))?;
        let header = [
            "TRANSPORT",
            "CLIENTS",
            "MESSAGES",
            "BYTES",
            "IDENTITY OF A CLIENT",
            "P50 \u{b5}s",
            "P99 \u{b5}s",
            "MESSAGES/s",
        ];
        let numbers = ["CLIENTS", "MESSAGES", "BYTES", "P50 \u{b5}s", "P99 \u{b5}s", "MESSAGES/s"];
        let rows = self.transports.iter().map(|row| {
            vec![
                row.transport.clone(),
                row.clients.to_string(),
                row.messages.to_string(),
                row.bytes.to_string(),
                row.identity.to_string(),
                format!("{:.1}", row.p50_us),
                format!("{:.1}", row.p99_us),
                format!("{:.0}", row.messages_per_second),
            ]
        });
        output::unless_closed(output::table(&header, &numbers, rows.collect()))
    }

    /// Prints the summary, or the whole report as JSON.
    pub(super) fn print_end(&mut self, took: Duration) -> anyhow::Result<()> {
        self.seconds = took.as_secs_f64();
        if self.json {
            return output::unless_closed(output::json(self));
        }
        let failed = self.claims.iter().filter(|claim| !claim.held).count();
        let verdict = match failed {
            0 => format!("all {} checks passed", self.claims.len()),
            _ => format!("{failed} of {} checks FAILED", self.claims.len()),
        };
        self.say(format_args!("\n{verdict}, {:.1} s", self.seconds))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn one_failed_claim_makes_the_report_fail() {
        let mut report = Report::new(true, &Text::load(None).unwrap());
        report.claim(None, "this holds", true, "").unwrap();
        assert!(report.held());
        report.claim(None, "this does not", false, "").unwrap();
        report.claim(None, "this holds too", true, "").unwrap();
        assert!(!report.held());
    }
}
