//! The results of a run, as they are saved.

use parlour_measure::{Calls, Contender, Idle, Measured, Placement, Summary, Work};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// All results of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    /// The start of the run, in UTC.
    pub(crate) date: String,
    /// The load averages at the end of the run.
    pub(crate) load_after: String,
    pub(crate) seed: u64,
    pub(crate) rounds: u32,
    pub(crate) turn_ms: u64,
    /// The time that one reading of the clock takes.
    pub(crate) clock_ns: f64,
    pub(crate) contenders: Vec<About>,
    pub(crate) rows: Vec<Row>,
    pub(crate) memory: Vec<MemoryRow>,
    pub(crate) idle: Vec<IdleRow>,
    pub(crate) calls: Vec<CallsRow>,
    #[serde(default)]
    pub(crate) probes: Vec<ProbeRow>,
    pub(crate) skipped: Vec<Skipped>,
}

/// A description of a contender.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) advice: String,
}

/// The results of one contender in one cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) work: Work,
    pub(crate) placement: Placement,
    pub(crate) contender: String,
    pub(crate) summary: Summary,
    pub(crate) turns: Vec<TurnRow>,
}

/// The results of one turn, for each operation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TurnRow {
    pub(crate) round: u32,
    pub(crate) median_ns: f64,
    pub(crate) mean_ns: f64,
    /// The processor time of both processes.
    pub(crate) cpu_ns: f64,
    /// The allocations of both processes, if the program counts them.
    pub(crate) allocations: Option<f64>,
}

impl About {
    pub(crate) fn of(contender: &dyn Contender) -> Self {
        Self { name: contender.name().to_owned(), version: contender.version(), advice: contender.advice().to_owned() }
    }
}

impl TurnRow {
    pub(crate) fn of(round: u32, measured: &Measured) -> Self {
        let operations = measured.operations().max(1) as f64;
        let allocations = measured.client.allocations.zip(measured.server_allocations);
        Self {
            round,
            median_ns: measured.median_ns(),
            mean_ns: measured.client.elapsed_ns as f64 / operations,
            cpu_ns: measured.cpu_ns_each(),
            allocations: allocations.map(|(client, server)| (client + server) as f64 / operations),
        }
    }
}

/// The memory of a contender's idle connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MemoryRow {
    pub(crate) contender: String,
    pub(crate) idle: Idle,
}

/// The processor time of an idle connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct IdleRow {
    pub(crate) contender: String,
    /// The share of one processor.
    pub(crate) share: f64,
}

/// The system calls of both processes for one operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CallsRow {
    pub(crate) work: Work,
    pub(crate) contender: String,
    pub(crate) calls: Calls,
}

/// One figure of one contender, in each round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProbeRow {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) contender: String,
    pub(crate) unit: String,
    pub(crate) values: Vec<f64>,
}

/// A measurement that could not be made, and the reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Skipped {
    pub(crate) what: String,
    pub(crate) why: String,
}

impl Skipped {
    pub(crate) fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into() }
    }
}

impl ProbeRow {
    pub(crate) fn median(&self) -> f64 {
        parlour_measure::median(&self.values)
    }

    /// Returns the values with their rounds. A probe that failed takes no part in later rounds, so the first value is
    /// that of the first round, and so on.
    pub(crate) fn by_round(&self) -> Vec<(u32, f64)> {
        (1..).zip(self.values.iter().copied()).collect()
    }

    pub(crate) fn most(&self) -> f64 {
        self.values.iter().copied().fold(f64::NAN, f64::max)
    }
}

impl Results {
    /// Returns the row of a contender in a cell.
    pub(crate) fn row(&self, work: Work, placement: Placement, contender: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.work == work && row.placement == placement && row.contender == contender)
    }
}

impl Row {
    /// Returns a figure of each turn, with the round of the turn.
    pub(crate) fn each(&self, figure: impl Fn(&TurnRow) -> f64) -> Vec<(u32, f64)> {
        self.turns.iter().map(|turn| (turn.round, figure(turn))).collect()
    }

    /// Returns the median ratio to another row within rounds.
    pub(crate) fn ratio(&self, baseline: &Row, figure: impl Fn(&TurnRow) -> f64) -> f64 {
        parlour_measure::ratio(&self.each(&figure), &baseline.each(&figure))
    }

    /// Returns the median of a figure over the turns.
    pub(crate) fn median(&self, figure: impl Fn(&TurnRow) -> f64) -> f64 {
        let values: Vec<f64> = self.turns.iter().map(figure).collect();
        parlour_measure::median(&values)
    }
}

/// Returns invented results of a small run, for tests.
#[cfg(test)]
pub(crate) fn sample() -> Results {
    let row = |contender: &str, work: Work, us: f64| {
        let turn = |round, factor| TurnRow {
            round,
            median_ns: us * 1000.0 * factor,
            mean_ns: us * 1100.0 * factor,
            cpu_ns: us * 2000.0 * factor,
            allocations: Some(0.0),
        };
        let summary = Summary { best: us * 1000.0, median: us * 1000.0, p99: us * 3000.0, samples: 300 };
        let turns = vec![turn(1, 1.0), turn(2, 1.5), turn(3, 2.0)];
        Row { work, placement: Placement::TwoCores, contender: contender.to_owned(), summary, turns }
    };
    let works =
        [Work::RoundTrip { size: 64 }, Work::RoundTrip { size: 65536 }, Work::stream_of(64), Work::stream_of(65536)];
    let rows = works.iter().flat_map(|&work| [row("raw-stream", work, 10.0), row("parlour-unix", work, 2.0)]).collect();
    let about = |name: &str| About { name: name.to_owned(), version: "1".to_owned(), advice: "as it comes".to_owned() };
    Results {
        machine: Machine {
            processor: "An EPYC".to_owned(),
            processors: 2,
            memory_mib: 4096,
            kernel: "Linux 6.18".to_owned(),
            load: "0.10 0.20 0.30".to_owned(),
        },
        date: "2026-11-24T12:00:00Z".to_owned(),
        load_after: "0.20 0.20 0.30".to_owned(),
        seed: 7,
        rounds: 3,
        turn_ms: 100,
        clock_ns: 38.0,
        contenders: vec![about("raw-stream"), about("parlour-unix")],
        rows,
        memory: vec![MemoryRow {
            contender: "parlour-hub".to_owned(),
            idle: Idle { connections: 10_000, allocated_each: Some(228.0), resident_each: 230.0 },
        }],
        idle: vec![IdleRow { contender: "parlour-unix".to_owned(), share: 0.0 }],
        calls: vec![CallsRow {
            work: works[0],
            contender: "parlour-unix".to_owned(),
            calls: Calls([("sendmsg".to_owned(), 2.0), ("sched_yield".to_owned(), 3.5)].into()),
        }],
        probes: vec![ProbeRow {
            name: "kill-server".to_owned(),
            title: "kill -9 of the server".to_owned(),
            contender: "parlour-bridge".to_owned(),
            unit: "ms".to_owned(),
            values: vec![1.0, 3.0, 2.0],
        }],
        skipped: vec![
            Skipped::new("roundtrip/64/two-cores", "this machine has too few processors"),
            Skipped::new("calls", "no strace"),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_as_they_were_written() {
        let text = serde_json::to_string(&sample()).unwrap();
        assert_eq!(serde_json::from_str::<Results>(&text).unwrap(), sample());
    }
}
