//! Both ends of a connection without a server: pairs fulfil the contract of [`conformance`] over every transport, with
//! the blocking API and as tasks, as far as it concerns the two ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test fails by panicking, and a child reports to its test on stdout"
)]

#[allow(dead_code, unused_imports, reason = "the other scenarios need a server")]
mod conformance;
mod support;

use std::process::ExitCode;

use conformance::api::Api;
use parlour::{ConnectOptions, Connection, ErrorKind, Provenance, Transport};
use support::trials;

const API: Api = Api::Pair;

trials! {
    for transport in Transport::ALL =>
        the_peer_of_each_end_is_this_process,
        an_error_names_the_other_end_and_the_next_step,
        an_option_out_of_range_is_refused_and_nothing_is_made,
        a_pair_takes_two_descriptors_or_four_and_returns_them,
        the_first_byte_of_a_refusal_is_not_one_on_a_pair;
}

fn main() -> ExitCode {
    support::run(conformance::ROLES, &[conformance::ENDS_ONLY, &[trials]].concat())
}

fn the_peer_of_each_end_is_this_process(transport: Transport) {
    let (one, other) = Connection::pair(transport).unwrap();
    for end in [&one, &other] {
        assert_eq!(end.peer().pid(), Some(std::process::id()));
        assert_eq!(end.peer().uid(), Some(rustix::process::geteuid().as_raw()));
        let by = if transport == Transport::Fifo { Provenance::FileOwner } else { Provenance::Kernel };
        assert_eq!(end.peer().uid_provenance(), by);
        assert_eq!(end.capabilities().message_max, 16 << 20);
    }
}

fn an_error_names_the_other_end_and_the_next_step(transport: Transport) {
    let (mut one, other) = Connection::pair(transport).unwrap();
    drop(other);
    assert_eq!(one.recv().unwrap(), None);
    let error = one.send("hello").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    support::assert_tells(&error);
    let pid = std::process::id();
    assert!(error.to_string().starts_with(&format!("cannot send to the other end of a pair (pid {pid}): ")), "{error}");
    assert!(
        error.to_string().ends_with("; drop this connection; the two ends of a pair cannot connect again"),
        "{error}"
    );
}

fn an_option_out_of_range_is_refused_and_nothing_is_made(transport: Transport) {
    for options in [ConnectOptions::new().fds_max(254), ConnectOptions::new().ring_size(1000)] {
        assert_eq!(options.pair(transport).unwrap_err().kind(), ErrorKind::InvalidOption);
    }
}

fn a_pair_takes_two_descriptors_or_four_and_returns_them(transport: Transport) {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    let pair = Connection::pair(transport).unwrap();
    assert_eq!(open() - before, if transport == Transport::Fifo { 4 } else { 2 });
    drop(pair);
    assert_eq!(open(), before);
}

/// A client that reads a single byte `0x81` and then the end was refused. An end of a pair has no server.
fn the_first_byte_of_a_refusal_is_not_one_on_a_pair(transport: Transport) {
    if transport != Transport::Unix {
        return;
    }
    let (one, mut other) = Connection::pair(transport).unwrap();
    let parlour::RawFds::Unix(socket) = one.into_raw_parts().unwrap().fds else { unreachable!() };
    rustix::io::write(&socket, &[0x81]).unwrap();
    drop(socket);
    assert_eq!(other.recv().unwrap_err().kind(), ErrorKind::Truncated);
}
