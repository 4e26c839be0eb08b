use std::thread;

use parlour::{ErrorKind, ServerOptions};

use super::LEAVES_LATER;
use super::api::{Connection, Server, Setting, settings};
use crate::support::{Base, DEADLINE, trials};

trials! {
    for setting in settings() =>
        a_name_moves_to_the_next_server_and_its_connections_stay unless setting.is_a_hub(LEAVES_LATER);
}

/// Connects a client, which `server` accepts.
fn connect(setting: Setting, server: &Server, address: &str) -> (Connection, Connection) {
    thread::scope(|scope| {
        let client = scope.spawn(|| setting.connect(address).unwrap());
        (server.accept_timeout(DEADLINE).unwrap(), client.join().unwrap())
    })
}

fn talk(served: &mut Connection, client: &mut Connection) {
    client.send(b"hello").unwrap();
    assert_eq!(served.recv().unwrap().unwrap(), b"hello");
    served.send(b"and back").unwrap();
    assert_eq!(client.recv().unwrap().unwrap(), b"and back");
}

fn a_name_moves_to_the_next_server_and_its_connections_stay(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "moving");
    let mut old = setting.bind(&address).unwrap();
    let mut connections = Vec::new();
    for _ in 0..3 {
        connections.push(connect(setting, &old, &address));
        let new = thread::scope(|scope| {
            let next = scope.spawn(|| setting.bind_with(&ServerOptions::new().take_over(DEADLINE), &address).unwrap());
            assert_eq!(old.accept_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::HandedOver);
            next.join().unwrap()
        });
        assert_eq!(old.accept_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::HandedOver);
        old.close().unwrap();
        old = new;
        connections.iter_mut().for_each(|(served, client)| talk(served, client));
    }
    let (mut served, mut client) = connect(setting, &old, &address);
    talk(&mut served, &mut client);
    old.close().unwrap();
    assert_eq!(base.files(), [""; 0]);
}
