//! Nothing is sent twice, and every message that is missing was in the report of a loss.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use parlour::{Server, Session, Transport};

use crate::support::roles::until_end_of_input;
use crate::support::{Base, Child, Role, eventually, trials};

trials! {
    for transport in Transport::ALL =>
        every_message_arrives_once_or_is_in_the_report_of_a_loss;
}

/// `log ADDRESS FILE`: prints `ready`, and appends each message of each client to the file, as a line.
pub const LOG: Role = Role { name: "log", play: log };

fn log(arguments: &[String]) {
    let server = Server::bind(&arguments[0]).unwrap();
    println!("ready");
    let shutdown = server.shutdown_handle();
    let file = arguments[1].clone();
    let serving = thread::spawn(move || {
        let mut clients = Vec::new();
        for connection in server.incoming() {
            let mut connection = connection.unwrap();
            let mut file = OpenOptions::new().append(true).create(true).open(&file).unwrap();
            clients.push(thread::spawn(move || {
                while let Some(message) = connection.recv().unwrap() {
                    // One write, so that a kill does not tear the line.
                    file.write_all(&[&message, &b"\n"[..]].concat()).unwrap();
                }
            }));
        }
        for client in clients {
            client.join().unwrap();
        }
        server.close().unwrap();
    });
    until_end_of_input();
    shutdown.shutdown();
    serving.join().unwrap();
}

fn lines(file: &Path) -> Vec<u64> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

fn every_message_arrives_once_or_is_in_the_report_of_a_loss(transport: Transport) {
    const RESTARTS: usize = 6;
    let base = Base::new();
    let address = base.address(transport, "notes");
    let file = base.path().join("log");
    let arguments = [address.clone(), file.display().to_string()];
    let is_over = AtomicBool::new(false);
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let mut session = Session::new(&address).unwrap().on_connect(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    thread::scope(|scope| {
        // Kills the server whenever it has received some more messages. Returns the last one.
        let restarting = scope.spawn(|| {
            for _ in 0..RESTARTS {
                let before = lines(&file).len();
                let mut server = Child::spawn("log", &arguments);
                server.expect("ready");
                eventually("the server has received messages", || lines(&file).len() > before + 50);
                server.kill();
            }
            let before = lines(&file).len();
            let mut server = Child::spawn("log", &arguments);
            server.expect("ready");
            eventually("the last server has received messages", || lines(&file).len() > before + 50);
            is_over.store(true, Ordering::Relaxed);
            server
        });
        // The numbers that were sent over the present connection, and all that may be lost or were not sent.
        let (mut sent, mut all) = (Vec::new(), HashSet::new());
        let (mut may_be_lost, mut unsent) = (HashSet::new(), HashSet::new());
        let mut losses = 0;
        for number in 0_u64.. {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            if number % 64 == 0 {
                // A server in a debug build keeps up with a slower client.
                thread::yield_now();
            }
            match session.send(&number.to_string()) {
                Ok(()) => {
                    sent.push(number);
                    all.insert(number);
                }
                Err(error) => {
                    let loss = error.loss().unwrap_or_else(|| panic!("{error}"));
                    assert_eq!(loss.sent(), sent.len() as u64, "{error}");
                    losses += 1;
                    may_be_lost.extend(sent.drain(..));
                    unsent.insert(number);
                }
            }
        }
        session.close().unwrap();
        restarting.join().unwrap().finish();
        // A socket of a dying process may take a connection, too.
        assert!(losses >= RESTARTS, "{losses} losses");
        assert_eq!(losses + 1, connections.load(Ordering::Relaxed), "each connection that ended is reported once");
        let received = lines(&file);
        let distinct: HashSet<u64> = received.iter().copied().collect();
        assert_eq!(received.len(), distinct.len(), "a message was received twice");
        let missing: Vec<_> = all.difference(&distinct).filter(|number| !may_be_lost.contains(number)).collect();
        assert!(missing.is_empty(), "missing and in no report: {missing:?}");
        assert!(distinct.is_disjoint(&unsent), "a message was received although its send failed");
    });
}
