//! The plan of a run: the cells and the contenders in each.

use parlour_measure::{Contender, Placement, Size, Work};

use crate::args::{Args, Kind};
use crate::probe::Probe;

/// One kind of work with one size and one placement, and the contenders that take part.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cell {
    pub(crate) work: Work,
    pub(crate) placement: Placement,
    pub(crate) contenders: Vec<String>,
}

const SIZES: [usize; 5] = [64, 4 << 10, 64 << 10, 1 << 20, 16 << 20];
const QUICK_SIZES: [usize; 2] = [64, 64 << 10];

/// The number of clients of a crowd.
pub(crate) const CROWD: usize = 1_000;

/// The number of threads that share a connection.
pub(crate) const THREADS: usize = 4;

/// The time that the server of waiting calls waits, in microseconds.
pub(crate) const WAIT_US: u64 = 100;

/// Returns the work of calls of this many threads over one connection.
pub(crate) fn calls(threads: usize, wait_us: u64) -> Work {
    Work::Calls { size: 64, threads, wait_us }
}

/// The number of idle connections of a memory measurement.
pub(crate) const IDLE: usize = 10_000;

/// Returns the cells that the arguments select, without cells that have no contender.
pub(crate) fn cells(args: &Args, contenders: &[Box<dyn Contender>]) -> Vec<Cell> {
    let default: &[usize] = if args.quick { &QUICK_SIZES } else { &SIZES };
    let sizes: Vec<usize> =
        if args.size.is_empty() { default.to_vec() } else { args.size.iter().map(|size| size.0).collect() };
    let mut works = Vec::new();
    if args.wants(Kind::Roundtrip) {
        works.extend(sizes.iter().map(|&size| Work::RoundTrip { size }));
    }
    if args.wants(Kind::Stream) {
        works.extend(sizes.iter().map(|&size| Work::stream_of(size)));
    }
    if args.wants(Kind::Connect) {
        works.push(Work::Connect { size: 64 });
    }
    if args.wants(Kind::Crowd) {
        works.push(Work::Crowd { size: 64, clients: CROWD });
    }
    if args.wants(Kind::Threads) {
        works.extend([0, WAIT_US].iter().flat_map(|&wait_us| [1, THREADS].map(|threads| calls(threads, wait_us))));
    }
    let placements = if args.placement.is_empty() { &Placement::ALL[..] } else { &args.placement };
    let cells = works.into_iter().flat_map(|work| placements.iter().map(move |&placement| (work, placement)));
    let cell = |(work, placement)| {
        let is_in = |contender: &dyn Contender| {
            let name = contender.name();
            contender.supports(work)
                && args.wants_contender(name)
                && args.filter.as_ref().is_none_or(|text| label(work, placement, name).contains(text))
        };
        let all = contenders.iter().filter(|contender| is_in(&***contender));
        let contenders = all.map(|contender| contender.name().to_owned()).collect();
        Cell { work, placement, contenders }
    };
    cells.map(cell).filter(|cell: &Cell| !cell.contenders.is_empty()).collect()
}

/// A measurement that is not repeated in rounds because it does not depend on time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Count {
    /// Memory of a server with this many idle connections.
    Memory(usize),
    /// Processor time of an idle connection.
    Idle,
    /// System calls for each operation of this work, from the calls that this many additional samples take.
    Calls(Work, u64),
}

/// Returns the counts that the arguments select, each with a contender.
pub(crate) fn counts(args: &Args, contenders: &[Box<dyn Contender>]) -> Vec<(Count, String)> {
    let mut counts = Vec::new();
    if args.wants(Kind::Calls) {
        counts.extend([64, 64 << 10].map(|size| Count::Calls(Work::RoundTrip { size }, 200)));
        counts.push(Count::Calls(Work::Stream { size: 64, batch: 2048 }, 2));
        counts.push(Count::Calls(Work::Connect { size: 64 }, 50));
    }
    if args.wants(Kind::Idle) {
        counts.push(Count::Idle);
    }
    if args.wants(Kind::Memory) {
        counts.push(Count::Memory(idle_connections(args)));
    }
    let with = |count: Count| {
        let wanted = move |contender: &dyn Contender| {
            let name = contender.name();
            contender.supports(count.work())
                && args.wants_contender(name)
                && args.filter.as_ref().is_none_or(|text| format!("{}/{name}", count.label()).contains(text))
        };
        let all = contenders.iter().filter(move |contender| wanted(&***contender));
        all.map(move |contender| (count, contender.name().to_owned()))
    };
    counts.into_iter().flat_map(with).collect()
}

