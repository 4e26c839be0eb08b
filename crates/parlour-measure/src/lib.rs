//! How parlour is measured, against the bare system calls and against others.
//!
//! - **Two processes.** A [`Contender`] has a server's and a client's side. Each runs in a process of its own, the
//!   executable itself in another role ([`take`]), fresh for each [`Turn`], so that no contender profits or suffers
//!   from what was in a process before it.
//! - **Warm-up.** The client connects, checks that its message comes back unchanged, and goes on for at least 10 ms and
//!   three operations. Then both processes' counters are read, and it measures for the time of the turn.
//! - **A sample** is one round trip, one batch of messages one way with the answer to its last one, one connection with
//!   one round trip, or one exchange with every client of a crowd. The end of one is the beginning of the next, so that
//!   each has one look at the clock in it (`CLOCK_MONOTONIC` through the vDSO; [`clock_cost_ns`] says what that costs
//!   here, and it is not subtracted).
//! - **Rounds.** In each round every contender has one turn in each cell (a kind of work with a size and a placement),
//!   in random order, from a seed that repeats it ([`Chance`]).
//! - **Ratios within a round.** Absolute figures change by a factor of several with what else the machine does, from
//!   one minute to the next. A contender's median is divided by that of the baseline in the same round and cell, a
//!   fraction of a second apart, and the ratio is the median of these ([`ratio`]).
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
pub use count::{Allocator, allocator, resident_bytes};
pub use outcome::{Amount, Outcome, Turn};
pub use placement::Placement;
pub use raw::raw_stream_client;
pub use role::take;
pub use shuffle::Chance;
pub use stats::{Summary, clock_cost_ns, median, ratio};
pub use turn::{Idle, Measured, Runner};
pub use work::{DONE, Size, Work};
