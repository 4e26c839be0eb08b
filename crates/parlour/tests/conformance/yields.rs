use std::thread;

use parlour::{ErrorKind, ServerOptions};

use super::LEAVES_LATER;
use super::api::{Setting, settings};
use crate::support::{Base, DEADLINE, trials};

trials! {
    for setting in settings() =>
        a_name_that_is_yielded_goes_to_the_next_server_and_comes_back unless setting.is_a_hub(LEAVES_LATER);
}

fn a_name_that_is_yielded_goes_to_the_next_server_and_comes_back(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "yielded");
    let yielding = ServerOptions::new().yields(true);
    let mut connections = Vec::new();
    for _ in 0..2 {
        let stand_in = setting.bind_with(&yielding, &address).unwrap();
        connections.push(thread::scope(|scope| {
            let client = scope.spawn(|| setting.connect(&address).unwrap());
            (stand_in.accept_timeout(DEADLINE).unwrap(), client.join().unwrap())
        }));
        let server = thread::scope(|scope| {
            let next = scope.spawn(|| setting.bind(&address).unwrap());
            assert_eq!(stand_in.accept_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::HandedOver);
            next.join().unwrap()
        });
        stand_in.close().unwrap();
        let error = setting.bind_with(&yielding, &address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NameInUse, "{error}");
        connections.push(thread::scope(|scope| {
            let client = scope.spawn(|| setting.connect(&address).unwrap());
            (server.accept_timeout(DEADLINE).unwrap(), client.join().unwrap())
        }));
        server.close().unwrap();
        for (served, client) in &mut connections {
            client.send(b"hello").unwrap();
            assert_eq!(served.recv().unwrap().unwrap(), b"hello");
            served.send(b"and back").unwrap();
            assert_eq!(client.recv().unwrap().unwrap(), b"and back");
        }
    }
    assert_eq!(base.files(), [""; 0]);
}
