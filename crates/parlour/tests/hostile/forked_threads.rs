//! A process whose threads accept, send and receive forks at any moment. In the child, only the forking thread exists,
//! and no call may wait for another one.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use parlour::{Connection, ErrorKind, Server, ServerOptions, Transport};
use rustix::fd::OwnedFd;

use super::forking::{fork_among_threads, join, take_in_child};
use crate::support::roles::echo;
use crate::support::{Base, DEADLINE, failure, trials, wait};

trials! {
    for transport in Transport::ALL =>
        every_call_returns_in_a_child_that_is_forked_while_a_thread_holds_the_servers_lock,
        every_call_returns_in_children_that_are_forked_among_busy_threads,
        a_shutdown_from_a_forked_child_ends_accept_in_the_parent;
}

/// The number of forks of one trial.
const FORKS: usize = 250;

/// A pipe on which one thread waits for another.
struct Latch(OwnedFd, OwnedFd);

impl Latch {
    fn new() -> Self {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        Self(reader, writer)
    }

    fn open(&self) {
        assert_eq!(rustix::io::write(&self.1, b"x"), Ok(1));
    }

    fn wait(&self) {
        assert!(wait::readable(&self.0));
    }
}

/// In a forked child: calls everything that a server has.
fn use_every_call(server: Server) {
    for error in [
        failure(server.try_accept()),
        server.accept_timeout(Duration::ZERO).unwrap_err(),
        server.accept_timeout(DEADLINE).unwrap_err(),
        server.accept().unwrap_err(),
        server.incoming().next().unwrap().unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NameLost, "{error}");
        assert!(error.to_string().contains("forked child"), "{error}");
    }
    let _counts = server.stats();
    drop(server.shutdown_handle());
    assert!(!server.name().is_empty() && server.path().exists() && !server.transports().is_empty());
    let _debug = format!("{server:?} {:?}", server.as_fd());
    server.release().unwrap();
    server.close().unwrap();
}

/// The policy of a server is called under the lock of the server. Here it stops until the children have ended.
fn every_call_returns_in_a_child_that_is_forked_while_a_thread_holds_the_servers_lock(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "parked");
    let (parked, go_on) = (Arc::new(Latch::new()), Arc::new(Latch::new()));
    let allow = {
        let (parked, go_on) = (Arc::clone(&parked), Arc::clone(&go_on));
        move |_: &parlour::Peer| {
            parked.open();
            go_on.wait();
            true
        }
    };
    let server = ServerOptions::new().allow(allow).bind(&address).unwrap();
    thread::scope(|scope| {
        let accepting = scope.spawn(|| echo(server.accept_timeout(DEADLINE).unwrap()));
        let connecting = scope.spawn(|| Connection::connect(&address).unwrap());
        parked.wait();
        join(fork_among_threads(|| use_every_call(take_in_child(&server))));
        join(fork_among_threads(|| drop(take_in_child(&server))));
        // The child of a child has the same lock.
        join(fork_among_threads(|| join(fork_among_threads(|| use_every_call(take_in_child(&server))))));
        go_on.open();
        let mut connection = connecting.join().unwrap();
        exchange(&mut connection);
        drop(connection);
        accepting.join().unwrap();
    });
    server.close().unwrap();
}

fn exchange(connection: &mut Connection) {
    connection.send(b"hello").unwrap();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
}

fn every_call_returns_in_children_that_are_forked_among_busy_threads(transport: Transport) {
    let base = Base::new();
    let (address, other) = (base.address(transport, "busy"), base.address(transport, "child"));
    let server = Server::bind(&address).unwrap();
    let stopping = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for connection in server.incoming() {
                    scope.spawn(|| echo(connection.unwrap()));
                }
            });
        }
        let clients = [(); 2].map(|()| {
            scope.spawn(|| {
                while !stopping.load(Ordering::Relaxed) {
                    exchange(&mut Connection::connect(&address).unwrap());
                }
            })
        });
        // One thread sleeps in a receive, while the forking thread has the other half.
        let (mut sender, mut receiver) = Connection::connect(&address).unwrap().split();
        let receiving = scope.spawn(move || {
            assert_eq!(receiver.recv().unwrap().unwrap(), b"after the forks");
            assert_eq!(receiver.recv().unwrap(), None);
        });
        let mut idle = Connection::connect(&address).unwrap();
        for number in 0..FORKS {
            join(fork_among_threads(|| {
                use_every_call(take_in_child(&server));
                drop(take_in_child(&sender));
                let mut idle = take_in_child(&idle);
                assert!(matches!(idle.try_recv(), Err(parlour::TryRecvError::Empty)));
                drop(idle);
                if number % 10 == 0 {
                    exchange(&mut Connection::connect(&address).unwrap());
                    Server::bind(&other).unwrap().close().unwrap();
                }
            }));
        }
        exchange(&mut idle);
        sender.send(b"after the forks").unwrap();
        drop(sender);
        receiving.join().unwrap();
        stopping.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
        drop(idle);
        server.shutdown_handle().shutdown();
    });
    server.close().unwrap();
}

/// The request of the child is in its own memory only. The parent learns of it from the shared descriptor.
fn a_shutdown_from_a_forked_child_ends_accept_in_the_parent(transport: Transport) {
    let base = Base::new();
    let server = Server::bind(base.address(transport, "family")).unwrap();
    let handle = server.shutdown_handle();
    join(fork_among_threads(|| handle.shutdown()));
    for error in [server.accept().unwrap_err(), server.accept_timeout(DEADLINE).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Shutdown);
    }
    assert_eq!(failure(server.try_accept()).kind(), ErrorKind::Shutdown);
}
