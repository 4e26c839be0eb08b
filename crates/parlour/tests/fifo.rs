//! The FIFO transport: the handshake step by step from both sides, and what comes of it when a side stops, dies or lies
//! at any of them.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[path = "fifo/broken_pipe.rs"]
mod broken_pipe;
#[path = "support/by_hand/mod.rs"]
mod by_hand;
#[path = "fifo/client_files.rs"]
mod client_files;
#[path = "fifo/crowd.rs"]
mod crowd;
#[path = "fifo/handshake.rs"]
mod handshake;
#[path = "fifo/idle.rs"]
mod idle;
#[path = "fifo/peers.rs"]
mod peers;
#[path = "fifo/requests.rs"]
mod requests;
#[path = "fifo/server_death.rs"]
mod server_death;
#[path = "fifo/stalled.rs"]
mod stalled;
mod support;
#[path = "fifo/sweep.rs"]
mod sweep;

use std::process::ExitCode;

use by_hand::roles::{REACH, SERVE};
use by_hand::scarce::SCARCE;
use by_hand::steps;

fn main() -> ExitCode {
    support::run_with(&[SERVE, REACH, SCARCE, steps::CLIENT, broken_pipe::GONE_PEER, peers::CLAIM, sweep::STEP], || {
        let trials = [
            // The one that takes ten seconds comes first.
            sweep::trials(),
            vec![steps::client_trial(parlour::Transport::Fifo)],
            broken_pipe::trials(),
            client_files::trials(),
            crowd::trials(),
            handshake::trials(),
            idle::trials(),
            peers::trials(),
            requests::trials(),
            server_death::trials(),
            stalled::trials(),
        ];
        trials.into_iter().flatten().collect()
    })
}
