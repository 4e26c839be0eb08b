//! A process with a hub that forks.

use parlour::hub::{Event, Hub};
use parlour::{Connection, ErrorKind, Transport};
use rustix::fd::OwnedFd;
use rustix::pipe::{PipeFlags, pipe_with};

use super::forking::{fork, join};
use super::room::event;
use crate::support::{Base, Child, DEADLINE, Role, failure, trials, wait};

trials! {
    for transport in Transport::ALL =>
        a_forked_child_cannot_use_the_hub_and_does_not_disturb_it;
}

/// `hub ADDRESS`: prints `ready`, receives a first message, and forks a child that tries to use the hub and drops it.
/// Then the process echoes until every client has left, and ends.
pub const HUB: Role = Role { name: "hub", play: hub };

fn hub(arguments: &[String]) {
    let mut hub = Hub::bind(&arguments[0]).unwrap();
    println!("ready");
    let client = loop {
        if let Event::Message(client, _) = event(&mut hub) {
            break client;
        }
    };
    hub.send(client, b"sent before the fork").unwrap();
    let (child_is_done, done) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (may_end, end) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut hub = Some(hub);
    let child = fork(|| {
        let mut hub = hub.take().unwrap();
        let errors = [
            hub.next_event().map(drop).unwrap_err(),
            failure(hub.try_next_event()),
            hub.next_event_timeout(DEADLINE).map(drop).unwrap_err(),
            hub.send(client, b"from the child").unwrap_err(),
            hub.broadcast(b"from the child").map(drop).unwrap_err(),
            hub.flush().unwrap_err(),
            hub.disconnect(client).unwrap_err(),
            hub.finish(client).unwrap_err(),
        ];
        assert!(errors.iter().all(|error| error.kind() == ErrorKind::NameLost), "{errors:?}");
        assert_eq!((hub.clients().len(), hub.stats().open), (2, 2));
        assert_eq!(hub.close().unwrap_err().kind(), ErrorKind::NameLost);
        tell(&done);
        // The child lives while the parent serves.
        assert!(wait::readable(&may_end));
    });
    let mut hub = hub.unwrap();
    assert!(wait::readable(&child_is_done), "the child has tried every call");
    let mut inside = 1;
    while inside > 0 {
        match event(&mut hub) {
            Event::Joined(..) => inside += 1,
            Event::Message(client, message) => hub.send(client, &message).unwrap(),
            Event::Left(..) => inside -= 1,
            _ => {}
        }
    }
    tell(&end);
    join(child);
    println!("done");
}

fn tell(pipe: &OwnedFd) {
    assert_eq!(rustix::io::write(pipe, b"x"), Ok(1));
}

fn a_forked_child_cannot_use_the_hub_and_does_not_disturb_it(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "room");
    let mut serving = Child::spawn("hub", std::slice::from_ref(&address));
    serving.expect("ready");
    let mut first = Connection::connect(&address).unwrap();
    let mut second = Connection::connect(&address).unwrap();
    first.send(b"fork").unwrap();
    assert_eq!(first.recv_timeout(DEADLINE).unwrap().unwrap(), b"sent before the fork");
    for number in 0..3u8 {
        for connection in [&mut first, &mut second] {
            connection.send(&[number]).unwrap();
            assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), &[number]);
        }
    }
    let mut third = Connection::connect(&address).unwrap();
    third.send(b"new").unwrap();
    assert_eq!(third.recv_timeout(DEADLINE).unwrap().unwrap(), b"new");
    assert!(!first.has_message(), "the message that was sent before the fork arrived once");
    drop((first, second, third));
    serving.expect("done");
    serving.finish();
}
