//! Wake-ups of sleeping peers.

use std::thread;
use std::time::Duration;

use parlour::{ConnectOptions, Connection, ErrorKind, ServerOptions, Transport};

use crate::by_hand::{Driver, cost};
use crate::support::wait::Sleeper;
use crate::support::{Base, Child, data, trials};

trials! {
    no_wake_up_is_lost_between_sides_that_sleep_at_once,
    a_stream_through_the_smallest_ring_wakes_both_sides,
    an_idle_connection_sleeps,
    sending_to_a_peer_that_closed_fails_immediately,
}

fn pair(server: &ServerOptions, client: &ConnectOptions) -> (Connection, Connection) {
    let base = Base::new();
    let driver = Driver::new(server.bind(base.address(Transport::Shm, "hall")).unwrap());
    let client = client.connect(base.address(Transport::Shm, "hall")).unwrap();
    (client, driver.client())
}

fn no_wake_up_is_lost_between_sides_that_sleep_at_once() {
    let (mut client, mut served) = pair(&ServerOptions::new().spin_limit(0), &ConnectOptions::new().spin_limit(0));
    thread::scope(|scope| {
        scope.spawn(move || {
            while let Some(message) = served.recv().unwrap() {
                served.send(&message).unwrap();
            }
        });
        for number in 0..20_000 {
            client.send(data::message(number, 20)).unwrap();
            data::check(&client.recv().unwrap().unwrap(), number, 20);
        }
        drop(client);
    });
}

fn a_stream_through_the_smallest_ring_wakes_both_sides() {
    let small =
        (ServerOptions::new().spin_limit(0).ring_size(1 << 16), ConnectOptions::new().spin_limit(0).ring_size(1 << 16));
    let (mut client, mut served) = pair(&small.0, &small.1);
    let length = |number: usize| [10, 60_000, 200_000, 65_532, 65_533][number % 5];
    thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..2000 {
                data::check(&served.recv().unwrap().unwrap(), number, length(number));
            }
        });
        for number in 0..2000 {
            client.send(data::message(number, length(number))).unwrap();
        }
    });
}

fn an_idle_connection_sleeps() {
    let base = Base::new();
    let address = base.address(Transport::Shm, "hall");
    let mut server = Child::spawn("echo-server", &[&address]);
    server.expect("ready");
    let mut client = Connection::connect(&address).unwrap();
    client.send(b"hello").unwrap();
    assert_eq!(client.recv().unwrap().unwrap(), b"hello");
    let cost = cost::of_process(server.pid(), Duration::from_millis(500));
    assert!(cost.sleeps < 10 && cost.ran < Duration::from_millis(20), "cost of half a second: {cost:?}");
    server.finish();
}

/// The sender is not receiving, so it has not read end of file.
fn sending_to_a_peer_that_closed_fails_immediately() {
    let (mut client, served) = pair(&ServerOptions::new(), &ConnectOptions::new());
    client.send(b"one").unwrap();
    drop(served);
    assert_eq!(client.send(b"two").unwrap_err().kind(), ErrorKind::Disconnected);

    let (mut client, served) = pair(&ServerOptions::new(), &ConnectOptions::new());
    let sleeper = Sleeper::start(move || {
        loop {
            if let Err(error) = client.send(&[0; 1000]) {
                return error.kind();
            }
        }
    });
    drop(served);
    assert_eq!(sleeper.result().0, ErrorKind::Disconnected);
}
