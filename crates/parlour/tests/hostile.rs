//! Tests of hostile peers and of faults: each test carries out one attack and checks that the promises of the threat
//! model hold. [`rows`] maps each attack to its tests.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[path = "hostile/abort.rs"]
mod abort;
#[path = "hostile/broken_pipe.rs"]
mod broken_pipe;
#[path = "support/by_hand/mod.rs"]
mod by_hand;
#[path = "support/call_bytes.rs"]
mod call_bytes;
#[path = "hostile/calls.rs"]
mod calls;
#[path = "hostile/chaos.rs"]
mod chaos;
#[path = "hostile/connector.rs"]
mod connector;
#[path = "hostile/disk.rs"]
mod disk;
#[path = "hostile/faults.rs"]
mod faults;
#[path = "hostile/fifo_crowd.rs"]
mod fifo_crowd;
#[path = "hostile/fifo_handshake.rs"]
mod fifo_handshake;
#[path = "hostile/flood.rs"]
mod flood;
#[path = "hostile/flood_hand.rs"]
mod flood_hand;
#[path = "hostile/forged.rs"]
mod forged;
#[path = "hostile/forked_connections.rs"]
mod forked_connections;
#[path = "hostile/forked_names.rs"]
mod forked_names;
#[path = "hostile/forked_threads.rs"]
mod forked_threads;
#[path = "support/forking.rs"]
mod forking;
#[path = "hostile/frames.rs"]
mod frames;
#[path = "hostile/full.rs"]
mod full;
#[path = "hostile/hand_over.rs"]
mod hand_over;
#[path = "hostile/leaks.rs"]
mod leaks;
#[path = "hostile/listening.rs"]
mod listening;
#[path = "hostile/lock.rs"]
mod lock;
#[path = "hostile/lookalikes.rs"]
mod lookalikes;
#[path = "hostile/memory.rs"]
mod memory;
#[path = "hostile/namespaces.rs"]
mod namespaces;
#[path = "hostile/origin.rs"]
mod origin;
#[path = "hostile/pieces.rs"]
mod pieces;
#[path = "hostile/places.rs"]
mod places;
#[path = "hostile/plausible.rs"]
mod plausible;
#[path = "hostile/quotas.rs"]
mod quotas;
#[path = "hostile/race.rs"]
mod race;
#[path = "hostile/refusals.rs"]
mod refusals;
#[path = "hostile/requests.rs"]
mod requests;
#[path = "hostile/ring.rs"]
mod ring;
#[path = "hostile/rows.rs"]
mod rows;
#[path = "hostile/scarce.rs"]
mod scarce;
#[path = "hostile/server_death.rs"]
mod server_death;
#[path = "hostile/signals.rs"]
mod signals;
#[path = "hostile/stalled.rs"]
mod stalled;
#[path = "hostile/stats.rs"]
mod stats;
#[path = "hostile/steps.rs"]
mod steps;
#[path = "hostile/stopped.rs"]
mod stopped;
#[path = "hostile/storm.rs"]
mod storm;
mod support;
#[path = "hostile/tap.rs"]
mod tap;
#[path = "hostile/unix_crowd.rs"]
mod unix_crowd;
#[path = "hostile/users.rs"]
mod users;

use std::process::ExitCode;

use by_hand::generation::{GENERATION, HOLDER, ONE_AT_A_TIME, SUCCESSOR, WAITING};
use by_hand::roles::{REACH, SERVE};
use by_hand::scarce::SCARCE;
use by_hand::steps::{CLIENT, SERVER};
use support::{Role, TrialList};

const ROLES: &[Role] = &[
    SERVE,
    REACH,
    SCARCE,
    SERVER,
    CLIENT,
    GENERATION,
    HOLDER,
    SUCCESSOR,
    ONE_AT_A_TIME,
    WAITING,
    broken_pipe::GONE_PEER,
    faults::BLOCKS,
    faults::FAULTY,
    frames::HEADER_ALONE,
    forked_connections::FEED,
    forked_connections::PER_CLIENT,
    forked_names::PARENT,
    forked_threads::FORK_WHILE,
    lookalikes::LOOKALIKES,
    memory::NO_FILES,
    memory::SMALL_FILES,
    origin::REACH_BOUND,
    origin::SERVE_ORIGINS,
    race::START,
    users::TRY_OPEN,
    signals::CLIENT,
    signals::SERVER,
    chaos::CHATTER,
    scarce::SCARCE_HUB,
    stats::COUNT_APART,
    stats::FEW_BYTES,
    stats::LOOK_AT_STATS,
    stats::SERVE_HIDDEN,
    tap::SEND_AND_DIE,
    tap::TAP,
    tap::TAP_SCARCELY,
    quotas::HOARD,
    namespaces::TELL_UIDS,
];

const FILES: &[TrialList] = &[
    abort::trials,
    broken_pipe::trials,
    faults::trials,
    fifo_crowd::trials,
    fifo_handshake::trials,
    flood::trials,
    forged::trials,
    forked_connections::trials,
    forked_names::trials,
    forked_threads::trials,
    hand_over::trials,
    leaks::trials,
    listening::trials,
    lock::trials,
    lookalikes::trials,
    memory::trials,
    origin::trials,
    pieces::trials,
    places::trials,
    race::trials,
    refusals::trials,
    requests::trials,
    ring::trials,
    server_death::trials,
    stalled::trials,
    stats::trials,
    tap::trials,
    steps::trials,
    unix_crowd::trials,
    users::trials,
    signals::trials,
    storm::trials,
    calls::trials,
    chaos::trials,
    connector::trials,
    scarce::trials,
    disk::trials,
    full::trials,
    frames::trials,
    namespaces::trials,
    quotas::trials,
    stopped::trials,
    rows::trials,
];

fn main() -> ExitCode {
    support::run(ROLES, FILES)
}
