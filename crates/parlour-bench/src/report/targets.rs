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
    /// Calls per second of several threads over one connection, as a ratio to those of one thread. The server answers
    /// after this many microseconds.
    Threads(u64, Placement),
    /// Processor time of both processes for an operation, as a ratio to that of another contender.
    Cpu(Work, Placement, &'static str),
    /// Allocations of both processes for an operation.
    Allocations(Work, Placement),
    /// Allocated memory of a server for each idle connection, in bytes.
    Memory,
    /// Processor time of an idle connection, in percent of a processor.
    Idle,
    /// Operations per second, in millions.
    Millions(Work, Placement),
    /// The median of the figure of this name.
    Probe(&'static str),
    /// The figure of this name, as a ratio to that of another contender.
    ProbeRatio(&'static str, &'static str),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// The contender for frames that are read in place.
const FRAMES: &str = "parlour-frames";

/// The ratio to a bare loop that waits in the same way with which a target is met, too.
const LOOP_MOST: f64 = 1.1;

/// The contender of the program `bridges`.
const BRIDGE: &str = "parlour-bridge";

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
    // `crates/parlour-python/bench` measures these, and has the same bounds.
    let python = "Python, blocking round trip, relative to `multiprocessing.connection`";
    round_trips(python, "python-parlour-shm", "python-multiprocessing", &APART, &[(64, 0.3), (MIB, 0.25)]);
    let python = "Python, round trip under asyncio, relative to its own streams with a length prefix";
    round_trips(python, "python-parlour-aio-shm", "python-asyncio", &APART, &[(64, 0.6)]);
    let python = "Python, a frame for four processes, relative to a `multiprocessing.Queue` for each";
    let frames = [(8 * MIB, 0.1)];
    round_trips(python, "python-parlour-frames", "python-queue-frames", &[Placement::Unpinned], &frames);

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
    let rates: [(&str, &str, Work, &str, f64); 5] = [
        (
            "64 B one way by `feed` and `flush`, relative to a bare stream with one write each",
            "parlour-unix",
            Work::stream_of(64),
            "raw-stream",
            60.0,
        ),
        (
            "64 B one way by `feed` and `flush`, relative to a bare stream with one write each",
            "parlour-packet",
            Work::stream_of(64),
            "raw-stream",
            45.0,
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
    for transport in transports {
        let what = "a round trip of a `Caller`, relative to send and recv over the same transport";
        let contender = calls_over(transport);
        for placement in APART {
            let quantity = Quantity::Time(round_trip, placement, transport);
            all.push(Target { what, contender, quantity, bound: Bound::AtMost(1.15) });
        }
        let what = "calls of four threads over one connection, relative to one thread";
        for placement in APART {
            for wait_us in [0, plan::WAIT_US] {
                let quantity = Quantity::Threads(wait_us, placement);
                all.push(Target { what, contender, quantity, bound: Bound::AtLeast(2.0) });
            }
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
    all.extend(of_bridges());
    all
}

/// Returns the targets of frames, batches and connections: the second round.
fn second_round() -> Vec<Target> {
    let mut all = Vec::new();
    let frames = [
        ("frames-64KiB-1", "frame-faults-64KiB-1"),
        ("frames-1MiB-1", "frame-faults-1MiB-1"),
        ("frames-8MiB-1", "frame-faults-8MiB-1"),
        ("frames-64KiB-4", "frame-faults-64KiB-4"),
        ("frames-1MiB-4", "frame-faults-1MiB-4"),
        ("frames-8MiB-4", "frame-faults-8MiB-4"),
    ];
    let mut add = |what, contender, quantity, bound| all.push(Target { what, contender, quantity, bound });
    for (time, _) in frames {
        let what = "a frame, filled and read in place, relative to a loaned sample of iceoryx2 with polling";
        add(what, FRAMES, Quantity::ProbeRatio(time, "iceoryx2-loaned"), Bound::AtMost(1.0));
    }
    let what = "processor time of a reader without frames: it sleeps in the kernel";
    add(what, FRAMES, Quantity::Probe("frame-idle"), Bound::AtMost(0.0));
    for (_, faults) in frames {
        let what = "page faults of all processes for a frame";
        add(what, FRAMES, Quantity::Probe(faults), Bound::AtMost(0.0));
    }
    let stream = Work::stream_of(64);
    let connect = Work::Connect { size: 64 };
    for placement in APART {
        let rate = |work| Quantity::Rate(work, placement, "raw-stream");
        let what = "64 B one way by `feed` and `recv_batch`, relative to a bare stream with one write each";
        add(what, "parlour-unix", rate(stream), Bound::AtLeast(60.0));
        add(what, "parlour-shm", rate(stream), Bound::AtLeast(100.0));
        let what = "connect through a `Connector`, verify, one round trip and close, relative to a bare stream";
        add(what, "parlour-unix-connector", rate(connect), Bound::AtLeast(0.7));
        let what = "connect, verify, one round trip and close, relative to a bare stream";
        add(what, "parlour-unix", rate(connect), Bound::AtLeast(0.6));
        let what = "connect, verify, one round trip and close, relative to parlour over `unix`";
        add(what, "parlour-shm", Quantity::Time(connect, placement, "parlour-unix"), Bound::AtMost(2.0));
        for transport in ["parlour-shm", "parlour-packet", "parlour-unix", "parlour-fifo"] {
            let what = "a round trip of a `Caller`, relative to send and recv over the same transport";
            let quantity = Quantity::Time(Work::RoundTrip { size: 64 }, placement, transport);
            add(what, calls_over(transport), quantity, Bound::AtMost(1.15));
        }
    }
    let what = "memory of an idle connection over `shm`: its rings, and both ends";
    add(what, "parlour-shm", Quantity::Probe("shm-memory"), Bound::AtMost(64.0));
    all
}

/// Returns the targets of the bridge between hosts.
fn of_bridges() -> Vec<Target> {
    let (relay, placement) = ("tcp-relay", Placement::Unpinned);
    let [short, long] = [64, MIB].map(Work::stream_of);
    let kill = Bound::AtMost(10.0);
    // A tenth more than the lease.
    let lease = Bound::AtMost(1.1);
    let targets: [(&'static str, Quantity, Bound); 11] = [
        (
            "round trip between two hosts, relative to a plain TCP relay",
            Quantity::Time(Work::RoundTrip { size: 64 }, placement, relay),
            Bound::AtMost(1.5),
        ),
        (
            "one way between two hosts, relative to a plain TCP relay",
            Quantity::Rate(long, placement, relay),
            Bound::AtLeast(0.8),
        ),
        (
            "64 B one way between two hosts, relative to a plain TCP relay",
            Quantity::Rate(short, placement, relay),
            Bound::AtLeast(0.5),
        ),
        ("64 B one way between two hosts", Quantity::Millions(short, placement), Bound::AtLeast(5.0)),
        ("kill -9 of the server, until the client of another host knows", Quantity::Probe("kill-server"), kill),
        ("kill -9 of the exporting bridge, until the client knows", Quantity::Probe("kill-exporter"), kill),
        ("kill -9 of the importing bridge, until the server knows", Quantity::Probe("kill-importer"), kill),
        ("the exporting bridge is stopped, until the client knows", Quantity::Probe("stop-exporter"), lease),
        ("the importing bridge is stopped, until the server knows", Quantity::Probe("stop-importer"), lease),
        ("the exporting host is cut off, until the client knows", Quantity::Probe("cut"), lease),
        ("resident memory of an idle conversation in a bridge", Quantity::Probe("memory"), Bound::AtMost(16.0)),
    ];
    let target = |(what, quantity, bound)| Target { what, contender: BRIDGE, quantity, bound };
    targets.map(target).to_vec()
}

/// Returns the contender for calls over the transport of a contender of the blocking API.
fn calls_over(blocking: &str) -> &'static str {
    match blocking {
        "parlour-shm" => "parlour-calls-shm",
        "parlour-packet" => "parlour-calls-packet",
        "parlour-unix" => "parlour-calls-unix",
        _ => "parlour-calls-fifo",
    }
}

/// Adds the sections about the targets.
pub(super) fn blocks(document: &mut Document, runs: &[Results]) {
    section(document, runs, "Targets", all());
    section(document, runs, "Second round", second_round());
}

fn section(document: &mut Document, runs: &[Results], title: &str, targets: Vec<Target>) {
    let header = ["quantity", "contender", "cell", "target", "measured", "of the bare loop", "verdict"];
    let mut table = Table::new(4, &header);
    let (mut met, mut measured_count, mut count) = (0, 0, 0);
    for Target { what, contender, quantity, bound } in targets {
        let measured = quantity.measured(contender, runs);
        let of_loop = quantity.of_loop(contender).and_then(|quantity| quantity.measured(contender, runs));
        let (verdict, mood) = match measured {
            None => ("not measured", Mood::Unknown),
            Some(measured) if bound.holds(measured) => ("met", Mood::Good),
            Some(_) if of_loop.is_some_and(|ratio| Bound::AtMost(LOOP_MOST).holds(ratio)) => {
                ("met, as the loop", Mood::Good)
            }
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
        let of_loop = of_loop.map_or_else(|| "-".to_owned(), |ratio| format!("x{ratio:.2}"));
        let cells = [what.to_owned(), contender.to_owned(), quantity.place(), limit, shown, of_loop];
        let cells = cells.into_iter().map(Cell::from).chain([Cell { text: verdict.to_owned(), mood }]);
        table.row(cells);
    }
    document.heading(2, title);
    document.text(format!(
        "The performance targets of parlour. **{met} of {count} are met**, {} are missed, {} were not measured in \
         these runs. Times and processor times are ratios of medians, rates are inverse ratios of median times, each \
         within a round. The price of a wake-up depends on the machine. A time of a round trip is therefore also \
         compared with that of a bare loop of the same system calls, which waits in the same way. The bridge is \
         compared with a relay with the same encryption and nothing else. A target is met if it meets its factor, or \
         takes at most {LOOP_MOST} of the time of that loop.",
        measured_count - met,
        count - measured_count
    ));
    document.table(table);
}

impl Quantity {
    /// Returns the comparison of times with a bare loop that does the same, if there is one: it waits as parlour does,
    /// or encrypts as the bridge does.
    fn of_loop(self, contender: &str) -> Option<Self> {
        let bare = match contender {
            "parlour-unix" => "raw-stream-spin",
            "parlour-packet" => "raw-packet-spin",
            "parlour-fifo" => "raw-fifo-spin",
            BRIDGE => "tls-relay",
            _ => return None,
        };
        match self {
            Self::Time(work @ Work::RoundTrip { .. }, placement, _) => Some(Self::Time(work, placement, bare)),
            Self::Rate(work, placement, _) if contender == BRIDGE => Some(Self::Time(work, placement, bare)),
            _ => None,
        }
    }

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
            Self::Threads(wait_us, placement) => {
                let rows = |run: &Results| {
                    let row = |threads| run.row(plan::calls(threads, wait_us), placement, contender).cloned();
                    row(plan::THREADS).zip(row(1))
                };
                let (many, one) = runs.iter().find_map(rows)?;
                Some(many.ratio(&one, |turn| turn.median_ns.recip())).filter(|ratio| ratio.is_finite())
            }
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
            Self::Millions(work, placement) => {
                let row = runs.iter().find_map(|run| run.row(work, placement, contender))?;
                Some(row.median(|turn| 1e3 / turn.median_ns))
            }
            Self::Probe(name) => {
                let mut rows = runs.iter().flat_map(|run| &run.probes);
                Some(rows.find(|row| row.contender == contender && row.name == name)?.median())
            }
            Self::ProbeRatio(name, baseline) => runs.iter().find_map(|run| {
                let values = |contender: &str| {
                    let row = run.probes.iter().find(|row| row.contender == contender && row.name == name)?;
                    Some(row.by_round())
                };
                let ratio = parlour_measure::ratio(&values(contender)?, &values(baseline)?);
                Some(ratio).filter(|ratio| ratio.is_finite())
            }),
        }
    }

    /// Returns the name of the cell of the measurement.
    fn place(self) -> String {
        match self {
            Self::Time(work, placement, _) | Self::Cpu(work, placement, _) | Self::Allocations(work, placement) => {
                format!("{}, {placement}", plan::size(Size(work.size())))
            }
            Self::Rate(_, placement, _) | Self::Threads(0, placement) => placement.to_string(),
            Self::Threads(wait_us, placement) => format!("answered after {wait_us} us, {placement}"),
            Self::Memory => format!("{} connections", plan::IDLE),
            Self::Millions(work, placement) => format!("{}, {placement}", plan::size(Size(work.size()))),
            Self::ProbeRatio(name, _) | Self::Probe(name) if name.starts_with("frame") => {
                match name.rsplit('-').collect::<Vec<_>>()[..] {
                    [readers, size, _, ..] => format!("{size}, readers: {readers}"),
                    _ => "unpinned".to_owned(),
                }
            }
            Self::Idle | Self::Probe(_) | Self::ProbeRatio(..) => "unpinned".to_owned(),
        }
    }

    /// Formats a figure with its unit.
    fn show(self, figure: f64) -> String {
        match self {
            Self::Time(..) | Self::Cpu(..) | Self::ProbeRatio(..) => format!("x{figure:.2}"),
            Self::Rate(..) if figure >= 10.0 => format!("x{figure:.0}"),
            Self::Rate(..) | Self::Threads(..) => format!("x{figure:.2}"),
            // Counts below 0.005 are shown as 0.00: a buffer grows once in a while.
            Self::Allocations(..) => format!("{figure:.2}"),
            Self::Memory => format!("{figure:.0} B"),
            Self::Idle => format!("{figure:.2} %"),
            Self::Millions(..) => format!("{figure:.2} M/s"),
            Self::Probe("frame-idle") => format!("{figure:.2} %"),
            Self::Probe(name) if name.starts_with("frame-faults") => format!("{figure:.2}"),
            Self::Probe("memory" | "shm-memory") => format!("{figure:.1} KiB"),
            Self::Probe(name) if name.starts_with("kill") => format!("{figure:.1} ms"),
            Self::Probe(_) => format!("{figure:.2} leases"),
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
    fn a_target_is_met_if_it_takes_the_time_of_the_bare_loop() {
        let mut run = sample();
        let mut slow: Vec<Row> = run.rows.clone();
        slow.retain(|row| row.contender == "raw-stream" && row.work == Work::RoundTrip { size: 64 });
        // As slow as the bare stream, which is four times the target.
        run.rows.retain(|row| row.contender != "parlour-unix");
        run.rows.extend(slow.iter().cloned().map(|row| Row { contender: "parlour-unix".to_owned(), ..row }));
        let verdict = |run: &Results| {
            let mut document = Document::default();
            blocks(&mut document, std::slice::from_ref(run));
            format!("{document:?}").contains("met, as the loop")
        };
        assert!(!verdict(&run));
        run.rows.extend(slow.into_iter().map(|row| Row { contender: "raw-stream-spin".to_owned(), ..row }));
        assert!(verdict(&run));
    }

    #[test]
    fn a_bridge_is_compared_with_a_relay_that_encrypts() {
        let mut run = sample();
        let work = Work::stream_of(MIB);
        let mut row = run.rows[0].clone();
        (row.work, row.placement) = (work, Placement::Unpinned);
        let slowed = |contender: &str, factor: f64| {
            let mut row = Row { contender: contender.to_owned(), ..row.clone() };
            row.turns.iter_mut().for_each(|turn| turn.median_ns *= factor);
            row
        };
        run.rows = vec![slowed("tcp-relay", 1.0), slowed("tls-relay", 2.0), slowed(BRIDGE, 2.0)];
        let quantity = Quantity::Rate(work, Placement::Unpinned, "tcp-relay");
        assert_eq!(quantity.measured(BRIDGE, &[run.clone()]), Some(0.5));
        assert_eq!(quantity.of_loop(BRIDGE).and_then(|time| time.measured(BRIDGE, &[run])), Some(1.0));
    }

    #[test]
    fn frames_are_compared_within_rounds() {
        let mut run = sample();
        let row = |contender: &str, values: &[f64]| crate::results::ProbeRow {
            name: "frames-1MiB-4".to_owned(),
            title: String::new(),
            contender: contender.to_owned(),
            unit: "us".to_owned(),
            values: values.to_vec(),
        };
        run.probes = vec![row(FRAMES, &[1.0, 20.0, 3.0]), row("iceoryx2-loaned", &[2.0, 40.0, 4.0])];
        let ratio = Quantity::ProbeRatio("frames-1MiB-4", "iceoryx2-loaned");
        assert_eq!(ratio.measured(FRAMES, &[run]), Some(0.5));
        assert_eq!(ratio.place(), "1MiB, readers: 4");
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
        // The benchmark of the package for Python has its own.
        for target in all().iter().chain(&second_round()).filter(|target| !target.contender.starts_with("python-")) {
            let contender = contenders.iter().find(|contender| contender.name() == target.contender);
            assert!(contender.is_some() || [BRIDGE, FRAMES].contains(&target.contender), "{target:?}");
        }
    }
}
