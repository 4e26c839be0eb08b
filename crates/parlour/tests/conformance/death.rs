use std::time::Instant;

use parlour::ErrorKind;

use super::ENDS;
use super::api::{Setting, settings};
use super::link::{CHILD_ROLES, Room, WithChild, connect_pair};
use crate::support::wait::Sleeper;
use crate::support::{Child, SOON, data, trials};

trials! {
    for setting in settings() =>
        the_death_of_the_peer_between_messages_is_end_of_file,
        the_death_of_the_peer_wakes_a_receiver_immediately,
        the_death_of_the_peer_wakes_a_sender_immediately,
        the_next_server_takes_the_name_of_a_killed_one_immediately,
        a_server_outlives_its_clients unless setting.is_a_hub(ENDS);
}

fn the_death_of_the_peer_between_messages_is_end_of_file(setting: Setting) {
    for role in CHILD_ROLES {
        let WithChild { mut child, mut connection, room: _room } = WithChild::new(setting, role);
        assert_eq!(child.ask("send 100 1"), "sent");
        assert_eq!(child.ask("send 200 2"), "sent");
        data::check(&connection.recv().unwrap().expect("a message"), 1, 100);
        child.kill();
        data::check(&connection.recv().unwrap().expect("the message that was sent before the death"), 2, 200);
        assert_eq!(connection.recv().unwrap(), None, "the {role} died");
        assert_eq!(connection.send(b"too late").unwrap_err().kind(), ErrorKind::Disconnected, "the {role} died");
    }
}

fn the_death_of_the_peer_wakes_a_receiver_immediately(setting: Setting) {
    for role in CHILD_ROLES {
        let WithChild { mut child, mut connection, room: _room } = WithChild::new(setting, role);
        let ended = killed_while(&mut child, move || connection.recv());
        assert_eq!(ended.unwrap(), None, "the {role} died");
    }
}

fn the_death_of_the_peer_wakes_a_sender_immediately(setting: Setting) {
    for role in CHILD_ROLES {
        let WithChild { mut child, mut connection, room: _room } = WithChild::new(setting, role);
        let ended = killed_while(&mut child, move || {
            loop {
                if let Err(error) = connection.send(data::message(0, 50_000)) {
                    return error.kind();
                }
            }
        });
        assert_eq!(ended, ErrorKind::Disconnected, "the {role} died");
    }
}

/// Runs `work` in a thread and kills the child when the thread sleeps. Returns the result of the work, which must come
/// within [`SOON`].
fn killed_while<T: Send + 'static>(child: &mut Child, work: impl FnOnce() -> T + Send + 'static) -> T {
    let sleeper = Sleeper::start(work);
    let killed = Instant::now();
    child.kill();
    let (result, ended) = sleeper.result();
    let took = ended.saturating_duration_since(killed);
    assert!(took < SOON, "the call returned {took:?} after the death of the peer");
    result
}

fn the_next_server_takes_the_name_of_a_killed_one_immediately(setting: Setting) {
    let WithChild { mut child, connection, room } = WithChild::new(setting, "server");
    let Room { address, base, .. } = room;
    let refused = setting.bind(&address).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NameInUse);
    assert_eq!(refused.holder().expect("the error has the owner record of the holder").pid, child.pid());
    child.kill();
    let mut old = connection;
    for _ in 0..3 {
        let server = setting.bind(&address).unwrap();
        let (mut client, mut served) = connect_pair(setting, &server, &address, &Default::default());
        client.send(b"hello").unwrap();
        assert_eq!(served.recv().unwrap().expect("a message"), b"hello");
        drop(server);
    }
    assert_eq!(old.recv().unwrap(), None, "clients of the dead server receive nothing from the new one");
    assert_eq!(base.files(), [""; 0]);
}

/// The death of a client at any point does not affect the server.
fn a_server_outlives_its_clients(setting: Setting) {
    let WithChild { mut connection, mut child, room } = WithChild::new(setting, "client");
    let Room { server, address, base } = room;
    let server = server.expect("this process serves");
    for _ in 0..5 {
        child.kill();
        assert_eq!(connection.recv().unwrap(), None);
        child = Child::spawn("client", &[&address]);
        child.say("connect");
        connection = server.accept().unwrap();
        assert!(child.line().starts_with("connected "));
        connection.send(data::message(1, 10)).unwrap();
        assert_eq!(child.ask("recv"), data::said(data::message(1, 10)));
    }
    drop(server);
    assert_eq!(base.files(), [""; 0]);
    assert!(setting.connect(&address).is_err());
}
