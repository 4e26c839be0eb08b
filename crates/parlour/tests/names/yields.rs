//! A server that yields its name to any other server of its user.

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Connection, ErrorKind, Server, ServerOptions, Transport, inspect};
use rustix::process::Signal;

use crate::by_hand::candidate::{Candidate, DENIED, WELCOME, hello};
use crate::support::wait::eventually_some;
use crate::support::{Base, Child, DEADLINE, SOON, trials};

trials! {
    a_server_that_yields_takes_no_name_from_another_one,
    a_server_that_yields_and_is_stopped_keeps_its_name_until_it_continues,
    the_name_of_a_killed_server_that_yielded_is_free_at_once,
    a_server_that_yields_and_does_not_answer_keeps_its_name,
    a_server_wins_every_race_with_one_that_yields,
    of_many_servers_that_want_a_yielded_name_one_gets_it,
    a_candidate_for_a_yielded_name_is_refused_by_a_server_that_does_not_yield,
    options_that_contradict_yielding_are_refused,
    a_name_is_quiet_after_its_time_without_a_server;

    for transport in Transport::ALL =>
        the_next_server_has_the_clients_in_the_queue_of_one_that_yields;
}

fn yielding() -> ServerOptions {
    ServerOptions::new().yields(true)
}

/// Takes the name from a server that yields it. A busy machine may not run that server within the time for which one
/// call waits, so the call is repeated.
#[track_caller]
fn take(address: &str) -> Server {
    let taken = eventually_some(|| match Server::bind(address) {
        Ok(server) => Some(server),
        Err(error) if error.to_string().contains("has not handed it over in time") => None,
        Err(error) => panic!("{error}"),
    });
    taken.expect("the name is handed over")
}

/// Accepts until the name is taken. Returns the clients.
fn accept_until_taken(server: &Server) -> Vec<Connection> {
    let mut accepted = Vec::new();
    loop {
        match server.accept_timeout(DEADLINE) {
            Ok(connection) => accepted.push(connection),
            Err(error) if error.kind() == ErrorKind::HandedOver => return accepted,
            Err(error) => panic!("{error}"),
        }
    }
}

fn the_next_server_has_the_clients_in_the_queue_of_one_that_yields(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "name");
    let stand_in = yielding().bind(&address).unwrap();
    let status = inspect::resolve(&address).unwrap().candidates.remove(0).name.unwrap();
    assert!(status.owner.unwrap().yields);
    thread::scope(|scope| {
        let leaving = scope.spawn(|| accept_until_taken(&stand_in));
        let server = take(&address);
        let mut served = leaving.join().unwrap();
        let talking = scope.spawn(|| {
            let mut client = ConnectOptions::new().timeout(DEADLINE).connect(&address).unwrap();
            client.send("hello").unwrap();
            client.recv_timeout(DEADLINE).unwrap().unwrap()
        });
        served.push(server.accept_timeout(DEADLINE).unwrap());
        let mut client = served.pop().unwrap();
        let message = client.recv_timeout(DEADLINE).unwrap().unwrap();
        client.send(&message).unwrap();
        assert_eq!(talking.join().unwrap(), b"hello");
        let status = inspect::resolve(&address).unwrap().candidates.remove(0).name.unwrap();
        assert!(!status.owner.unwrap().yields);
    });
}

fn a_server_that_yields_takes_no_name_from_another_one() {
    let base = Base::new();
    let address = base.name("name").display().to_string();
    for options in [yielding(), ServerOptions::new()] {
        let server = options.bind(&address).unwrap();
        thread::scope(|scope| {
            let accepting = scope.spawn(|| server.accept_timeout(DEADLINE).map(drop).unwrap_err().kind());
            let error = yielding().bind(&address).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NameInUse, "{error}");
            assert!(!error.to_string().contains("in time"), "{error}");
            server.shutdown_handle().shutdown();
            assert_eq!(accepting.join().unwrap(), ErrorKind::Shutdown);
        });
    }
}

/// Returns the process of a server that yields.
fn stand_in(address: &str) -> Child {
    let mut child = Child::spawn("serve", &[format!("address={address}"), "yields=1".to_owned()]);
    assert!(child.line().starts_with("ready"));
    child
}

fn a_server_that_yields_and_is_stopped_keeps_its_name_until_it_continues() {
    let base = Base::new();
    let address = base.name("name").display().to_string();
    let mut child = stand_in(&address);
    child.signal(Signal::STOP);
    let begin = Instant::now();
    let error = Server::bind(&address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameInUse, "{error}");
    assert!(begin.elapsed() >= Duration::from_secs(1) && begin.elapsed() < DEADLINE, "{:?}", begin.elapsed());
    assert_eq!(error.holder().unwrap().pid, child.pid());
    assert!(error.to_string().contains("its server yields, but has not handed it over in time"), "{error}");
    child.signal(Signal::CONT);
    let server = take(&address);
    child.end_input();
    assert!(child.wait().success());
    server.close().unwrap();
    assert_eq!(base.files(), [""; 0]);
}

fn the_name_of_a_killed_server_that_yielded_is_free_at_once() {
    let base = Base::new();
    let address = base.name("name").display().to_string();
    for options in [ServerOptions::new(), yielding()] {
        let mut child = stand_in(&address);
        child.kill();
        let begin = Instant::now();
        let server = options.bind(&address).unwrap();
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        server.close().unwrap();
    }
    assert_eq!(base.files(), [""; 0]);
}

