//! Tests of a server and a hub with more clients than descriptors, over every transport.

use std::io::{self, BufRead};
use std::thread;
use std::time::Duration;

use parlour::hub::{Event, Hub};
use parlour::{ConnectOptions, Connection, ErrorKind, Transport};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::by_hand::cost;
use crate::by_hand::scarce::limit_for;
use crate::support::{Base, Child, DEADLINE, Role, trials};

trials! {
    for transport in Transport::ALL =>
        a_kind_with_three_descriptors_left_does_not_spin_and_keeps_its_clients(kind in KINDS);
}

pub const SCARCE_HUB: Role = Role { name: "scarce-hub", play: scarce_hub };

/// `scarce-hub ADDRESS`: runs a hub that prints `ready`, echoes every message, and handles `spare COUNT` and `plenty`
/// as `scarce` does.
fn scarce_hub(arguments: &[String]) {
    let mut hub = Hub::bind(&arguments[0]).unwrap();
    println!("ready");
    thread::spawn(move || {
        loop {
            match hub.next_event() {
                Ok(Event::Message(client, message)) => hub.send(client, &message).unwrap(),
                Ok(Event::Finished(client)) => hub.finish(client).unwrap(),
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    let plenty = getrlimit(Resource::Nofile);
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("spare", count) => {
                let limit = limit_for(count.parse().unwrap());
                setrlimit(Resource::Nofile, Rlimit { current: Some(limit), ..plenty }).unwrap();
            }
            ("plenty", _) => setrlimit(Resource::Nofile, plenty).unwrap(),
            (other, _) => panic!("unknown line {other:?}"),
        }
        println!("{line}");
    }
}

fn echo(connection: &mut Connection) -> parlour::Result<bool> {
    connection.send_timeout(b"still here", DEADLINE)?;
    Ok(connection.recv_timeout(DEADLINE)?.is_some_and(|message| message == b"still here"))
}

/// The kinds of server, with their roles.
const KINDS: [(&str, &str); 2] = [("server", "scarce"), ("hub", "scarce-hub")];

fn a_kind_with_three_descriptors_left_does_not_spin_and_keeps_its_clients(
    transport: Transport,
    (_, role): (&str, &str),
) {
    let base = Base::new();
    let address = base.address(transport, "crowd");
    let mut server = Child::spawn(role, std::slice::from_ref(&address));
    server.expect("ready");
    let mut early = Connection::connect(&address).unwrap();
    assert!(echo(&mut early).unwrap());
    server.ask("spare 3");
    // Long enough that each client is answered on a busy machine.
    let options = ConnectOptions::new().timeout(Duration::from_secs(3));
    let crowd: Vec<_> = thread::scope(|scope| {
        let connecting = || {
            options.connect(&address).and_then(|mut connection| {
                let served = echo(&mut connection)?;
                Ok((connection, served))
            })
        };
        let threads: Vec<_> = (0..50).map(|_| scope.spawn(connecting)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut served = 0;
    for outcome in &crowd {
        match outcome {
            Ok((_, true)) => served += 1,
            Ok((_, false)) => panic!("a client was turned away without a word"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Busy, "{error:?}"),
        }
    }
    // A handshake over shared memory takes several descriptors for a moment. A crowd may therefore prevent all three
    // from being used.
    let least = if transport == Transport::Shm { 0 } else { 1 };
    assert!((least..=3).contains(&served), "{served} of fifty");
    let cost = cost::of_process(server.pid(), Duration::from_secs(1));
    assert!(cost.sleeps < 50 && cost.ran < Duration::from_millis(100), "in a second: {cost:?}");
    assert!(echo(&mut early).unwrap());
    server.ask("plenty");
    drop(crowd);
    assert!(echo(&mut Connection::connect(&address).unwrap()).unwrap());
    assert!(echo(&mut early).unwrap());
}
