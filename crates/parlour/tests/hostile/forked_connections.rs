//! Tests of connections across a fork: one process continues with the connection, and the other drops it.

use std::io;

use parlour::{Connection, Server, Transport};

use super::forking::{fork, join};
use crate::support::roles::echo;
use crate::support::{Base, Child, DEADLINE, Role, trials};

trials! {
    for transport in Transport::ALL =>
        a_connection_goes_on_in_the_process_when_the_other_drops_it(process in ["child", "parent"]),
        each_process_can_take_one_direction,
        the_peer_sees_the_end_when_both_processes_have_dropped_the_connection,
        a_message_fed_before_a_fork_is_sent_once_when_the_child_acts(
            acts in ["drops", "exits", "closes", "flushes", "goes-on"],
        );
}

fn accept(arguments: &[String]) -> (Server, Connection) {
    let server = Server::bind(&arguments[0]).unwrap();
    println!("ready");
    let connection = server.accept_timeout(DEADLINE).unwrap();
    (server, connection)
}

/// A pipe on which one process of a family waits for the other.
struct Latch(rustix::fd::OwnedFd, rustix::fd::OwnedFd);

impl Latch {
    fn new() -> Self {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        Self(reader, writer)
    }

    fn open(&self) {
        assert_eq!(rustix::io::write(&self.1, b"x"), Ok(1));
    }

    fn wait(&self) {
        assert!(crate::support::wait::readable(&self.0));
    }
}

/// `per-client ADDRESS WHO`: prints `ready`, accepts one client, echoes one message and forks.
///
/// - `child`, `parent`: this process continues to echo while the other one drops the connection.
/// - `halves`: the parent sends the lines of stdin, while the child prints what it receives.
/// - `both`: both processes hold the connection until they are told to drop it.
///
/// Prints `forked` after the fork, or when the other process has dropped the connection, and `ended` at the end.
pub const PER_CLIENT: Role = Role { name: "per-client", play: per_client };

fn per_client(arguments: &[String]) {
    let (server, mut connection) = accept(arguments);
    let message = connection.recv_timeout(DEADLINE).unwrap().unwrap();
    connection.send(&message).unwrap();
    // From here on each process owns its copy of the connection.
    let mut connection = Some(connection);
    match arguments[1].as_str() {
        "child" => {
            let child = fork(|| echo(connection.take().unwrap()));
            drop(connection);
            println!("forked");
            join(child);
        }
        "parent" => {
            join(fork(|| drop(connection.take())));
            println!("forked");
            echo(connection.unwrap());
        }
        "halves" => {
            let child = fork(|| {
                let mut connection = connection.take().unwrap();
                while let Some(message) = connection.recv_timeout(DEADLINE).unwrap() {
                    println!("{}", String::from_utf8_lossy(&message));
                }
            });
            println!("forked");
            let mut connection = connection.unwrap();
            for line in io::stdin().lines() {
                match line.unwrap().as_str() {
                    "finish" => {
                        connection.finish().unwrap();
                        break;
                    }
                    line => connection.send(line.as_bytes()).unwrap(),
                }
            }
            join(child);
        }
        "both" => {
            let latch = Latch::new();
            let child = fork(|| latch.wait());
            println!("forked");
            let mut line = String::new();
            io::stdin().read_line(&mut line).unwrap();
            drop(connection.take());
            println!("dropped");
            io::stdin().read_line(&mut line).unwrap();
            latch.open();
            join(child);
        }
        other => panic!("unknown argument {other:?}"),
    }
    drop(server);
    println!("ended");
}

fn exchange(connection: &mut Connection, text: &[u8]) {
    connection.send(text).unwrap();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), text);
}

fn forked(base: &Base, transport: Transport, who: &str) -> (Child, Connection) {
    let address = base.address(transport, "family");
    let mut server = Child::spawn("per-client", &[address.clone(), who.to_owned()]);
    server.expect("ready");
    let mut connection = Connection::connect(address).unwrap();
    exchange(&mut connection, b"before the fork");
    server.expect("forked");
    (server, connection)
}

fn a_connection_goes_on_in_the_process_when_the_other_drops_it(transport: Transport, process: &str) {
    let base = Base::new();
    let (mut server, mut connection) = forked(&base, transport, process);
    for number in 0..5 {
        exchange(&mut connection, format!("after the fork {number}").as_bytes());
    }
    connection.finish().unwrap();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap(), None);
    server.expect("ended");
    server.finish();
}

fn each_process_can_take_one_direction(transport: Transport) {
    let base = Base::new();
    let (mut server, mut connection) = forked(&base, transport, "halves");
    for number in 0..3 {
        connection.send(format!("up {number}").as_bytes()).unwrap();
        server.expect(&format!("up {number}"));
        server.say(&format!("down {number}"));
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), format!("down {number}").as_bytes());
    }
    connection.finish().unwrap();
    server.say("finish");
    server.expect("ended");
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap(), None);
    server.finish();
}

fn the_peer_sees_the_end_when_both_processes_have_dropped_the_connection(transport: Transport) {
    let base = Base::new();
    let (mut server, mut connection) = forked(&base, transport, "both");
    server.say("drop");
    server.expect("dropped");
    let error = connection.recv_timeout(std::time::Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind(), parlour::ErrorKind::TimedOut, "the child still holds the connection");
    server.say("open the latch");
    server.expect("ended");
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap(), None);
    server.finish();
}

/// `feed ADDRESS HOW`: prints `ready`, accepts one client, feeds one message and forks. The parent sends the message by
/// closing or dropping the connection, while the child does with it what HOW says.
pub const FEED: Role = Role { name: "feed", play: feed };

fn feed(arguments: &[String]) {
    let (server, mut connection) = accept(arguments);
    connection.feed(b"fed").unwrap();
    let latch = Latch::new();
    let mut connection = Some(connection);
    let child = fork(|| {
        let mut connection = connection.take().unwrap();
        match arguments[1].as_str() {
            "drops" => drop(connection),
            "exits" => std::process::exit(0),
            "closes" => connection.close().unwrap(),
            "flushes" => connection.flush().unwrap(),
            _ => {
                latch.wait();
                connection.send(b"from the child").unwrap();
                connection.close().unwrap();
            }
        }
    });
    match arguments[1].as_str() {
        "goes-on" => {
            drop(connection.take());
            latch.open();
            join(child);
        }
        _ => {
            join(child);
            connection.take().unwrap().close().unwrap();
        }
    }
    drop(server);
}

fn a_message_fed_before_a_fork_is_sent_once_when_the_child_acts(transport: Transport, acts: &str) {
    let base = Base::new();
    let address = base.address(transport, "family");
    let mut server = Child::spawn("feed", &[address.clone(), acts.to_owned()]);
    server.expect("ready");
    let mut connection = Connection::connect(address).unwrap();
    let mut received = Vec::new();
    while let Some(message) = connection.recv_timeout(DEADLINE).unwrap() {
        received.push(String::from_utf8(message.into_vec()).unwrap());
    }
    match acts {
        "goes-on" => assert_eq!(received, ["fed", "from the child"]),
        _ => assert_eq!(received, ["fed"]),
    }
    server.finish();
}
