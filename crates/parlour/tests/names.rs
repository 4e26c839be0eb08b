//! Names: at most one live server has a name, no process can steal it, the name of a dead server is free immediately,
//! and other users cannot tamper with its directory.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[path = "names/bases.rs"]
mod bases;
#[path = "support/by_hand/mod.rs"]
mod by_hand;
#[path = "names/clean.rs"]
mod clean;
#[path = "names/connector.rs"]
mod connector;
#[path = "names/holder.rs"]
mod holder;
#[path = "names/lost.rs"]
mod lost;
#[path = "names/modes.rs"]
mod modes;
#[path = "names/stats.rs"]
mod stats;
mod support;
#[path = "names/waiting.rs"]
mod waiting;
#[path = "names/watch.rs"]
mod watch;
#[path = "names/watches.rs"]
mod watches;
#[path = "names/yields.rs"]
mod yields;

use std::process::ExitCode;

use by_hand::roles::{REACH, SERVE};

fn main() -> ExitCode {
    support::run(
        &[SERVE, REACH, bases::LOOK],
        &[
            bases::trials,
            clean::trials,
            connector::trials,
            holder::trials,
            lost::trials,
            modes::trials,
            stats::trials,
            waiting::trials,
            watch::trials,
            watches::trials,
            yields::trials,
        ],
    )
}
