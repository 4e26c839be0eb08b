//! Clients and servers of each transport.

use std::fs;

use parlour::{ConnectOptions, Connection, ErrorKind, Server, Transport};

use crate::hosts::Hosts;
use crate::{PATIENCE, assert_echo, assert_lost};

/// Returns a client on host `b` that names its transport.
fn client_over(hosts: &Hosts, transport: &str) -> Connection {
    let address = format!("{transport}:{}", hosts.path("b").join("wc").display());
    ConnectOptions::new().wait_for_server(PATIENCE).connect(address).unwrap()
}

#[test]
fn a_client_of_each_transport_is_served_and_told_how_it_ends() {
    let mut hosts = Hosts::start(&["a"]);
    assert_echo(&mut client_over(&hosts, "unix"));
    assert_echo(&mut client_over(&hosts, "fifo"));
    let missing = format!("shm:{}", hosts.path("b").join("wc").display());
    assert_eq!(Connection::connect(missing).unwrap_err().kind(), ErrorKind::NoServer);
    // A client that names no transport has none of those that cost copies.
    assert_eq!(hosts.client().transport(), Transport::Unix);
    hosts.wait_for_status("a", |status| status.exports[0].conversations == 0);
    fs::remove_file(hosts.path("end")).unwrap();

    let from = "from = [\"a.example\"]";
    hosts.reconfigure("b", from, &format!("{from}\ntransports = [\"unix\", \"fifo\", \"packet\", \"shm\"]"));
    hosts.wait_for_line("b", "were read again");
    for transport in ["unix", "fifo", "packet", "shm"] {
        let mut client = client_over(&hosts, transport);
        assert_echo(&mut client);
        client.finish().unwrap();
        // The server sends this after the end of the client, and ends then.
        assert_eq!(client.recv_timeout(PATIENCE).unwrap().unwrap(), b"the end", "{transport}");
        assert_eq!(client.recv_timeout(PATIENCE).unwrap(), None, "{transport}");
        hosts.assert_server_saw("clean");
    }
    for transport in ["fifo", "packet", "shm"] {
        let mut client = client_over(&hosts, transport);
        assert_echo(&mut client);
        client.abort();
        hosts.assert_server_saw("error");
    }
    let mut clients: Vec<_> = ["unix", "fifo", "packet", "shm"].map(|over| client_over(&hosts, over)).into();
    clients.iter_mut().for_each(assert_echo);
    hosts.wait_for_status("b", |status| status.imports[0].conversations == 4);
    hosts.kill("bridge a");
    for mut client in clients {
        assert_lost(&client.recv_timeout(PATIENCE).unwrap_err());
    }
    hosts.wait_for_status("b", |status| status.imports[0].conversations == 0);
}

#[test]
fn a_bridge_that_ends_in_order_is_an_error_for_a_client_of_each_transport() {
    let mut hosts = Hosts::start(&["a"]);
    // By then the bridge takes signals.
    assert_echo(&mut hosts.client());
    let from = "from = [\"a.example\"]";
    hosts.reconfigure("b", from, &format!("{from}\ntransports = [\"fifo\", \"packet\", \"shm\"]"));
    hosts.wait_for_line("b", "were read again");
    let mut clients: Vec<_> = ["fifo", "packet", "shm"].map(|over| client_over(&hosts, over)).into();
    clients.iter_mut().for_each(assert_echo);
    hosts.terminate("bridge b");
    for mut client in clients {
        assert_lost(&client.recv_timeout(PATIENCE).unwrap_err());
    }
}

#[test]
fn a_server_of_each_transport_is_exported() {
    let mut hosts = Hosts::start(&["a"]);
    hosts.kill("server a");
    hosts.wait_until_nobody_holds_the_name();
    for transport in ["fifo", "packet", "shm"] {
        let address = format!("{transport}:{}", hosts.path("a").join("wc").display());
        let server = Server::bind(address).unwrap();
        let serving = std::thread::spawn(move || {
            let mut served = server.accept_timeout(PATIENCE).unwrap();
            let host = served.peer().origin().unwrap().host().to_owned();
            while let Some(message) = served.recv_timeout(PATIENCE).unwrap() {
                served.send(&*message).unwrap();
            }
            served.send(b"bye").unwrap();
            served.close_timeout(PATIENCE).unwrap();
            let mut served = server.accept_timeout(PATIENCE).unwrap();
            served.recv_timeout(PATIENCE).unwrap();
            served.abort();
            server.close().unwrap();
            host
        });
        let mut client = hosts.client();
        assert_echo(&mut client);
        client.finish().unwrap();
        assert_eq!(client.recv_timeout(PATIENCE).unwrap().unwrap(), b"bye", "{transport}");
        assert_eq!(client.recv_timeout(PATIENCE).unwrap(), None, "{transport}");
        let mut client = hosts.client();
        client.send(b"abort").unwrap();
        assert_lost(&client.recv_timeout(PATIENCE).unwrap_err());
        assert_eq!(serving.join().unwrap(), "b.example");
        hosts.wait_until_nobody_holds_the_name();
    }
}
