use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, ErrorKind};

use super::api::{Server, Setting, echo, settings};
use crate::support::wait::Sleeper;
use crate::support::{Base, Child, DEADLINE, SOON, trials};

trials! {
    for setting in settings() =>
        without_a_server_connecting_fails_immediately,
        waiting_for_a_server_ends_at_its_deadline,
        a_client_waits_for_a_server_that_starts_later,
        a_client_waits_although_the_base_does_not_exist,
        a_client_waits_while_its_server_restarts,
        a_client_waits_while_its_server_restarts_and_the_old_directory_is_open,
        a_client_waits_while_a_killed_server_is_replaced;
}

fn without_a_server_connecting_fails_immediately(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    let assert_no_server = |what: &str| {
        let before = Instant::now();
        let error = setting.connect(&address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoServer, "{what}: {error}");
        assert!(before.elapsed() < SOON, "{what}: the call failed after {:?}", before.elapsed());
    };
    assert_no_server("before the first server");
    setting.bind(&address).unwrap().close().unwrap();
    assert_no_server("after close");
    let mut server = Child::spawn("hold", &[&address]);
    server.expect("ready");
    server.kill();
    assert_no_server("after a kill");

    let missing = format!("{}:{}", setting.transport, base.path().join("no/such/base/room").display());
    assert_eq!(setting.connect(missing).unwrap_err().kind(), ErrorKind::NoServer);
}

fn waiting_for_a_server_ends_at_its_deadline(setting: Setting) {
    let base = Base::new();
    let wait_limit = Duration::from_millis(100);
    let before = Instant::now();
    let error = setting
        .connect_with(&ConnectOptions::new().wait_for_server(wait_limit), setting.address(&base, "room"))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoServer);
    let took = before.elapsed();
    assert!((wait_limit..SOON).contains(&took), "the call failed after {took:?}");
}

fn a_client_waits_for_a_server_that_starts_later(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    a_waiting_client_finds(setting, &address, || setting.bind(&address).unwrap());
}

fn a_client_waits_although_the_base_does_not_exist(setting: Setting) {
    let base = Base::new();
    let address = format!("{}:{}", setting.transport, base.path().join("above/base/room").display());
    a_waiting_client_finds(setting, &address, || {
        DirBuilder::new().mode(0o700).create(base.path().join("above")).unwrap();
        setting.bind(&address).unwrap()
    });
}

fn a_client_waits_while_its_server_restarts(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    let mut server = setting.bind(&address).unwrap();
    for _ in 0..10 {
        server.close().unwrap();
        server = a_waiting_client_finds(setting, &address, || setting.bind(&address).unwrap());
    }
}

/// The kernel reports to a watch that the old directory is gone only when nobody has it open any more.
fn a_client_waits_while_its_server_restarts_and_the_old_directory_is_open(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    let mut server = setting.bind(&address).unwrap();
    for _ in 0..3 {
        let open = File::open(base.name("room")).unwrap();
        server.close().unwrap();
        server = a_waiting_client_finds(setting, &address, || setting.bind(&address).unwrap());
        drop(open);
    }
}

fn a_client_waits_while_a_killed_server_is_replaced(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    for _ in 0..3 {
        let mut server = Child::spawn("hold", &[&address]);
        server.expect("ready");
        server.kill();
        a_waiting_client_finds(setting, &address, || setting.bind(&address).unwrap());
    }
}

/// Starts a client, calls `start` when the client sleeps, and exchanges messages with it.
fn a_waiting_client_finds(setting: Setting, address: &str, start: impl FnOnce() -> Server) -> Server {
    let waiting = Sleeper::start({
        let address = address.to_owned();
        move || {
            let connected = setting.connect_with(&ConnectOptions::new().wait_for_server(DEADLINE), address);
            let at = Instant::now();
            let mut connection = connected.unwrap();
            connection.send(b"found you").unwrap();
            assert_eq!(connection.recv().unwrap().expect("a reply"), b"found you");
            at
        }
    });
    let started = Instant::now();
    let server = start();
    echo(server.accept_timeout(DEADLINE).unwrap());
    let took = waiting.result().0.saturating_duration_since(started);
    assert!(took < SOON, "the server was found after {took:?}");
    server
}
