//! The function that is called after each connect, and errors that end the wait for a server.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, ErrorKind, Reconnect, Server, ServerOptions, Session, Transport};

use super::ends::serve;
use crate::by_hand::user::{directory_of, new_uid, no_other_users};
use crate::support::wait::Sleeper;
use crate::support::{Base, Child, DEADLINE, SOON, assert_tells, trials};

trials! {
    a_name_that_another_user_has_taken_is_denied_at_once unless no_other_users(),
    an_unsafe_base_is_an_error_at_once;

    for transport in Transport::ALL =>
        the_hook_runs_after_each_connect_before_anything_else,
        a_hook_that_finds_no_server_is_called_again,
        a_hook_with_another_error_ends_the_call_and_the_connection,
        a_server_that_admits_nobody_is_an_error_at_once;
}

fn the_hook_runs_after_each_connect_before_anything_else(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let server = Server::bind(&address).unwrap();
    let mut number = 0;
    let mut session = Session::new(&address).unwrap().on_connect(move |connection| {
        number += 1;
        Ok(connection.send(&format!("subscribe {number}"))?)
    });
    for number in 1..=3 {
        let mut served = serve(&server, &mut session);
        session.send(b"a note").unwrap();
        for expected in [format!("subscribe {number}").as_bytes(), b"a note"] {
            assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), expected);
        }
        drop(served);
        let error = session.recv_timeout(DEADLINE).unwrap_err();
        assert_eq!(error.loss().unwrap().sent(), 1, "what the hook sends does not count: {error}");
    }
}

/// The server closes the first connections in the middle of the hook.
fn a_hook_that_finds_no_server_is_called_again(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let server = Server::bind(&address).unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let mut session = Session::new(&address).unwrap().on_connect(move |connection| {
        counted.fetch_add(1, Ordering::Relaxed);
        connection.send(b"log in")?;
        match connection.recv_timeout(DEADLINE)? {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    });
    let serving = Sleeper::start(move || {
        for _ in 0..3 {
            drop(server.accept_timeout(DEADLINE).unwrap());
        }
        let mut served = server.accept_timeout(DEADLINE).unwrap();
        assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), b"log in");
        served.send(b"welcome").unwrap();
        served.send(b"a note").unwrap();
        (served, server)
    });
    assert_eq!(session.recv_timeout(DEADLINE).unwrap(), b"a note");
    assert_eq!(calls.load(Ordering::Relaxed), 4);
    drop(serving.result());
}

fn a_hook_with_another_error_ends_the_call_and_the_connection(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let mut server = Child::spawn("echo-server", &[&address]);
    server.expect("ready");
    let mut call = 0;
    let mut session = Session::new(&address).unwrap().on_connect(move |connection| {
        call += 1;
        match call {
            1 => Err(io::ErrorKind::PermissionDenied.into()),
            2 => Err(io::Error::other("wrong\npassword")),
            3 => Ok(connection.send(&vec![0; 17 << 20])?),
            _ => Ok(()),
        }
    });
    for (kind, text) in [
        (ErrorKind::Denied, "permission denied"),
        (ErrorKind::Io, r"wrong\npassword"),
        (ErrorKind::MessageTooLong, "16777216 are allowed"),
    ] {
        let began = Instant::now();
        let error = session.send(b"x").unwrap_err();
        assert!(began.elapsed() < SOON);
        assert_tells(&error);
        assert_eq!((error.kind(), error.loss()), (kind, None));
        assert!(error.to_string().contains(text) && error.to_string().contains("hook"), "{error}");
        assert!(session.connection().is_none());
    }
    session.send(b"at last").unwrap();
    assert_eq!(session.recv_timeout(DEADLINE).unwrap(), b"at last");
    server.finish();
}

fn a_server_that_admits_nobody_is_an_error_at_once(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let server = ServerOptions::new().allow(|_| false).bind(&address).unwrap();
    let stop = server.shutdown_handle();
    let serving = Sleeper::start(move || server.accept().unwrap_err().kind());
    let mut session = Session::new(&address).unwrap();
    for _ in 0..3 {
        let began = Instant::now();
        let error = session.recv_timeout(DEADLINE).unwrap_err();
        assert!(began.elapsed() < SOON);
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        // Over `unix` and `packet` the refusal comes over the connection.
        assert_eq!(error.loss().is_some(), matches!(transport, Transport::Unix | Transport::Packet));
    }
    stop.shutdown();
    assert_eq!(serving.result().0, ErrorKind::Shutdown);
}

fn a_name_that_another_user_has_taken_is_denied_at_once() {
    let top = Base::with_foreign_files();
    std::fs::set_permissions(top.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let uid = new_uid();
    let home = top.path().join(uid.to_string());
    directory_of(&home, uid, 0o755);
    let name = home.join("notes");
    let words = [format!("address={}", name.display()), format!("uid={uid}"), "mode=666".to_owned()];
    let mut server = Child::spawn("serve", &words);
    assert!(server.line().starts_with("ready"));
    let mut session = Session::new(name.to_str().unwrap()).unwrap();
    let began = Instant::now();
    let error = session.send(b"secret").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Denied | ErrorKind::UnsafeDirectory), "{error}");
    assert!(error.to_string().contains(&format!("uid {uid}")), "{error}");
    assert!(began.elapsed() < SOON);
    // The server of that user is accepted by a session that expects it.
    let options = ConnectOptions::new().server_uid(uid);
    let mut session = options.session(name.to_str().unwrap(), &Reconnect::new()).unwrap();
    session.send(b"open").unwrap();
    assert_eq!(session.recv_timeout(DEADLINE).unwrap(), b"open");
    server.finish();
}

fn an_unsafe_base_is_an_error_at_once() {
    let base = Base::new();
    let shared = base.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mut session = Session::new(shared.join("notes").to_str().unwrap()).unwrap();
    for _ in 0..2 {
        let error = session.recv_timeout(Duration::from_secs(60)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsafeDirectory, "{error}");
    }
}
