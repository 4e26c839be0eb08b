use std::fs;
use std::thread;
use std::time::Duration;

use parlour::ErrorKind;

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
