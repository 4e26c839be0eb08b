use std::thread;
use std::time::Instant;

use parlour::ErrorKind;

use super::ENDS;
use super::api::{Server, Setting, settings};
use super::link::Link;
use crate::support::{Base, SOON, data, trials};

trials! {
    for setting in settings() =>
        closing_a_server_removes_its_files_and_leaves_its_connections unless setting.is_a_hub(ENDS),
        a_client_in_the_queue_of_a_dropped_server_does_not_hang unless setting.is_a_hub(ENDS),
        a_name_can_be_taken_and_released_many_times;
}

fn closing_a_server_removes_its_files_and_leaves_its_connections(setting: Setting) {
    let ends: [fn(Server); 2] = [|server| server.close().unwrap(), drop];
    for end in ends {
        let Link { mut client, mut served, server, address, base } = Link::new(setting);
        assert_eq!(server.name(), "room");
        assert_eq!(server.path(), base.name("room"));
        assert_eq!(server.transports(), [setting.transport]);
        end(server);
        assert_eq!(base.files(), [""; 0]);
        assert_eq!(setting.connect(&address).unwrap_err().kind(), ErrorKind::NoServer);
        for number in 0..100 {
            client.send(data::message(number, number)).unwrap();
            data::check(&served.recv().unwrap().expect("a message"), number, number);
            served.send(data::message(number, 2 * number)).unwrap();
            data::check(&client.recv().unwrap().expect("a message"), number, 2 * number);
        }
        client.finish().unwrap();
        assert_eq!(served.recv().unwrap(), None);
        // The name is free.
        setting.bind(&address).unwrap().close().unwrap();
    }
}

/// The server never accepts the client, and then is dropped.
fn a_client_in_the_queue_of_a_dropped_server_does_not_hang(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    let server = setting.bind(&address).unwrap();
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            // The client is either rejected, or it enters the queue and then reads end of file.
            let end = setting.connect(&address).and_then(|mut connection| connection.recv());
            (end, Instant::now())
        });
        assert!(server.wait_readable(), "a client has connected");
        let dropped = Instant::now();
        drop(server);
        let (end, at) = client.join().unwrap();
        assert!(!matches!(end, Ok(Some(_))), "{end:?}");
        let took = at.saturating_duration_since(dropped);
        assert!(took < SOON, "the client got {end:?} after {took:?}");
    });
    assert_eq!(base.files(), [""; 0]);
}

/// A server that is bound repeatedly works each time and leaves the same files behind.
fn a_name_can_be_taken_and_released_many_times(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    for round in 0..30 {
        let server = setting.bind(&address).unwrap();
        thread::scope(|scope| {
            let client = scope.spawn(|| {
                let mut connection = setting.connect(&address).unwrap();
                connection.send(data::message(round, 10)).unwrap();
                connection.recv().unwrap()
            });
            let mut served = server.accept().unwrap();
            data::check(&served.recv().unwrap().expect("a message"), round, 10);
            drop(served);
            assert_eq!(client.join().unwrap(), None);
        });
    }
    assert_eq!(base.files(), [""; 0]);
}
