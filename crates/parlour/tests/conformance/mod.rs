//! The contract of every transport: one scenario per function, one concept per file.
//!
//! A scenario gets its transport and its API as a parameter. Where transports may differ, the scenario checks the
//! capabilities of the connection. Where a scenario does not apply to an API, the declaration in its file gives the
//! reason.

mod accept_threads;
mod allow;
#[allow(dead_code, reason = "each test executable runs one API")]
pub mod api;
mod choice;
mod deadlines;
mod death;
mod descriptors;
mod disconnect;
mod echo;
mod empty;
mod feed;
mod full;
mod half_close;
mod identity;
mod iterators;
mod large;
mod lengths;
mod limit;
mod limits;
mod link;
mod long_names;
mod many_clients;
mod memory;
mod order;
mod poll_loops;
mod refusals;
mod server_close;
mod shared;
mod shutdown;
mod split;
mod stats;
mod timeouts;
mod truncated;
mod vectored;
mod waiting;

use crate::support::{Role, TrialList};

/// The roles of the child processes of the scenarios.
pub const ROLES: &[Role] = &[many_clients::CHATTER, shared::FAN_OUT];

/// All scenarios. They run with the API of this test executable (`crate::API`).
pub const FILES: &[TrialList] = &[
    echo::trials,
    order::trials,
    lengths::trials,
    limit::trials,
    empty::trials,
    full::trials,
    large::trials,
    vectored::trials,
    feed::trials,
    half_close::trials,
    disconnect::trials,
    split::trials,
    truncated::trials,
    death::trials,
    timeouts::trials,
    deadlines::trials,
    iterators::trials,
    poll_loops::trials,
    many_clients::trials,
    accept_threads::trials,
    shutdown::trials,
    server_close::trials,
    waiting::trials,
    choice::trials,
    limits::trials,
    stats::trials,
    allow::trials,
    refusals::trials,
    memory::trials,
    identity::trials,
    long_names::trials,
    descriptors::trials,
    shared::trials,
];

/// The core of the contract: connecting, identity, messages in both directions, half-close, descriptors, many clients
/// and the end. It also runs in unusual surroundings.
#[allow(dead_code, reason = "one test executable uses it")]
pub const CORE: &[TrialList] = &[
    echo::trials,
    identity::trials,
    half_close::trials,
    descriptors::trials,
    many_clients::trials,
    death::trials,
    server_close::trials,
];

const ENDS: &str = "a hub closes its connections with itself, and a failed connection in both directions";
const NO_FDS: &str = "a hub receives descriptors but does not send them";
const SHUT: &str = "a hub that was shut down reports no further events";
