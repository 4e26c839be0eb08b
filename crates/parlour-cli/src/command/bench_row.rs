//! The figures of `parlour bench`.

use serde::Serialize;

/// The baseline of the ratios: a bare blocking `SOCK_STREAM` socket with one system call for each message.
pub(super) const BASELINE: &str = "raw-stream";

/// The figures of one contender at one kind of work.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) contender: &'static str,
    /// `roundtrip` or `stream`.
    pub(super) work: &'static str,
    pub(super) bytes: usize,
    pub(super) best_us: f64,
    pub(super) median_us: f64,
    pub(super) p99_us: f64,
    /// The median over all rounds of the ratio of the times within a round.
    pub(super) time_to_raw_stream: f64,
}
