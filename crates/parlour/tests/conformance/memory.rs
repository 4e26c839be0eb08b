use parlour::{ConnectOptions, ErrorKind, ServerOptions, Transport};

use super::api::{Connection, Setting, TryRecvError, settings};
use super::link::{Link, connect_pair};
use crate::support::wait::answered;
use crate::support::{DEADLINE, data, eventually, trials};

const ENDS: &str = "a hub ends the connection; hub/limits.rs tests that";

trials! {
    for setting in settings() =>
        a_message_that_needs_more_memory_than_allowed_is_busy_and_the_others_arrive unless setting.is_a_hub(ENDS),
        the_memory_of_incomplete_messages_is_reported_and_given_back,
        a_ring_beyond_the_memory_limit_is_refused unless has_no_ring(setting);
}

const MIB: usize = 1024 * 1024;
/// More than any channel takes at once.
const LENGTH: usize = 12 * MIB;
/// Enough for one message and the buffer for a datagram, and not for two.
const LIMIT: usize = 16 * MIB;
const RING: usize = 64 * 1024;

fn has_no_ring(setting: Setting) -> Option<&'static str> {
    (setting.transport != Transport::Shm).then_some("this transport has no rings")
}

fn client_options() -> ConnectOptions {
    ConnectOptions::new().ring_size(RING)
}

/// Begins to send a long message. The client keeps the rest.
fn begin(client: &mut Connection, seed: usize) {
    client.try_send(data::message(seed, LENGTH)).unwrap();
}

/// Moves the message forward until this condition holds, or receiving fails.
fn advance(client: &mut Connection, served: &mut Connection, mut until: impl FnMut() -> bool) -> Option<ErrorKind> {
    let mut failed = None;
    eventually("the message moves", || {
        // `Full` means that the rest is still buffered.
        let _ = client.try_flush();
        match served.try_recv() {
            Err(TryRecvError::Failed(error)) => failed = Some(error.kind()),
            Err(TryRecvError::Empty) => {}
            Ok(message) => panic!("the message was not to arrive yet: {} bytes", message.unwrap().len()),
        }
        failed.is_some() || until()
    });
    failed
}

fn complete(client: &mut Connection, served: &mut Connection, seed: usize) {
    let mut message = None;
    eventually("the message arrives", || {
        let _ = client.try_flush();
        match served.try_recv() {
            Err(TryRecvError::Failed(error)) => panic!("{error}"),
            Err(TryRecvError::Empty) => false,
            Ok(received) => {
                message = received;
                true
            }
        }
    });
    data::check(&message.expect("a message"), seed, LENGTH);
}

fn a_message_that_needs_more_memory_than_allowed_is_busy_and_the_others_arrive(setting: Setting) {
    let options = ServerOptions::new().ring_size(RING).memory_max(LIMIT);
    let Link { mut client, mut served, server, address, base: _base } =
        Link::with(setting, &options, &client_options());
    let (mut second, mut second_served) = connect_pair(setting, &server, &address, &client_options());
    let (mut third, mut third_served) = connect_pair(setting, &server, &address, &client_options());
    begin(&mut client, 1);
    assert_eq!(advance(&mut client, &mut served, || server.stats().memory > LIMIT / 2), None);
    begin(&mut second, 2);
    // The error is the same until there is memory.
    for _ in 0..3 {
        assert_eq!(advance(&mut second, &mut second_served, || false), Some(ErrorKind::Busy));
        assert!(server.stats().memory <= LIMIT, "{:?}", server.stats());
    }
    // Short messages do not count.
    third.send(b"hello").unwrap();
    assert_eq!(third_served.recv_timeout(DEADLINE).unwrap().expect("a message"), b"hello");
    drop((second, second_served));
    complete(&mut client, &mut served, 1);
    begin(&mut third, 3);
    complete(&mut third, &mut third_served, 3);
    drop((client, served, third, third_served));
    eventually("all memory is given back", || server.stats().memory == 0);
}

fn the_memory_of_incomplete_messages_is_reported_and_given_back(setting: Setting) {
    let options = ServerOptions::new().ring_size(RING);
    let Link { mut client, served, server, address: _address, base: _base } =
        Link::with(setting, &options, &client_options());
    let idle = if setting.transport == Transport::Shm { RING } else { 0 };
    assert_eq!(server.stats().memory, idle);
    let mut served = Some(served);
    begin(&mut client, 1);
    eventually("the memory is counted", || {
        // A hub receives by itself.
        let received = served.as_mut().unwrap().try_recv();
        assert!(received.is_err(), "the message was not to arrive yet");
        server.stats().memory >= MIB
    });
    let stats = server.stats();
    assert!(stats.memory <= stats.memory_per_uid_max && stats.memory_per_uid_max <= stats.memory_max, "{stats:?}");
    assert!(stats.connections_max >= stats.connections_per_uid_max && stats.connections_per_uid_max >= 1, "{stats:?}");
    drop((client, served.take()));
    eventually("the memory is given back", || server.stats().memory == 0);
}

fn a_ring_beyond_the_memory_limit_is_refused(setting: Setting) {
    let options = ServerOptions::new().ring_size(RING).memory_max(2 * RING);
    let Link { client: _client, served: _served, server, address, base: _base } =
        Link::with(setting, &options, &client_options());
    let _second = connect_pair(setting, &server, &address, &client_options());
    std::thread::scope(|scope| {
        let third = scope.spawn(move || {
            answered(|time| setting.connect_with(&client_options().timeout(time), &address)).unwrap_err()
        });
        // The client tries again until its timeout, and its last attempt may be refused because it has left.
        let mut refused_for_memory = false;
        while !third.is_finished() {
            let _ = server.try_accept();
            let last = server.stats().last_refusal;
            refused_for_memory |= last.is_some_and(|last| last.detail.contains("bytes of memory"));
        }
        assert_eq!(third.join().unwrap().kind(), ErrorKind::Busy);
        assert!(refused_for_memory, "{:?}", server.stats().last_refusal);
    });
}