/// Returns the probes that the arguments select.
pub(crate) fn probes<'a>(args: &Args, probes: &'a [Box<dyn Probe + 'a>]) -> Vec<&'a dyn Probe> {
    let is_wanted = |probe: &&dyn Probe| {
        args.wants_contender(probe.contender())
            && args.filter.as_ref().is_none_or(|text| probe_label(*probe).contains(text))
    };
    let all = probes.iter().map(|probe| &**probe).filter(|_| args.wants(Kind::Probes));
    all.filter(is_wanted).collect()
}

/// Returns the name of a probe: `probes/kill-server/tcp-relay`.
pub(crate) fn probe_label(probe: &dyn Probe) -> String {
    format!("probes/{}/{}", probe.name(), probe.contender())
}

impl Count {
    fn work(self) -> Work {
        match self {
            Self::Memory(clients) => Work::Crowd { size: 64, clients },
            Self::Idle => Work::RoundTrip { size: 64 },
            Self::Calls(work, _) => work,
        }
    }

    pub(crate) fn label(self) -> String {
        match self {
            Self::Memory(_) => "memory".to_owned(),
            Self::Idle => "idle".to_owned(),
            Self::Calls(work, _) => format!("calls/{work}"),
        }
    }
}

fn idle_connections(args: &Args) -> usize {
    if args.quick { IDLE / 10 } else { IDLE }
}

/// Returns the name of a contender in a cell: `roundtrip/64/two-cores/raw-stream`.
pub(crate) fn label(work: Work, placement: Placement, contender: &str) -> String {
    format!("{work}/{placement}/{contender}")
}

/// Returns the name of a kind of work in tables.
pub(crate) fn title(work: Work) -> String {
    let size = size(Size(work.size()));
    match work {
        Work::RoundTrip { .. } => format!("round trip, {size}"),
        Work::Stream { .. } => format!("one way, {size}"),
        Work::Connect { .. } => format!("connect, one round trip of {size}, close"),
        Work::Crowd { clients, .. } => format!("{clients} clients in ping-pong, {size}"),
        Work::Calls { threads, wait_us, .. } => {
            let threads = if threads == 1 { "one thread".to_owned() } else { format!("{threads} threads") };
            let wait = if wait_us == 0 { String::new() } else { format!(", answered after {wait_us} us") };
            format!("calls of {threads} over one connection, {size}{wait}")
        }
    }
}

/// Returns a length with its unit, as shown in tables: `64 B`, `4 KiB`.
pub(crate) fn size(size: Size) -> String {
    let text = size.to_string();
    match text.find(|c: char| !c.is_ascii_digit()) {
        Some(unit) => format!("{} {}", &text[..unit], &text[unit..]),
        None => format!("{text} B"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn plan(line: &str) -> Vec<Cell> {
        let args = Args::try_parse_from(std::iter::once("bench").chain(line.split_whitespace())).unwrap();
        cells(&args, &parlour_measure::contenders())
    }

    #[test]
    fn a_cell_has_the_contenders_that_support_its_work() {
        let crowd = plan("--only crowd --placement two-cores");
        assert_eq!(crowd.len(), 1);
        assert_eq!(crowd[0].contenders, ["raw-epoll", "parlour-hub"]);
        assert!(plan("").len() > plan("--quick").len());
    }

    #[test]
    fn a_filter_keeps_the_cells_whose_names_contain_it() {
        let cells = plan("--filter roundtrip/64/two-cores/parlour-unix");
        assert_eq!((cells.len(), &cells[0].contenders[..]), (1, &["parlour-unix".to_owned()][..]));
        assert!(plan("--filter nothing-like-it").is_empty());
    }
}
