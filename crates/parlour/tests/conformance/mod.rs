//! The contract that every transport fulfils, one scenario per function, one concept per file.
//!
//! A scenario knows its transport and its API only as a parameter, and asks the connection's capabilities where
//! transports may differ. Where it is not about an API, the declaration of its file says why.

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
mod order;
mod poll_loops;
mod server_close;
mod shared;
mod shutdown;
mod split;
mod stats;
mod timeouts;
mod truncated;
mod vectored;
mod waiting;

use crate::support::{File, Role};

/// The roles of the children of scenarios.
pub const ROLES: &[Role] = &[many_clients::CHATTER, shared::FAN_OUT];

/// Every scenario, with the API that this executable is for (`crate::WAY`).
pub const FILES: &[File] = &[
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
    identity::trials,
    long_names::trials,
    descriptors::trials,
    shared::trials,
];

const ENDS: &str = "a hub ends its connections when it ends, and a client that breaks a rule in both directions";
const NO_FDS: &str = "a hub receives descriptors and sends none";
const SHUT: &str = "a hub that is told to shut down hears nobody any more";