fn a_server_that_yields_and_does_not_answer_keeps_its_name() {
    let base = Base::new();
    let address = base.name("name").display().to_string();
    let stand_in = yielding().bind(&address).unwrap();
    assert_eq!(Server::bind(&address).unwrap_err().kind(), ErrorKind::NameInUse);
    assert!(stand_in.try_accept().is_err());
    thread::scope(|scope| {
        let leaving = scope.spawn(|| accept_until_taken(&stand_in));
        let server = take(&address);
        assert!(leaving.join().unwrap().is_empty());
        drop(server);
    });
}

/// Both begin at once, again and again. The one that yields may be first, and must lose the name then.
fn a_server_wins_every_race_with_one_that_yields() {
    let base = Base::new();
    let address = base.name("name").display().to_string();
    for _ in 0..30 {
        let server = thread::scope(|scope| {
            let standing_in = scope.spawn(|| match yielding().bind(&address) {
                Ok(server) => assert!(accept_until_taken(&server).is_empty()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::NameInUse, "{error}"),
            });
            let server = take(&address);
            standing_in.join().unwrap();
            server
        });
        let error = yielding().bind(&address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NameInUse, "{error}");
        assert!(!error.holder().unwrap().yields);
        server.close().unwrap();
    }
}

fn of_many_servers_that_want_a_yielded_name_one_gets_it() {
    let base = Base::new();
    let address = base.name("name").display().to_string();
    for _ in 0..10 {
        let stand_in = yielding().bind(&address).unwrap();
        thread::scope(|scope| {
            let leaving = scope.spawn(|| accept_until_taken(&stand_in));
            // Those that have it serve, so that they could hand it over.
            let (waiting, taken) = std::sync::mpsc::channel();
            for _ in 0..4 {
                let (waiting, address) = (waiting.clone(), &address);
                scope.spawn(move || match Server::bind(address) {
                    Ok(server) => {
                        waiting.send(Some(server.shutdown_handle())).unwrap();
                        assert_eq!(server.accept_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::Shutdown);
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::NameInUse, "{error}");
                        waiting.send(None).unwrap();
                    }
                });
            }
            let handles: Vec<_> = (0..4).filter_map(|_| taken.recv_timeout(DEADLINE).unwrap()).collect();
            handles.iter().for_each(parlour::ShutdownHandle::shutdown);
            assert_eq!(handles.len(), 1, "the name has one server");
            leaving.join().unwrap();
        });
    }
}

/// A server may have taken a yielded name a moment ago, while its record is still that of the server before.
fn a_candidate_for_a_yielded_name_is_refused_by_a_server_that_does_not_yield() {
    let base = Base::new();
    let path = base.name("name");
    let address = path.display().to_string();
    let mut wanted = hello();
    wanted[13] = 1;
    for (options, expected) in [(ServerOptions::new(), DENIED), (yielding(), WELCOME)] {
        let server = options.bind(&address).unwrap();
        thread::scope(|scope| {
            let accepting = scope.spawn(|| server.accept_timeout(DEADLINE).map(drop).unwrap_err().kind());
            let candidate = Candidate::connect(&path).unwrap();
            let lock = File::options().read(true).write(true).open(path.join("lock")).unwrap();
            candidate.send(&wanted, Some(&lock));
            assert_eq!(candidate.receive().0, expected);
            drop(candidate);
            // As does any other one, if it asks without that condition.
            let candidate = Candidate::connect(&path).unwrap();
            candidate.greet(&path);
            assert_eq!(candidate.receive().0, WELCOME);
            drop(candidate);
            server.shutdown_handle().shutdown();
            assert_eq!(accepting.join().unwrap(), ErrorKind::Shutdown);
        });
    }
}

fn options_that_contradict_yielding_are_refused() {
    let base = Base::new();
    let address = base.name("name").display().to_string();
    for options in [yielding().take_over(DEADLINE), yielding().hand_over(false)] {
        let error = options.bind(&address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{error}");
        assert!(error.to_string().contains("yields"), "{error}");
    }
    yielding().hand_over(false).yields(false).bind(&address).unwrap().close().unwrap();
}

fn a_name_is_quiet_after_its_time_without_a_server() {
    /// Long enough for a look in between on a loaded machine.
    const QUIET: Duration = Duration::from_millis(300);
    let base = Base::new();
    let address = base.name("name").display().to_string();
    let mut watch = inspect::watch(&address).unwrap();
    let begin = Instant::now();
    watch.wait_until_quiet(QUIET, DEADLINE).unwrap();
    assert!(begin.elapsed() >= QUIET);
    watch.wait_until_quiet(Duration::ZERO, Duration::ZERO).unwrap();

    let server = Server::bind(&address).unwrap();
    for quiet in [Duration::ZERO, QUIET] {
        let error = watch.wait_until_quiet(quiet, QUIET).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    }
    drop(server);
    // On a busy machine, the time between the two servers may itself be long enough.
    let waited_on = eventually_some(|| {
        let server = Server::bind(&address).unwrap();
        let mut watch = inspect::watch(&address).unwrap();
        let waiting = thread::spawn(move || {
            watch.wait_until_quiet(QUIET, DEADLINE).unwrap();
            Instant::now()
        });
        let closing_at = Instant::now();
        server.close().unwrap();
        let server = Server::bind(&address).unwrap();
        let ended_at = Instant::now();
        server.close().unwrap();
        let quiet_at = waiting.join().unwrap();
        (ended_at < closing_at + QUIET).then_some(quiet_at >= ended_at + QUIET)
    });
    assert_eq!(waited_on, Some(true));
    let too_long = inspect::watch(&address).unwrap().wait_until_quiet(DEADLINE, QUIET);
    assert_eq!(too_long.unwrap_err().kind(), ErrorKind::TimedOut);
}
