//! A process with a hub that forks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parlour::hub::{Client, Event, Hub, HubHandle, HubOptions, SlowClientPolicy};
use parlour::{Connection, ErrorKind, Transport, TrySendError};
use rustix::fd::OwnedFd;
use rustix::pipe::{PipeFlags, pipe_with};

use super::forking::{fork, fork_among_threads, join, take_in_child};
use super::room::{Room, event};
use crate::support::{Base, Child, DEADLINE, Role, failure, trials, wait};

trials! {
    for transport in Transport::ALL =>
        a_forked_child_cannot_use_the_hub_and_does_not_disturb_it,
        every_call_of_a_handle_returns_in_children_that_are_forked_among_sending_threads,
        a_wake_from_a_forked_child_wakes_the_hub_of_the_parent;
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
            hub.handle().map(drop).unwrap_err(),
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

/// In a forked child: calls everything that a handle has.
fn use_every_call(handle: HubHandle, client: Client) {
    for sent in [handle.send(client, b"from the child"), handle.clone().broadcast(b"from the child")] {
        match sent {
            Err(TrySendError::Failed(error)) => {
                assert_eq!(error.kind(), ErrorKind::NameLost, "{error}");
                assert!(error.to_string().contains("forked child"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    handle.wake();
    let _debug = format!("{handle:?}");
    drop(handle);
}

/// The threads hold the lock of the queue at some of the forks.
fn every_call_of_a_handle_returns_in_children_that_are_forked_among_sending_threads(transport: Transport) {
    const FORKS: usize = 100;
    // The client is not disconnected where the threads send faster than it receives.
    let mut room = Room::with(transport, &HubOptions::new().slow_client_policy(SlowClientPolicy::Wait(DEADLINE)));
    let (client, mut connection) = room.join();
    let handle = room.hub.handle().unwrap();
    let shutdown = room.hub.shutdown_handle();
    let stopping = AtomicBool::new(false);
    thread::scope(|scope| {
        let sending = [(); 3].map(|()| {
            scope.spawn(|| {
                let mut sent = 0_usize;
                while !stopping.load(Ordering::Relaxed) {
                    match handle.send(client, b"from the parent") {
                        Ok(()) => sent += 1,
                        Err(TrySendError::Full(_)) => thread::yield_now(),
                        Err(TrySendError::Failed(error)) => panic!("{error}"),
                    }
                }
                sent
            })
        });
        let receiving = scope.spawn(move || {
            let mut received = 0_usize;
            while let Some(message) = connection.recv_timeout(DEADLINE).unwrap() {
                assert_eq!(message, b"from the parent");
                received += 1;
            }
            received
        });
        let hub = room.hub;
        let serving = scope.spawn(move || {
            let mut hub = hub;
            let error = loop {
                match hub.next_event() {
                    Ok(Event::Woken) => {}
                    Ok(other) => panic!("{other:?}"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::Shutdown, "{error}");
            hub.close_timeout(DEADLINE).unwrap();
        });
        for _ in 0..FORKS {
            join(fork_among_threads(|| use_every_call(take_in_child(&handle), client)));
        }
        stopping.store(true, Ordering::Relaxed);
        let sent: usize = sending.map(|thread| thread.join().unwrap()).iter().sum();
        shutdown.shutdown();
        serving.join().unwrap();
        assert_eq!(receiving.join().unwrap(), sent);
    });
}

fn a_wake_from_a_forked_child_wakes_the_hub_of_the_parent(transport: Transport) {
    let mut room = Room::new(transport);
    let handle = room.hub.handle().unwrap();
    join(fork_among_threads(|| handle.wake()));
    assert!(matches!(room.event(), Event::Woken));
    room.assert_quiet();
}
