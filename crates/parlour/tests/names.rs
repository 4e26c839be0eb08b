//! Names: one live server has one, nobody can steal it, a dead one is free at once, and the directory that it lives in
//! is one that nobody else can interfere with.
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
#[path = "names/holder.rs"]
mod holder;
#[path = "names/lost.rs"]
mod lost;
#[path = "names/modes.rs"]
mod modes;
#[path = "names/places.rs"]
mod places;
#[path = "names/race.rs"]
mod race;
#[path = "names/steps.rs"]
mod steps;
mod support;
#[path = "names/users.rs"]
mod users;

use std::process::ExitCode;

use by_hand::roles::{REACH, SERVE};
use by_hand::steps::SERVER;

fn main() -> ExitCode {
    support::run_with(&[SERVE, REACH, SERVER, bases::LOOK, race::START, users::TRY_OPEN], || {
        let trials = [
            bases::trials(),
            clean::trials(),
            holder::trials(),
            lost::trials(),
            modes::trials(),
            places::trials(),
            race::trials(),
            steps::trials(),
            users::trials(),
        ];
        trials.into_iter().flatten().collect()
    })
}
