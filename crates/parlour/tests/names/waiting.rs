//! A client that begins to wait while a server starts in the same moment.

use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Server, Transport};

use crate::support::{Base, trials};

trials! {
    for transport in Transport::ALL =>
        a_client_that_begins_to_wait_while_a_server_ends_and_another_starts_finds_it;
}

/// A wake-up that is lost costs the client its whole time to wait.
const WAIT: Duration = Duration::from_secs(20);

fn a_client_that_begins_to_wait_while_a_server_ends_and_another_starts_finds_it(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "busy");
    let options = ConnectOptions::new().wait_for_server(WAIT).timeout(WAIT);
    let mut server = Some(Server::bind(&address).unwrap());
    for round in 0..300 {
        server.take().unwrap().close().unwrap();
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                let begun = Instant::now();
                options.connect(&address).map(|connection| (connection, begun.elapsed()))
            });
            (0..round % 100 * 50).for_each(|_| std::hint::spin_loop());
            let new = Server::bind(&address).unwrap();
            let _accepted = new.accept_timeout(WAIT * 2).unwrap();
            let (_connection, took) = client.join().unwrap().unwrap();
            assert!(took < WAIT / 2, "round {round}: {took:?}");
            server = Some(new);
        });
    }
}
