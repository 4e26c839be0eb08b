//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use parlour_measure::{Placement, Size};

/// The argument that makes this program run the role that follows, as a child process of a measurement.
pub(crate) const ROLE: &str = "--role";

/// Measure the speed of messages between two processes, against the bare system calls
///
/// Every contender has one turn in every cell (a kind of work, a size, a placement) of every round, in random order.
/// Ratios are taken within a round.
#[derive(Debug, Parser)]
#[command(name = "parlour-bench", disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// Measure less of everything, and neither calls nor idle: under a minute
    #[arg(long)]
    pub(crate) quick: bool,
    /// Kinds of measurement [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND")]
    pub(crate) only: Vec<Kind>,
    /// Lengths of messages: any number of bytes, KiB or MiB [default: 64,4KiB,64KiB,1MiB,16MiB; 64,64KiB if --quick]
    #[arg(long, value_delimiter = ',', value_name = "SIZE")]
    pub(crate) size: Vec<Size>,
    /// Processors of the two ends: unpinned, one-core, two-cores [default: all]
    #[arg(long, value_delimiter = ',', value_name = "PLACEMENT", value_parser = placement)]
    pub(crate) placement: Vec<Placement>,
    /// Contenders, by their names or by the beginnings of names up to a hyphen [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) contender: Vec<String>,
    /// Measure only cells whose names (roundtrip/64/two-cores/parlour-unix) contain this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// Contender to which the ratios in the tables refer
    #[arg(long, value_name = "NAME", default_value = "raw-stream")]
    pub(crate) baseline: String,
    /// Number of rounds [default: 9; 3 if --quick]
    #[arg(long, value_name = "COUNT")]
    pub(crate) rounds: Option<u32>,
    /// Length of a turn without its warm-up, in milliseconds [default: 100; 20 if --quick]
    #[arg(long, value_name = "MS")]
    pub(crate) turn_ms: Option<u64>,
    /// Repeat the order of an earlier run, which printed its seed
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Write the results to this file, for `report`
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// List the contenders with their versions and configurations
    #[arg(long)]
    pub(crate) list: bool,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true, global = true)]
    pub(crate) bench: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Commands other than a measurement.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Report(Report),
    Guard(Guard),
}

/// Make a report of saved results
///
/// If several runs have a figure, the targets use the figure of the first of these runs.
#[derive(Debug, clap::Args)]
pub(crate) struct Report {
    /// Files that --json wrote
    #[arg(required = true, value_name = "FILE")]
    pub(crate) results: Vec<PathBuf>,
    /// Write one self-contained HTML file
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write Markdown, with its charts in a directory beside it
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
}

/// Count the costs of fixed scenarios, and fail if they exceed the accepted costs
///
/// Counts allocations, system calls (with strace) and instructions (with valgrind), which are the same in each run.
/// Measures no times. Prints which of these cannot be counted on this machine, and leaves them out.
#[derive(Debug, clap::Args)]
pub(crate) struct Guard {
    /// Accept the counted costs as the new limits
    #[arg(long)]
    pub(crate) accept: bool,
    /// Run only scenarios whose names contain this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// File of the accepted figures, instead of the one in the crate
    #[arg(long, value_name = "FILE")]
    pub(crate) figures: Option<PathBuf>,
}

/// The kinds of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Round trips of one message
    Roundtrip,
    /// Messages one way
    Stream,
    /// Connect, verify, one round trip, close
    Connect,
    /// Round trips of a thousand clients, served by one thread
    Crowd,
    /// Round trips of one thread and of four threads over one connection
    Threads,
    /// Memory of the server for each of ten thousand idle connections
    Memory,
    /// Processor time of an idle connection
    Idle,
    /// System calls for each message
    Calls,
    /// Figures that are not times of messages: frames, memory of `shm`, and in the program `bridges` faults
    Probes,
}

impl Args {
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 9 }).max(1)
    }

    pub(crate) fn turn_ms(&self) -> u64 {
        self.turn_ms.unwrap_or(if self.quick { 20 } else { 100 })
    }

    pub(crate) fn wants(&self, kind: Kind) -> bool {
        // Counting system calls and waiting beside idle connections or after faults take long on any machine.
        let takes_time = matches!(kind, Kind::Calls | Kind::Idle | Kind::Probes);
        if self.only.is_empty() { !(self.quick && takes_time) } else { self.only.contains(&kind) }
    }

    pub(crate) fn wants_contender(&self, name: &str) -> bool {
        // The whole name of a contender may be the beginning of another name.
        let exact = self.contender.iter().any(|wanted| wanted == name);
        let begins = |wanted: &String| name.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.starts_with('-'));
        self.contender.is_empty() || exact || self.contender.iter().any(begins)
    }
}

fn placement(text: &str) -> Result<Placement, String> {
    let found = Placement::ALL.into_iter().find(|placement| placement.name() == text);
    found.ok_or_else(|| "expected unpinned, one-core or two-cores".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Args {
        Args::try_parse_from(std::iter::once("bench").chain(line.split_whitespace())).unwrap()
    }

    #[test]
    fn one_cell_can_be_selected() {
        let args = parse("--only roundtrip --size 64,4KiB --placement two-cores --contender parlour-unix,raw --bench");
        assert_eq!((args.only, args.size), (vec![Kind::Roundtrip], vec![Size(64), Size(4096)]));
        assert_eq!(args.placement, [Placement::TwoCores]);
    }

    #[test]
    fn quick_reduces_the_defaults_and_explicit_values_override_them() {
        assert!(parse("--quick").rounds() < parse("").rounds() && parse("--quick").turn_ms() < parse("").turn_ms());
        assert_eq!((parse("--quick --rounds 7").rounds(), parse("--turn-ms 5").turn_ms()), (7, 5));
    }

    #[test]
    fn contenders_are_selected_by_their_name_or_its_beginning_up_to_a_hyphen() {
        let args = parse("--contender parlour-unix,raw");
        let wanted = |name| args.wants_contender(name);
        assert!(wanted("parlour-unix") && wanted("parlour-unix-send") && wanted("raw-fifo"));
        assert!(!wanted("parlour-shm") && !wanted("rawer") && parse("").wants_contender("anything"));
    }
}
