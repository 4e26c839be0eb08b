//! A process with a runtime forks. The child shares the epoll instance of the runtime, and must not change it.

use std::thread;

use parlour::tokio::{Connection, Server};
use parlour::{ErrorKind, Peer, ServerOptions, Transport};

use super::forking::{fork_among_threads, join, take_in_child};
use crate::support::{Base, DEADLINE, failure, trials, wait};

/// Returns a runtime that runs in the thread that uses it.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

trials! {
    for transport in Transport::ALL =>
        dropping_the_server_and_a_connection_in_a_forked_child_does_not_disturb_the_parent,
        every_call_returns_in_a_child_that_is_forked_while_a_task_accepts;
}

fn dropping_the_server_and_a_connection_in_a_forked_child_does_not_disturb_the_parent(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "family");
    runtime().block_on(async {
        let server = Server::bind(&address).unwrap();
        let (served, client) = tokio::join!(server.accept(), Connection::connect(&address));
        let (mut served, mut client) = (served.unwrap(), client.unwrap());
        join(fork_among_threads(|| {
            let server = take_in_child(&server);
            assert_eq!(failure(server.try_accept()).kind(), ErrorKind::NameLost);
            drop(server.stats());
            drop((server, take_in_child(&served), take_in_child(&client)));
        }));
        let echo = async {
            while let Some(message) = served.recv().await.unwrap() {
                served.send(&message).await.unwrap();
            }
        };
        let talk = async {
            for number in 0..10u8 {
                client.send(&[number]).await.unwrap();
                assert_eq!(client.recv().await.unwrap().unwrap(), &[number]);
            }
            client.close().await.unwrap();
        };
        let both = async { tokio::join!(echo, talk) };
        tokio::time::timeout(DEADLINE, both).await.expect("the connection goes on");
        let more = async { tokio::join!(server.accept(), Connection::connect(&address)) };
        let (served, client) = tokio::time::timeout(DEADLINE, more).await.expect("the server goes on");
        drop((served.unwrap(), client.unwrap()));
        server.close().unwrap();
    });
}

/// The policy of a server is called under the lock of the server. Here it stops until the child has ended.
fn every_call_returns_in_a_child_that_is_forked_while_a_task_accepts(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "parked");
    let (is_parked, parked) = rustix::pipe::pipe().unwrap();
    let (may_go_on, go_on) = rustix::pipe::pipe().unwrap();
    let allow = move |_: &Peer| {
        rustix::io::write(&parked, b"x").unwrap();
        wait::readable(&may_go_on)
    };
    let (accepting_runtime, client_runtime) = (runtime(), runtime());
    let server = {
        let _inside = accepting_runtime.enter();
        ServerOptions::new().allow(allow).bind_tokio(&address).unwrap()
    };
    thread::scope(|scope| {
        let accepting = scope.spawn(|| drop(accepting_runtime.block_on(server.accept()).unwrap()));
        let connecting = scope.spawn(|| drop(client_runtime.block_on(Connection::connect(&address)).unwrap()));
        assert!(wait::readable(&is_parked));
        join(fork_among_threads(|| {
            let server = take_in_child(&server);
            assert_eq!(failure(server.try_accept()).kind(), ErrorKind::NameLost);
            drop((server.stats(), server.shutdown_handle()));
            server.close().unwrap();
        }));
        rustix::io::write(&go_on, b"x").unwrap();
        accepting.join().unwrap();
        connecting.join().unwrap();
    });
}
