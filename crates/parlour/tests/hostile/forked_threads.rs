//! A process whose threads accept, send and receive forks at any moment. In the child, only the forking thread exists,
//! and no call may wait for another one.

use std::fs;
use std::os::fd::{AsFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use parlour::{Connection, ErrorKind, Server, ServerOptions, ShutdownHandle, Transport, TryRecvError};
use rustix::fd::OwnedFd;

use super::forking::{fork_among_threads, fork_while, join, take_in_child, watch_forks};
use crate::by_hand::{FifoClient, shm};
use crate::support::roles::echo;
use crate::support::{Base, Child, DEADLINE, Role, failure, trials, wait};

trials! {
    for transport in Transport::ALL =>
        every_call_returns_in_a_child_that_is_forked_while_a_thread_holds_the_servers_lock,
        every_call_returns_in_children_that_are_forked_among_busy_threads,
        every_call_returns_in_a_child_while_whose_fork_a_thread_took_a_name,
        a_shutdown_from_a_forked_child_ends_accept_in_the_parent;

    for transport in [Transport::Shm, Transport::Fifo] =>
        every_call_returns_in_a_child_while_whose_fork_a_handshake_began;
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

/// Ends the threads of a server and its clients, also when the test fails: a scope waits for its threads.
struct Ending<'a>(ShutdownHandle, &'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.1.store(true, Ordering::Relaxed);
        self.0.shutdown();
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
        let ending = Ending(server.shutdown_handle(), &stopping);
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
        drop(ending);
    });
    server.close().unwrap();
}

/// `fork-while WHAT ADDRESS OTHER`: takes the name ADDRESS, and forks a child that has, of what happens during the
/// fork, the memory and not the descriptors. The child calls everything that the server has. Then prints `done`.
///
/// - `shm`, `fifo`: the handshake of a client begins.
/// - `bind`: a server takes the name OTHER.
pub const FORK_WHILE: Role = Role { name: "fork-while", play: while_forking };

fn while_forking(arguments: &[String]) {
    watch_forks();
    let [what, address, other] = arguments else { panic!("{arguments:?}") };
    let server = Arc::new(Server::bind(address).unwrap());
    let use_server = || use_every_call(take_in_child(&*server));
    match what.as_str() {
        "bind" => {
            let (other, bound) = (other.clone(), Arc::new(Mutex::new(None)));
            let during = {
                let bound = Arc::clone(&bound);
                move || {
                    let other = Server::bind(other).unwrap();
                    let lock = number_of(&other.path().join("lock"));
                    *bound.lock().unwrap() = Some(other);
                    // The descriptor with which the child replaces those of the servers has the number of one of them.
                    Some(lock)
                }
            };
            join(fork_while(during, use_server));
            bound.lock().unwrap().take().unwrap().close().unwrap();
        }
        transport => {
            let client = match transport {
                "shm" => (Some(shm::dial(server.path())), None),
                _ => (None, Some(FifoClient::asking(server.path()))),
            };
            let during = {
                let server = Arc::clone(&server);
                move || {
                    let before = open_descriptors().len();
                    assert!(matches!(server.try_accept(), Err(TryRecvError::Empty)));
                    assert!(open_descriptors().len() > before, "a handshake has begun");
                    None
                }
            };
            join(fork_while(during, use_server));
            drop(client);
        }
    }
    Arc::into_inner(server).unwrap().close().unwrap();
    println!("done");
}

/// Returns the numbers of the open descriptors, each with its file.
fn open_descriptors() -> Vec<(RawFd, std::path::PathBuf)> {
    let number = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap().parse().unwrap();
    let entries = fs::read_dir("/proc/self/fd").unwrap().map(Result::unwrap);
    entries.filter_map(|entry| Some((number(&entry), fs::read_link(entry.path()).ok()?))).collect()
}

fn number_of(path: &Path) -> RawFd {
    open_descriptors().into_iter().find(|(_, file)| file == path).unwrap().0
}

fn fork_while_in_a_role(transport: Transport, what: &str) {
    let base = Base::new();
    let addresses = ["early", "late"].map(|name| base.address(transport, name));
    let mut role = Child::spawn("fork-while", &[&[what.to_owned()], &addresses[..]].concat());
    role.expect("done");
    role.finish();
}

/// The child finds the handshake in the server's table, and has no descriptor with its number.
fn every_call_returns_in_a_child_while_whose_fork_a_handshake_began(transport: Transport) {
    fork_while_in_a_role(transport, &transport.to_string());
}

/// The child finds descriptors of another server to replace, and has none with these numbers.
fn every_call_returns_in_a_child_while_whose_fork_a_thread_took_a_name(transport: Transport) {
    fork_while_in_a_role(transport, "bind");
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
