//! The performance targets of parlour, and their comparison with measurements.

use parlour_measure::{Placement, Size, Work};

use super::document::{Cell, Document, Mood, Table};
use crate::plan::{self, CROWD};
use crate::results::{Results, Row, TurnRow};

/// A target: a bound for one figure of a contender.
#[derive(Clone, Debug, PartialEq)]
struct Target {
    what: &'static str,
    contender: &'static str,
    quantity: Quantity,
    bound: Bound,
}

/// The quantity that is compared with the bound.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Quantity {
    /// The median time of an operation, as a ratio to that of another contender.
    Time(Work, Placement, &'static str),
    /// Operations per second, computed from the median time of one, as a ratio to those of another contender.
    Rate(Work, Placement, &'static str),
    /// Processor time of both processes for an operation, as a ratio to that of another contender.
    Cpu(Work, Placement, &'static str),
    /// Allocations of both processes for an operation.
    Allocations(Work, Placement),
    /// Allocated memory of a server for each idle connection, in bytes.
    Memory,
    /// Processor time of an idle connection, in percent of a processor.
    Idle,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The placements in which the two ends can run at the same time. On one core the scheduler's work is the same for all
/// contenders.
const APART: [Placement; 2] = [Placement::Unpinned, Placement::TwoCores];

/// Returns all targets. This is the only definition of the targets.
fn all() -> Vec<Target> {
    let mut all = Vec::new();
    let mut round_trips = |what, contender, baseline, placements: &[Placement], bounds: &[(usize, f64)]| {
        for &placement in placements {
            for &(size, bound) in bounds {
                let quantity = Quantity::Time(Work::RoundTrip { size }, placement, baseline);
                all.push(Target { what, contender, quantity, bound: Bound::AtMost(bound) });
            }
        }
    };
    let sizes = [64, 4 * KIB, 64 * KIB, MIB];
    let with = |bounds: [f64; 4]| [0, 1, 2, 3].map(|index: usize| (sizes[index], bounds[index]));
    let one = [Placement::OneCore];
    let unix = "`unix` round trip, relative to a bare blocking stream";
    round_trips(unix, "parlour-unix", "raw-stream", &APART, &with([0.25, 0.5, 0.8, 0.6]));
    round_trips(unix, "parlour-unix", "raw-stream", &one, &with([0.95; 4]));
    let packet = "`packet` round trip, relative to a bare blocking SEQPACKET socket";
    round_trips(packet, "parlour-packet", "raw-packet", &APART, &with([0.25, 0.5, 1.0, 1.0]));
    round_trips(packet, "parlour-packet", "raw-packet", &one, &with([1.05; 4]));
    let fifo = "`fifo` round trip, relative to a bare blocking pair of FIFOs";
    round_trips(fifo, "parlour-fifo", "raw-fifo", &APART, &[(64, 0.15), (4 * KIB, 0.3)]);
    round_trips(fifo, "parlour-fifo", "raw-fifo", &one, &[(64, 1.05), (4 * KIB, 1.05)]);
    let long = [(64 * KIB, 1.0), (MIB, 1.0)];
    let fifo = "`fifo` round trip of long messages, relative to a bare blocking stream";
    round_trips(fifo, "parlour-fifo", "raw-stream", &Placement::ALL, &long);
    let shm = "`shm` round trip, relative to iceoryx2 with polling and copies";
    round_trips(shm, "parlour-shm", "iceoryx2-polling", &APART, &with([1.0, 1.0, 0.3, 0.7]));
    let tokio = "API for tokio, round trip, relative to tokio's `UnixStream` with `LengthDelimitedCodec`";
    round_trips(tokio, "parlour-tokio", "tokio-codec", &APART, &with([0.8; 4]));

    let transports = ["parlour-shm", "parlour-packet", "parlour-unix", "parlour-fifo"];
    let round_trip = Work::RoundTrip { size: 64 };
    for contender in transports {
        let what = "processor time for a round trip, relative to a bare blocking stream";
        let quantity = Quantity::Cpu(round_trip, Placement::TwoCores, "raw-stream");
        all.push(Target { what, contender, quantity, bound: Bound::AtMost(1.0) });
    }
    for contender in transports {
        let what = "processor time of an idle connection: it sleeps in the kernel";
        all.push(Target { what, contender, quantity: Quantity::Idle, bound: Bound::AtMost(0.0) });
    }
    let rates: [(&str, &str, Work, &str, f64); 4] = [
        (
            "64 B one way by `feed` and `flush`, relative to a bare stream with one write each",
            "parlour-unix",
            Work::stream_of(64),
            "raw-stream",
            60.0,
        ),
        (
            "64 B one way, relative to a bare stream with one write each",
            "parlour-shm",
            Work::stream_of(64),
            "raw-stream",
            100.0,
        ),
        (
            "connect, verify, one round trip and close, relative to a bare stream",
            "parlour-unix",
            Work::Connect { size: 64 },
            "raw-stream",
            0.7,
        ),
        (
            "a thousand clients in ping-pong with one thread, relative to bare epoll",
            "parlour-hub",
            Work::Crowd { size: 64, clients: CROWD },
            "raw-epoll",
            0.9,
        ),
    ];
    for (what, contender, work, baseline, bound) in rates {
        for placement in APART {
            let quantity = Quantity::Rate(work, placement, baseline);
            all.push(Target { what, contender, quantity, bound: Bound::AtLeast(bound) });
        }
    }
    let memory = "memory for each of many idle connections";
    for (contender, bytes) in [("parlour-hub", 256.0), ("parlour-tokio", 1024.0)] {
        let bound = Bound::AtMost(bytes);
        all.push(Target { what: memory, contender, quantity: Quantity::Memory, bound });
    }
    for contender in transports {
        let what = "allocations for a message, sent and received into the caller's buffer";
        let quantity = Quantity::Allocations(round_trip, Placement::TwoCores);
        all.push(Target { what, contender, quantity, bound: Bound::AtMost(0.0) });
    }
    all
}

/// Adds the section about the targets.
pub(super) fn blocks(document: &mut Document, runs: &[Results]) {
    let mut table = Table::new(4, &["quantity", "contender", "cell", "target", "measured", "verdict"]);
    let (mut met, mut measured_count, mut count) = (0, 0, 0);
    for Target { what, contender, quantity, bound } in all() {
        let measured = quantity.measured(contender, runs);
        let (verdict, mood) = match measured {
            None => ("not measured", Mood::Unknown),
            Some(measured) if bound.holds(measured) => ("met", Mood::Good),
            Some(_) => ("missed", Mood::Bad),
        };
        count += 1;
        measured_count += usize::from(measured.is_some());
        met += usize::from(mood == Mood::Good);
        let shown = measured.map_or_else(|| "-".to_owned(), |measured| quantity.show(measured));
        let limit = match bound {
            Bound::AtMost(most) => format!("≤ {}", quantity.show(most)),
            Bound::AtLeast(least) => format!("≥ {}", quantity.show(least)),
        };
        let cells = [what.to_owned(), contender.to_owned(), quantity.place(), limit, shown];
        let cells = cells.into_iter().map(Cell::from).chain([Cell { text: verdict.to_owned(), mood }]);
        table.row(cells);
    }
    document.heading(2, "Targets");
    document.text(format!(
        "The performance targets of parlour. **{met} of {count} are met**, {} are missed, {} were not measured in \
         these runs. Times and processor times are ratios of medians, rates are inverse ratios of median times, each \
         within a round.",
        measured_count - met,
        count - measured_count
    ));
    document.table(table);
}

impl Quantity {
    /// Returns the measured value, from the first run that has all necessary figures.
    fn measured(self, contender: &str, runs: &[Results]) -> Option<f64> {
        let ratio = |work, placement, baseline, figure: fn(&TurnRow) -> f64| {
            let rows = |run: &Results| {
                let row = |name: &str| run.row(work, placement, name).cloned();
                row(contender).zip(row(baseline))
            };
            let (row, base): (Row, Row) = runs.iter().find_map(rows)?;
            Some(row.ratio(&base, figure)).filter(|ratio| ratio.is_finite())
        };
        match self {
            Self::Time(work, placement, baseline) => ratio(work, placement, baseline, |turn| turn.median_ns),
            Self::Rate(work, placement, baseline) => ratio(work, placement, baseline, |turn| turn.median_ns.recip()),
            Self::Cpu(work, placement, baseline) => ratio(work, placement, baseline, |turn| turn.cpu_ns),
            Self::Allocations(work, placement) => {
                let row = runs.iter().find_map(|run| run.row(work, placement, contender))?;
                Some(row.median(|turn| turn.allocations.unwrap_or(f64::NAN))).filter(|count| count.is_finite())
            }
            Self::Memory => {
                let mut rows = runs.iter().flat_map(|run| &run.memory);
                rows.find(|row| row.contender == contender)?.idle.allocated_each
            }
            Self::Idle => {
                let mut rows = runs.iter().flat_map(|run| &run.idle);
                Some(rows.find(|row| row.contender == contender)?.share * 100.0)
            }
        }
    }

    /// Returns the name of the cell of the measurement.
    fn place(self) -> String {
        match self {
            Self::Time(work, placement, _) | Self::Cpu(work, placement, _) | Self::Allocations(work, placement) => {
                format!("{}, {placement}", plan::size(Size(work.size())))
            }
            Self::Rate(_, placement, _) => placement.to_string(),
            Self::Memory => format!("{} connections", plan::IDLE),
            Self::Idle => "unpinned".to_owned(),
        }
    }

    /// Formats a figure with its unit.
    fn show(self, figure: f64) -> String {
        match self {
            Self::Time(..) | Self::Cpu(..) => format!("x{figure:.2}"),
            Self::Rate(..) if figure >= 10.0 => format!("x{figure:.0}"),
            Self::Rate(..) => format!("x{figure:.2}"),
            // Counts below 0.005 are shown as 0.00: a buffer grows once in a while.
            Self::Allocations(..) => format!("{figure:.2}"),
            Self::Memory => format!("{figure:.0} B"),
            Self::Idle => format!("{figure:.2} %"),
        }
    }
}

impl Bound {
    fn holds(self, measured: f64) -> bool {
        // The comparison uses the value as shown, with two decimal places.
        let measured = (measured * 100.0).round() / 100.0;
        match self {
            Self::AtMost(most) => measured <= most,
            Self::AtLeast(least) => measured >= least,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::sample;

    #[test]
    fn a_bound_is_compared_with_the_rounded_value() {
        assert!(Bound::AtMost(0.25).holds(0.254) && !Bound::AtMost(0.25).holds(0.256));
        assert!(Bound::AtLeast(0.9).holds(0.9) && !Bound::AtLeast(0.9).holds(0.89));
        assert!(Bound::AtMost(0.0).holds(0.004) && !Bound::AtMost(0.0).holds(1.0));
    }

    #[test]
    fn a_ratio_comes_from_the_first_run_that_has_both_contenders() {
        let work = Work::RoundTrip { size: 64 };
        let time = Quantity::Time(work, Placement::TwoCores, "raw-stream");
        let rate = Quantity::Rate(work, Placement::TwoCores, "raw-stream");
        let mut alone = sample();
        alone.rows.retain(|row| row.contender != "raw-stream");
        assert_eq!(time.measured("parlour-unix", &[alone.clone()]), None);
        assert_eq!(time.measured("parlour-unix", &[alone, sample()]), Some(0.2));
        assert_eq!(rate.measured("parlour-unix", &[sample()]), Some(5.0));
    }

    #[test]
    fn a_target_that_was_not_measured_is_neither_met_nor_missed() {
        let mut document = Document::default();
        blocks(&mut document, &[]);
        let text = format!("{document:?}");
        assert!(text.contains("0 of") && text.contains("not measured") && !text.contains("\"missed\""));
    }

    #[test]
    fn every_target_names_an_existing_contender() {
        let contenders = crate::contenders();
        for target in all() {
            let contender = contenders.iter().find(|contender| contender.name() == target.contender);
            assert!(contender.is_some(), "{target:?}");
        }
    }
}
