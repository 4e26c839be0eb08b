//! A forked child shares the memory and the socket of a connection.

use std::io::BufRead;

use parlour::{Connection, Transport};

use crate::fork::{fork, join};
use crate::support::{Base, Child, DEADLINE, Role, data, trials};

trials! {
    a_connection_works_in_a_forked_child_and_its_parent_when_the_other_drops_it,
}

pub const FORKS: Role = Role { name: "forks", play: forks };

/// `forks ADDRESS`: connects. Forked children drop the connection, then a forked child uses it.
fn forks(arguments: &[String]) {
    let mut connection = Connection::connect(&arguments[0]).unwrap();
    let echo = |connection: &mut Connection, length: usize| {
        for number in 0..20 {
            connection.send(data::message(number, length)).unwrap();
            data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), number, length);
        }
    };
    echo(&mut connection, 10_000);
    let mut place = Some(connection);
    for _ in 0..3 {
        join(fork(|| drop(place.take())));
        echo(place.as_mut().unwrap(), 50_000);
    }
    let mut connection = place.unwrap();
    let child = fork(|| echo(&mut connection, 300_000));
    join(child);
    println!("done");
    let _ = std::io::stdin().lock().lines().next();
}

fn a_connection_works_in_a_forked_child_and_its_parent_when_the_other_drops_it() {
    let base = Base::new();
    let address = base.address(Transport::Shm, "hall");
    let mut server = Child::spawn("echo-server", &[&address]);
    server.expect("ready");
    let mut child = Child::spawn("forks", &[&address]);
    child.expect("done");
    child.finish();
    server.finish();
}
