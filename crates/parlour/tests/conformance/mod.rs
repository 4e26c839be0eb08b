//! The contract of every transport: one scenario per function, one concept per file.
//!
//! A scenario gets its transport and its API as a parameter. Where transports may differ, the scenario checks the
//! capabilities of the connection. Where a scenario does not apply to an API, the declaration in its file gives the
//! reason.

mod abort;
mod accept_threads;
mod allow;
#[allow(dead_code, reason = "each test executable runs one API")]
pub mod api;
mod batches;
mod calls;
mod choice;
mod closed;
mod connector;
mod deadlines;
mod death;
mod descriptors;
mod disconnect;
mod echo;
mod empty;
mod feed;
mod full;
mod half_close;
mod hand_over;
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
mod origin;
mod poll_loops;
mod refusals;
mod server_close;
mod sessions;
mod shared;
mod shutdown;
mod split;
mod stats;
mod tap;
mod timeouts;
mod truncated;
mod vectored;
mod waiting;
mod yields;

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
    batches::trials,
    half_close::trials,
    disconnect::trials,
    split::trials,
    abort::trials,
    closed::trials,
    truncated::trials,
    death::trials,
    timeouts::trials,
    deadlines::trials,
    iterators::trials,
    poll_loops::trials,
    many_clients::trials,
    accept_threads::trials,
    connector::trials,
    shutdown::trials,
    server_close::trials,
    waiting::trials,
    choice::trials,
    limits::trials,
    stats::trials,
    tap::trials,
    allow::trials,
    refusals::trials,
    memory::trials,
    identity::trials,
    long_names::trials,
    descriptors::trials,
    shared::trials,
    calls::trials,
    sessions::trials,
    hand_over::trials,
    origin::trials,
    yields::trials,
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
    connector::trials,
];

/// The scenarios that need nothing but both ends of a connection. They also run with the two ends of a pair.
#[allow(dead_code, reason = "one test executable uses it")]
pub const ENDS_ONLY: &[TrialList] = &[
    order::trials,
    lengths::trials,
    limit::trials,
    empty::trials,
    full::trials,
    large::trials,
    vectored::trials,
    feed::trials,
    batches::trials,
    half_close::trials,
    disconnect::trials,
    split::trials,
    abort::trials,
    closed::trials,
    timeouts::trials,
    deadlines::trials,
    iterators::trials,
    poll_loops::trials,
    descriptors::trials,
    shared::trials,
];

const NO_SERVER: &str = "a pair has no server";
const ONE_LIMIT: &str = "both ends of a pair have the same limits";
const ENDS: &str = "a hub closes its connections with itself, and a failed connection in both directions";
const NO_HALF: &str = "a hub aborts its connections in both directions";
const EVENTS: &str = "a hub reports the end of a client as an event";
const NO_FDS: &str = "a hub receives descriptors and sends blocks, but sends no other descriptors";
const HUB_KEEPS_BLOCKS: &str = "a hub keeps the blocks that a full channel does not take, up to blocks_max";
const CALLS_ON_A_HUB: &str = "the blocking server of calls is a hub, and is tested with the blocking API";
const LEAVES_LATER: &str = "a hub that has handed its name over goes on until its last client has left";
const SHUT: &str = "a hub that was shut down reports no further events";
