use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, ErrorKind, Transport};

use super::SHUT;
use super::api::{Setting, settings};
use super::link::{Link, ShutDownAtEnd};
use crate::support::wait::Sleeper;
use crate::support::{Base, DEADLINE, trials};

trials! {
    for setting in settings() =>
        shutdown_ends_a_blocked_accept,
        shutdown_at_any_moment_ends_accept,
        shutdown_is_permanent_and_ends_every_call_in_every_thread unless setting.is_a_hub(SHUT),
        incoming_ends_at_shutdown,
        clients_that_connected_before_a_shutdown_are_accepted unless without_a_queue(setting),
        a_restart_under_load_loses_no_client unless setting.is_a_hub(ENDS_AT_ONCE),
        a_lost_name_ends_every_accept unless setting.is_a_hub(SHUT),
        a_server_that_learns_of_its_loss_with_a_client_lets_nobody_in unless setting.is_a_hub(SHUT),
        incoming_ends_after_an_error;
}

fn shutdown_ends_a_blocked_accept(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    for _ in 0..30 {
        let server = setting.bind(&address).unwrap();
        let handle = server.shutdown_handle();
        let sleeper = Sleeper::start(move || server.accept().unwrap_err().kind());
        handle.shutdown();
        assert_eq!(sleeper.result().0, ErrorKind::Shutdown);
        // The server is dropped. The handle must still be harmless.
        handle.shutdown();
    }
}

/// The call of `shutdown` races with the start of `accept`.
fn shutdown_at_any_moment_ends_accept(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    for _ in 0..100 {
        let server = setting.bind(&address).unwrap();
        let handle = server.shutdown_handle();
        let accepting = thread::spawn(move || server.accept().unwrap_err().kind());
        handle.shutdown();
        assert_eq!(accepting.join().unwrap(), ErrorKind::Shutdown);
    }
}

fn shutdown_is_permanent_and_ends_every_call_in_every_thread(setting: Setting) {
    let Link { mut client, mut served, server, base: _base, .. } = Link::new(setting);
    let handle = server.shutdown_handle();
    thread::scope(|scope| {
        let accepting: Vec<_> = (0..4).map(|_| scope.spawn(|| server.accept().unwrap_err().kind())).collect();
        let other = handle.clone();
        scope.spawn(move || other.shutdown());
        for thread in accepting {
            assert_eq!(thread.join().unwrap(), ErrorKind::Shutdown);
        }
    });
    for _ in 0..2 {
        assert_eq!(server.accept().unwrap_err().kind(), ErrorKind::Shutdown);
        assert_eq!(server.accept_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::Shutdown);
        assert_eq!(server.accept_timeout(Duration::ZERO).unwrap_err().kind(), ErrorKind::Shutdown);
        assert_eq!(server.try_accept().unwrap_err().kind(), ErrorKind::Shutdown);
        assert!(server.incoming().next().is_none());
        assert!(server.wait_readable(), "the descriptor is readable after a shutdown");
    }
    client.send(b"open connections continue").unwrap();
    assert_eq!(served.recv().unwrap().expect("a message"), b"open connections continue");
}

fn incoming_ends_at_shutdown(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    let server = setting.bind(&address).unwrap();
    let handle = server.shutdown_handle();
    thread::scope(|scope| {
        let _end = ShutDownAtEnd(server.shutdown_handle());
        let serving = scope.spawn(|| {
            let mut incoming = server.incoming();
            let count = incoming.by_ref().map(|connection| connection.unwrap().close().unwrap()).count();
            assert!(incoming.next().is_none(), "the end is permanent");
            count
        });
        for _ in 0..3 {
            let mut connection = setting.connect(&address).unwrap();
            assert_eq!(connection.recv().unwrap(), None);
        }
        handle.shutdown();
        assert_eq!(serving.join().unwrap(), 3);
    });
}

/// Another process removes the files of the server, so that clients cannot find it any more.
fn incoming_ends_after_an_error(setting: Setting) {
    let base = Base::new();
    let server = setting.bind(setting.address(&base, "room")).unwrap();
    fs::remove_dir_all(server.path()).unwrap();
    let mut incoming = server.incoming();
    let error = incoming.next().expect("the error is an item").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameLost);
    assert!(incoming.next().is_none(), "the error is reported once");
}

const ENDS_AT_ONCE: &str = "a hub ends its connections at a shutdown";

/// Returns the reason if no client can have connected before the server accepts it.
fn without_a_queue(setting: Setting) -> Option<&'static str> {
    match setting.transport {
        Transport::Unix | Transport::Packet => setting.is_a_hub(ENDS_AT_ONCE),
        _ => Some("a client is connected when the server has answered it"),
    }
}

