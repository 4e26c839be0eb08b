//! Tests of a `unix` server with more clients than descriptors.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use parlour::{Connection, Transport};

use crate::by_hand::line::frame;
use crate::by_hand::scarce::{assert_echo, crowded};
use crate::by_hand::{cost, unix};
use crate::support::{Base, DEADLINE, eventually, trials, wait};

trials! {
    clients_beyond_the_limit_of_descriptors_see_the_end unless is_nobody(),
    a_server_without_any_descriptor_left_does_not_spin_and_recovers,
    a_flood_beyond_the_limit_of_descriptors_is_worked_off_in_bounded_steps,
}

fn crowd(path: &Path, count: usize) -> Vec<UnixStream> {
    (0..count).map(|_| unix::dial(path)).collect()
}

/// Returns true if the server answers on this connection, and false if it has ended it.
fn is_served(mut stream: &UnixStream) -> bool {
    // The server may have ended the connection by now.
    let _ = stream.write_all(&frame(b"me too"));
    assert!(wait::readable(stream), "neither an answer nor end of file arrived");
    let mut bytes = [0; 100];
    match std::io::Read::read(&mut stream, &mut bytes) {
        Ok(0) => false,
        Ok(count) => bytes[..count] == frame(b"me too"),
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            false
        }
    }
}

/// Returns a reason if this process runs as the user with the overflow id. For each such peer the library reads `/proc`
/// to find out whether the id stands for an unknown user, and that takes one of the descriptors that the test counts.
fn is_nobody() -> Option<&'static str> {
    let is_nobody = rustix::process::geteuid().as_raw() == 65534;
    is_nobody.then_some("the test runs as the user whose id stands for unknown users")
}

fn clients_beyond_the_limit_of_descriptors_see_the_end() {
    let base = Base::new();
    let (mut server, address, mut early) = crowded(&base, Transport::Unix);
    server.ask("spare 3");
    let crowd = crowd(&base.name("crowd"), 50);
    assert_eq!(crowd.iter().filter(|stream| is_served(stream)).count(), 3, "of fifty");
    let said = server.ask("refused");
    assert!(said.starts_with("47 ") && said.contains("out of descriptors"), "{said}");
    assert_echo(&mut early);
    let cost = cost::of_process(server.pid(), Duration::from_secs(1));
    assert!(cost.sleeps < 50 && cost.ran < Duration::from_millis(100), "in a second: {cost:?}");
    drop(crowd);
    eventually("a client that disconnects makes room for another", || {
        let mut connection = Connection::connect(&address).unwrap();
        // The server may have ended the connection by now.
        let _ = connection.send(b"room");
        matches!(connection.recv_timeout(DEADLINE), Ok(Some(reply)) if reply == b"room")
    });
}

fn a_server_without_any_descriptor_left_does_not_spin_and_recovers() {
    let base = Base::new();
    let (mut server, address, mut early) = crowded(&base, Transport::Unix);
    // Even the server's reserve descriptor cannot be reopened.
    server.ask("spare -6");
    let crowd = crowd(&base.name("crowd"), 20);
    let cost = cost::of_process(server.pid(), Duration::from_secs(1));
    assert!(cost.sleeps < 50 && cost.ran < Duration::from_millis(100), "in a second: {cost:?}");
    assert_echo(&mut early);
    assert_eq!(server.ask("accepted"), "1");
    server.ask("plenty");
    let served = crowd.iter().filter(|stream| is_served(stream)).count();
    assert_eq!(served, 20, "of the clients that waited");
    assert_echo(&mut Connection::connect(&address).unwrap());
    assert_echo(&mut early);
}

fn a_flood_beyond_the_limit_of_descriptors_is_worked_off_in_bounded_steps() {
    let base = Base::new();
    let (mut server, address, mut early) = crowded(&base, Transport::Unix);
    server.ask("spare 0");
    let crowd = crowd(&base.name("crowd"), 300);
    assert_echo(&mut early);
    assert_eq!(crowd.iter().filter(|stream| is_served(stream)).count(), 0, "of three hundred");
    assert!(server.ask("refused").starts_with("300 "));
    server.ask("plenty");
    assert_echo(&mut Connection::connect(&address).unwrap());
}
