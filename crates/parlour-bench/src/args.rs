//! What can be typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use parlour_measure::{Placement, Size};

/// The argument that makes a process of this program play the role that follows.
pub(crate) const ROLE: &str = "--role";

/// Measures how fast messages go, between two processes, against the bare system calls.
///
/// Every contender has a turn in every cell (a kind of work, a size, a placement) of every round, in random order.
/// Ratios are taken within a round.
#[derive(Debug, Parser)]
#[command(name = "parlour-bench", disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// Less of everything, and neither calls nor idle: under a minute
    #[arg(long)]
    pub(crate) quick: bool,
    /// What to measure. By default all of it
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND")]
    pub(crate) only: Vec<Kind>,
    /// Lengths of messages: 64, 4KiB, 64KiB, 1MiB, 16MiB or any other
    #[arg(long, value_delimiter = ',', value_name = "SIZE")]
    pub(crate) size: Vec<Size>,
    /// On which processors the two ends run: unpinned, one-core, two-cores
    #[arg(long, value_delimiter = ',', value_name = "PLACEMENT", value_parser = placement)]
    pub(crate) placement: Vec<Placement>,
    /// Which contenders, by their names or by the beginnings of them
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) contender: Vec<String>,
    /// Only cells in whose names (roundtrip/64/two-cores/parlour-unix) this occurs
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// To what the ratios in the tables are
    #[arg(long, value_name = "NAME", default_value = "raw-stream")]
    pub(crate) baseline: String,
    /// How many rounds. By default 9, and 3 if quick
    #[arg(long, value_name = "COUNT")]
    pub(crate) rounds: Option<u32>,
    /// How long a turn takes, in milliseconds, after its warm-up. By default 100, and 20 if quick
    #[arg(long, value_name = "MS")]
    pub(crate) turn_ms: Option<u64>,
    /// Repeats the order of an earlier run, which has printed it
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Writes the results to this file, for `report`
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Lists the contenders, and what each is
    #[arg(long)]
    pub(crate) list: bool,
    /// What cargo says.
    #[arg(long, hide = true, global = true)]
    pub(crate) bench: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What else than to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Report(Report),
    Guard(Guard),
}

/// Makes a report of saved results
///
/// Where several runs have a figure, the first of them counts.
#[derive(Debug, clap::Args)]
pub(crate) struct Report {
    /// What --json has written
    #[arg(required = true, value_name = "FILE")]
    pub(crate) results: Vec<PathBuf>,
    /// Writes one HTML file that needs no other
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Writes Markdown, with its charts in a directory beside it
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
}

/// Counts what fixed scenarios cost, and fails if it is more than was accepted
///
/// Allocations, system calls (by strace) and instructions (by valgrind), which are the same in each run, and no times.
/// What cannot be counted here is said and left out.
#[derive(Debug, clap::Args)]
pub(crate) struct Guard {
    /// Takes what is counted as what may be from now on
    #[arg(long)]
    pub(crate) accept: bool,
    /// Only scenarios in whose names this occurs
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// The accepted figures, instead of those of the crate
    #[arg(long, value_name = "FILE")]
    pub(crate) figures: Option<PathBuf>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A message there and back
    Roundtrip,
    /// Messages one way
    Stream,
    /// Connect, verify, one round trip, close
    Connect,
    /// A thousand clients in ping-pong, served by one thread
    Crowd,
    /// Memory of the server for each of ten thousand idle connections
    Memory,
    /// Processor time of a connection on which nothing is sent
    Idle,
    /// System calls for each message
    Calls,
}

impl Args {
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 9 }).max(1)
    }

    pub(crate) fn turn_ms(&self) -> u64 {
        self.turn_ms.unwrap_or(if self.quick { 20 } else { 100 })
    }

    pub(crate) fn wants(&self, kind: Kind) -> bool {
        // Counting system calls and sleeping beside idle connections take their time, whatever the machine.
        let takes_time = matches!(kind, Kind::Calls | Kind::Idle);
        if self.only.is_empty() { !(self.quick && takes_time) } else { self.only.contains(&kind) }
    }

    pub(crate) fn wants_contender(&self, name: &str) -> bool {
        // The whole name of one may be the beginning of another's.
        let exact = self.contender.iter().any(|wanted| wanted == name);
        let begins = |wanted: &String| name.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.starts_with('-'));
        self.contender.is_empty() || exact || self.contender.iter().any(begins)
    }
}

fn placement(text: &str) -> Result<Placement, String> {
    let found = Placement::ALL.into_iter().find(|placement| placement.name() == text);
    found.ok_or_else(|| "it is one of unpinned, one-core, two-cores".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Args {
        Args::try_parse_from(std::iter::once("bench").chain(line.split_whitespace())).unwrap()
    }

    #[test]
    fn one_cell_can_be_asked_for() {
        let args = parse("--only roundtrip --size 64,4KiB --placement two-cores --contender parlour-unix,raw --bench");
        assert_eq!((args.only, args.size), (vec![Kind::Roundtrip], vec![Size(64), Size(4096)]));
        assert_eq!(args.placement, [Placement::TwoCores]);
    }

    #[test]
    fn quick_is_less_and_what_is_said_counts() {
        assert!(parse("--quick").rounds() < parse("").rounds() && parse("--quick").turn_ms() < parse("").turn_ms());
        assert_eq!((parse("--quick --rounds 7").rounds(), parse("--turn-ms 5").turn_ms()), (7, 5));
    }

    #[test]
    fn contenders_are_named_whole_or_by_their_family() {
        let args = parse("--contender parlour-unix,raw");
        let wanted = |name| args.wants_contender(name);
        assert!(wanted("parlour-unix") && wanted("parlour-unix-send") && wanted("raw-fifo"));
        assert!(!wanted("parlour-shm") && !wanted("rawer") && parse("").wants_contender("anything"));
    }
}