/// The clients are in the queue of the kernel when the shutdown is requested.
fn clients_that_connected_before_a_shutdown_are_accepted(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    let server = setting.bind(&address).unwrap();
    let mut clients: Vec<_> = (0..5u8).map(|_| setting.connect(&address).unwrap()).collect();
    for (number, client) in (0..).zip(&mut clients) {
        client.send(&[number]).unwrap();
    }
    server.shutdown_handle().shutdown();
    let mut served = vec![server.accept().unwrap()];
    assert_eq!(setting.connect(&address).unwrap_err().kind(), ErrorKind::NoServer);
    assert!(!server.path().join(setting.transport.to_string()).exists(), "no client finds the server");
    served.extend((1..5).map(|_| server.accept_timeout(DEADLINE).unwrap()));
    for (number, connection) in (0..).zip(&mut served) {
        assert_eq!(connection.recv().unwrap().expect("a message"), &[number]);
        connection.send(&[number, number]).unwrap();
    }
    for (number, client) in (0..).zip(&mut clients) {
        assert_eq!(client.recv().unwrap().expect("an answer"), &[number, number]);
    }
    assert_eq!(server.try_accept().unwrap_err().kind(), ErrorKind::Shutdown);
    assert_eq!(server.accept().unwrap_err().kind(), ErrorKind::Shutdown);
    assert!(server.incoming().next().is_none());
    assert_eq!(base.files(), ["room/", "room/c/", "room/lock"]);
    server.close().unwrap();
}

/// A server ends in order and the next one starts, again and again. A client whose attempt to connect fails knows that
/// and tries again. A client that has connected gets its answer.
fn a_restart_under_load_loses_no_client(setting: Setting) {
    const CLIENTS: usize = 4;
    const CALLS: usize = 500;
    const PER_SERVER: usize = 25;
    let base = Base::new();
    let address = setting.address(&base, "room");
    let options = ConnectOptions::new().wait_for_server(DEADLINE);
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                for call in 0..CALLS {
                    let give_up = Instant::now() + DEADLINE;
                    let mut connection = loop {
                        match setting.connect_with(&options, &address) {
                            Ok(connection) => break connection,
                            Err(error) => assert!(Instant::now() < give_up, "call {call}: {error:?}"),
                        }
                    };
                    let message = call.to_ne_bytes();
                    connection.send(&message).unwrap();
                    let answer = connection.recv_timeout(DEADLINE);
                    assert_eq!(answer.unwrap().expect("an answer"), &message, "call {call}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while answered.load(Ordering::Relaxed) < CLIENTS * CALLS {
            let server = setting.bind(&address).unwrap();
            let mut count = 0;
            while count < PER_SERVER && answered.load(Ordering::Relaxed) < CLIENTS * CALLS {
                if let Ok(mut connection) = server.accept_timeout(Duration::from_millis(50)) {
                    count += 1;
                    scope.spawn(move || answer_all(&mut connection));
                }
            }
            server.shutdown_handle().shutdown();
            for connection in server.incoming() {
                let mut connection = connection.unwrap();
                scope.spawn(move || answer_all(&mut connection));
            }
            server.close().unwrap();
        }
    });
}

fn answer_all(connection: &mut super::api::Connection) {
    while let Some(message) = connection.recv().unwrap() {
        connection.send(&message).unwrap();
    }
}

/// One thread takes the event that reports the loss. The others learn of it as well.
fn a_lost_name_ends_every_accept(setting: Setting) {
    let base = Base::new();
    let server = setting.bind(setting.address(&base, "room")).unwrap();
    thread::scope(|scope| {
        let _end = ShutDownAtEnd(server.shutdown_handle());
        let accepting: Vec<_> = (0..4).map(|_| scope.spawn(|| server.accept_timeout(DEADLINE).unwrap_err())).collect();
        fs::remove_dir_all(server.path()).unwrap();
        for thread in accepting {
            assert_eq!(thread.join().unwrap().kind(), ErrorKind::NameLost);
        }
        for _ in 0..2 {
            assert!(server.wait_readable(), "the descriptor is readable after the loss");
            assert_eq!(server.try_accept().unwrap_err().kind(), ErrorKind::NameLost);
        }
    });
}

/// inotify(7) does not report that a directory further up was renamed. The server learns of it when a client connects a
/// second after the last check.
fn a_server_that_learns_of_its_loss_with_a_client_lets_nobody_in(setting: Setting) {
    let base = Base::new();
    let (before, after) = (base.path().join("before"), base.path().join("after"));
    fs::create_dir(&before).unwrap();
    let in_directory =
        |directory: &std::path::Path| format!("{}:{}/names/room", setting.transport, directory.display());
    let server = setting.bind(in_directory(&before)).unwrap();
    fs::rename(&before, &after).unwrap();
    let address = in_directory(&after);
    thread::scope(|scope| {
        let _end = ShutDownAtEnd(server.shutdown_handle());
        let give_up = Instant::now() + DEADLINE;
        loop {
            let client = scope.spawn(|| setting.connect(&address).and_then(|mut connection| connection.recv()));
            match server.accept() {
                Ok(connection) => {
                    // Another check in between would need a second.
                    let next = server.try_accept().map(drop).unwrap_err();
                    assert!(matches!(next, super::api::TryRecvError::Empty), "a lost server let a client in: {next:?}");
                    drop(connection);
                    assert!(matches!(client.join().unwrap(), Ok(None)));
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NameLost);
                    // The server is still open, and the client learns of the loss nevertheless.
                    let end = client.join().unwrap();
                    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
                    break;
                }
            }
            assert!(Instant::now() < give_up, "the server has not learned of the loss");
        }
    });
    fs::remove_dir_all(&after).unwrap();
}
