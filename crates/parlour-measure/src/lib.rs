//! Measurement of parlour, against the bare system calls and against other libraries.
//!
//! - **Two processes.** A [`Contender`] has a server and a client. Each runs in a process of its own, which is the same
//!   executable in another role ([`take`]). Both processes are started anew for each [`Turn`], so that no contender
//!   gains or loses from earlier activity in a process.
//! - **Warm-up.** The client connects, checks that its message comes back unchanged, and continues for at least 10 ms
//!   and three operations. Then the counters of both processes are read, and the client measures for the time of the
//!   turn.
//! - **A sample** is one round trip, one batch of messages one way with the answer to the last of them, one connection
//!   with one round trip, or one exchange with every client of a crowd. The end of a sample is the beginning of the
//!   next, so each sample contains one reading of the clock (`CLOCK_MONOTONIC` through the vDSO). [`clock_cost_ns`]
//!   measures the cost of a reading, which is not subtracted.
//! - **Rounds.** In each round every contender has one turn in each cell (a kind of work with a size and a placement).
//!   The order is random, and its seed repeats it ([`Chance`]).
//! - **Ratios within a round.** Absolute figures change by a factor of several from one minute to the next, with the
//!   other load of the machine. A contender's median is divided by the median of the baseline in the same round and
//!   cell, measured within a fraction of a second. The ratio is the median of these quotients ([`ratio`]).
//! - **Percentiles** are those of all samples of all rounds together ([`Summary`]), from a histogram that is exact to
//!   0.1 %.

mod calls;
mod child;
mod client;
mod contender;
mod contenders;
mod count;
mod drive;
pub mod ours;
mod outcome;
mod placement;
mod raw;
mod role;
mod shuffle;
mod stats;
mod turn;
mod work;

pub use calls::{Calls, why_calls_cannot_be_counted};
pub use client::Client;
pub use contender::{Contender, Ready};
pub use contenders::contenders;
pub use count::{Allocator, allocator, cpu_ns, page_faults, resident_bytes, resident_bytes_of};
pub use outcome::{Amount, Outcome, Turn};
pub use placement::Placement;
pub use raw::raw_stream_client;
pub use role::take;
pub use shuffle::Chance;
pub use stats::{Summary, clock_cost_ns, median, ratio};
pub use turn::{Idle, Measured, Runner};
pub use work::{DONE, Size, Work};
