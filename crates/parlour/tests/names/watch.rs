//! A watch on a name reports when its state has changed.

use std::os::fd::AsFd;
use std::time::Duration;

use parlour::inspect::{self, NameState, Watch};
use parlour::{Connection, ErrorKind, Server, ServerOptions, Transport};

use crate::holder::serve_both;
use crate::support::wait::{Sleeper, readable_within};
use crate::support::{Base, DEADLINE, trials};

trials! {
    a_watch_reports_a_server_in_a_base_that_did_not_exist,
    a_watch_reports_the_end_of_a_server,
    a_watch_reports_the_death_of_a_server,
    a_watch_of_a_name_that_is_malformed_is_an_error;

    for transport in Transport::ALL =>
        a_watch_reports_that_another_server_has_taken_the_name_over,
        a_watch_is_quiet_while_clients_come_and_go;
}

/// Longer than a watch looks again after a lock was closed.
const SETTLED: Duration = Duration::from_millis(900);

fn is_live(name: &str) -> bool {
    let resolution = inspect::resolve(name).unwrap();
    assert_eq!(resolution.found().is_some(), resolution.client.is_ok());
    resolution.found().is_some_and(|name| matches!(name.state, NameState::Live))
}

/// Waits for reports until the state is the expected one, as a program does.
fn look_until(watch: &mut Watch, mut is_expected: impl FnMut() -> bool) {
    while !is_expected() {
        watch.wait_timeout(DEADLINE).expect("a change was not reported");
    }
}

/// Waits until the watch has reported everything that happened before.
fn settle(watch: &mut Watch) {
    while readable_within(watch.as_fd(), SETTLED) {
        watch.changed().unwrap();
    }
    assert!(!watch.changed().unwrap());
    assert_eq!(watch.wait_timeout(Duration::ZERO).unwrap_err().kind(), ErrorKind::TimedOut);
}

fn a_watch_reports_a_server_in_a_base_that_did_not_exist() {
    let base = Base::new();
    let name = base.path().join("later/name");
    let name = name.to_str().unwrap();
    let mut watch = inspect::watch(name).unwrap();
    settle(&mut watch);
    let watched = name.to_owned();
    let sleeper = Sleeper::start(move || look_until(&mut watch, || is_live(&watched)));
    let server = Server::bind(name).unwrap();
    sleeper.result();
    server.close().unwrap();
    std::fs::remove_dir(base.path().join("later")).unwrap();
}

fn a_watch_reports_the_end_of_a_server() {
    let base = Base::new();
    let name = base.name("name").display().to_string();
    let mut watch = inspect::watch(&name).unwrap();
    for _ in 0..3 {
        let server = Server::bind(&name).unwrap();
        look_until(&mut watch, || is_live(&name));
        settle(&mut watch);
        server.close().unwrap();
        look_until(&mut watch, || !is_live(&name));
    }
}

/// The kernel reports that the lock was closed before it releases the lock.
fn a_watch_reports_the_death_of_a_server() {
    let base = Base::new();
    let name = base.name("name").display().to_string();
    let mut watch = inspect::watch(&name).unwrap();
    for _ in 0..10 {
        let mut holder = serve_both(&name);
        look_until(&mut watch, || is_live(&name));
        watch.changed().unwrap();
        let watched = name.clone();
        let sleeper = Sleeper::start(move || {
            look_until(&mut watch, || !is_live(&watched));
            watch
        });
        holder.kill();
        watch = sleeper.result().0;
    }
    Server::bind(&name).unwrap().close().unwrap();
}

fn a_watch_reports_that_another_server_has_taken_the_name_over(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "name");
    let name = base.name("name").display().to_string();
    let old = Server::bind(&address).unwrap();
    let mut watch = inspect::watch(&name).unwrap();
    settle(&mut watch);
    std::thread::scope(|scope| {
        let accepting = scope.spawn(|| old.accept().unwrap_err().kind());
        let new = ServerOptions::new().take_over(DEADLINE).bind(&address).unwrap();
        assert_eq!(accepting.join().unwrap(), ErrorKind::HandedOver);
        watch.wait_timeout(DEADLINE).expect("the new record was not reported");
        assert!(is_live(&name));
        settle(&mut watch);
        drop(new);
    });
    look_until(&mut watch, || !is_live(&name));
}

fn a_watch_is_quiet_while_clients_come_and_go(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "name");
    let mut watch = inspect::watch(base.name("name").to_str().unwrap()).unwrap();
    let server = Server::bind(&address).unwrap();
    settle(&mut watch);
    for _ in 0..5 {
        std::thread::scope(|scope| {
            let client = scope.spawn(|| Connection::connect(&address).unwrap());
            let mut served = server.accept_timeout(DEADLINE).unwrap();
            client.join().unwrap().send(b"hello").unwrap();
            assert_eq!(served.recv().unwrap().expect("a message"), b"hello");
        });
    }
    let other = Server::bind(base.address(transport, "other")).unwrap();
    assert!(!watch.changed().unwrap(), "nothing has changed about the name");
    drop((server, other));
}

fn a_watch_of_a_name_that_is_malformed_is_an_error() {
    assert_eq!(inspect::watch("no/name").unwrap_err().kind(), ErrorKind::InvalidName);
}
