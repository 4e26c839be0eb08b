//! What a run has found, as it is saved.

use parlour_measure::{Calls, Contender, Idle, Measured, Placement, Summary, Work};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// All of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    /// When it began, in UTC.
    pub(crate) date: String,
    /// The load averages when it ended.
    pub(crate) load_after: String,
    pub(crate) seed: u64,
    pub(crate) rounds: u32,
    pub(crate) turn_ms: u64,
    /// What one look at the clock costs.
    pub(crate) clock_ns: f64,
    pub(crate) contenders: Vec<About>,
    pub(crate) rows: Vec<Row>,
    pub(crate) memory: Vec<MemoryRow>,
    pub(crate) idle: Vec<IdleRow>,
    pub(crate) calls: Vec<CallsRow>,
    pub(crate) skipped: Vec<Skipped>,
}

/// Who a contender is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) advice: String,
}

/// One contender in one cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) work: Work,
    pub(crate) placement: Placement,
    pub(crate) contender: String,
    pub(crate) summary: Summary,
    pub(crate) turns: Vec<TurnRow>,
}

/// One turn: figures for each operation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TurnRow {
    pub(crate) round: u32,
    pub(crate) median_ns: f64,
    pub(crate) mean_ns: f64,
    /// Of both processes.
    pub(crate) cpu_ns: f64,
    /// Of both processes, if they are counted.
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
    /// Of one processor.
    pub(crate) share: f64,
}

/// The system calls of both processes for one operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CallsRow {
    pub(crate) work: Work,
    pub(crate) contender: String,
    pub(crate) calls: Calls,
}

/// What could not be measured.
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

impl Results {
    /// A contender's row in the cell.
    pub(crate) fn row(&self, work: Work, placement: Placement, contender: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.work == work && row.placement == placement && row.contender == contender)
    }
}

impl Row {
    /// A figure of each turn, with its round.
    pub(crate) fn each(&self, figure: impl Fn(&TurnRow) -> f64) -> Vec<(u32, f64)> {
        self.turns.iter().map(|turn| (turn.round, figure(turn))).collect()
    }

    /// The ratio to another row in the same rounds.
    pub(crate) fn ratio(&self, baseline: &Row, figure: impl Fn(&TurnRow) -> f64) -> f64 {
        parlour_measure::ratio(&self.each(&figure), &baseline.each(&figure))
    }

    /// The median over the turns.
    pub(crate) fn median(&self, figure: impl Fn(&TurnRow) -> f64) -> f64 {
        let values: Vec<f64> = self.turns.iter().map(figure).collect();
        parlour_measure::median(&values)
    }
}
