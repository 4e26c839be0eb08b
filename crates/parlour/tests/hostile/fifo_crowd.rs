//! Tests of a FIFO server with more clients than descriptors.

use std::thread;
use std::time::Duration;

use parlour::{ConnectOptions, Connection, ErrorKind, Transport};

use crate::by_hand::cost;
use crate::by_hand::place::client_files;
use crate::by_hand::scarce::{assert_echo, crowded};
use crate::support::{Base, trials};

trials! {
    for transport in [Transport::Fifo] =>
        clients_beyond_the_limit_of_descriptors_are_told_that_the_server_is_busy,
        a_server_without_any_descriptor_left_does_not_spin_and_recovers;
}

fn crowd(address: &str, count: usize) -> Vec<parlour::Result<Connection>> {
    // Long enough that each client is answered on a busy machine.
    let options = ConnectOptions::new().timeout(Duration::from_secs(3));
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(|| options.connect(address))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn clients_beyond_the_limit_of_descriptors_are_told_that_the_server_is_busy(transport: Transport) {
    let base = Base::new();
    let (mut server, address, mut early) = crowded(&base, transport);
    server.ask("spare 5");
    let outcomes = crowd(&address, 8);
    let mut connections = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(connection) => connections.push(connection),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Busy, "{error}"),
        }
    }
    // Each client takes two descriptors. The fifth descriptor is not enough for another client.
    assert_eq!(connections.len(), 2, "of eight");
    let refused = server.ask("refused");
    assert!(refused.contains("out of descriptors"), "{refused}");
    connections.iter_mut().for_each(assert_echo);
    assert_echo(&mut early);
    assert_eq!(client_files(&base.name("crowd")), [""; 0]);
    drop(connections);
    assert_echo(&mut Connection::connect(&address).unwrap());
}

fn a_server_without_any_descriptor_left_does_not_spin_and_recovers(transport: Transport) {
    let base = Base::new();
    let (mut server, address, mut early) = crowded(&base, transport);
    server.ask("spare -3");
    for outcome in crowd(&address, 4) {
        let kind = outcome.unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::Busy | ErrorKind::TimedOut), "{kind}");
    }
    let cost = cost::of_process(server.pid(), Duration::from_secs(1));
    assert!(cost.sleeps < 50 && cost.ran < Duration::from_millis(100), "in a second: {cost:?}");
    assert_echo(&mut early);
    server.ask("plenty");
    assert_echo(&mut Connection::connect(&address).unwrap());
    for outcome in crowd(&address, 4) {
        assert_echo(&mut outcome.unwrap());
    }
}
