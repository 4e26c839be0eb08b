//! The pace of the attempts: a session wakes when the name appears, and no server makes it spin.

use std::thread;
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, ErrorKind, Reconnect, Server, ServerOptions, Session, Transport};

use crate::support::wait::Sleeper;
use crate::support::without::{cannot_filter, feature};
use crate::support::{Base, DEADLINE, SOON, trials};

trials! {
    for transport in Transport::ALL =>
        a_session_wakes_when_the_name_appears_however_long_its_pause_is,
        a_server_that_closes_each_connection_at_once_does_not_make_a_session_spin,
        a_server_that_answers_and_closes_is_not_asked_more_often_than_the_shortest_pause_allows,
        a_full_server_is_tried_again_after_pauses,
        without_inotify_a_session_looks_for_a_server_at_intervals unless cannot_filter(),
        without_inotify_a_server_that_closes_each_connection_at_once_is_left_alone_as_well unless cannot_filter();
}

/// Pauses of a day end only because something happened.
fn long_pauses() -> Reconnect {
    let day = Duration::from_secs(24 * 60 * 60);
    Reconnect::new().delay_min(day).delay_max(day)
}

fn a_session_wakes_when_the_name_appears_however_long_its_pause_is(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let mut session = ConnectOptions::new().session(&address, &long_pauses()).unwrap();
    let waiting = Sleeper::start(move || session.send(b"here").map(|()| session));
    let server = Server::bind(&address).unwrap();
    let began = Instant::now();
    let mut served = server.accept_timeout(DEADLINE).unwrap();
    assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), b"here");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    waiting.result().0.unwrap();
}

/// Lets a session call `recv` as often as it can for this time, while the server does `serve` with each connection.
/// Returns the number of connections.
fn connections_in(
    transport: Transport,
    time: Duration,
    serve: impl Fn(parlour::Connection) + Send + 'static,
) -> (u32, Vec<ErrorKind>) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let server = Server::bind(&address).unwrap();
    let stop = server.shutdown_handle();
    let serving = Sleeper::start(move || {
        let mut count = 0;
        for connection in server.incoming() {
            serve(connection.unwrap());
            count += 1;
        }
        count
    });
    let mut session = Session::new(&address).unwrap();
    let end = Instant::now() + time;
    let mut kinds = Vec::new();
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        kinds.extend(session.recv_timeout(left).err().map(|error| error.kind()));
    }
    stop.shutdown();
    (serving.result().0, kinds)
}

fn a_server_that_closes_each_connection_at_once_does_not_make_a_session_spin(transport: Transport) {
    let (count, kinds) = connections_in(transport, Duration::from_secs(2), drop);
    // Pauses of 25 to 50, 50 to 100, ... 800 to 1600 milliseconds, the first ones not below 50.
    assert!((3..=8).contains(&count), "{count} connections in 2 seconds: {kinds:?}");
    assert!(kinds.iter().all(|kind| matches!(kind, ErrorKind::Lost | ErrorKind::TimedOut)), "{kinds:?}");
}

fn a_server_that_answers_and_closes_is_not_asked_more_often_than_the_shortest_pause_allows(transport: Transport) {
    let (count, _) = connections_in(transport, Duration::from_secs(1), |mut connection| {
        // The session may be gone at the end.
        let _ = connection.send(b"and good bye");
    });
    assert!((2..=21).contains(&count), "{count} connections in a second");
}

fn a_full_server_is_tried_again_after_pauses(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let server = ServerOptions::new().connections_max(1).bind(&address).unwrap();
    let options = ConnectOptions::new();
    let stop = server.shutdown_handle();
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            for connection in server.incoming() {
                scope.spawn(|| crate::support::roles::echo(connection.unwrap()));
            }
        });
        let mut first = options.connect(&address).unwrap();
        first.send(b"first").unwrap();
        assert_eq!(first.recv_timeout(DEADLINE).unwrap().unwrap(), b"first");
        let waiting = Sleeper::start({
            let address = address.clone();
            move || {
                let mut session = Session::new(&address).unwrap();
                let mut losses = 0;
                loop {
                    let sent = session.send_timeout(b"second", DEADLINE);
                    match sent.and_then(|()| session.recv_timeout(DEADLINE)) {
                        Ok(message) => return (message, losses),
                        // Over `unix` and `packet` the refusal comes over the connection.
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Lost, "{error}"),
                    }
                    losses += 1;
                }
            }
        });
        drop(first);
        let (message, losses) = waiting.result().0;
        assert_eq!(message, b"second");
        assert!(losses < 20, "{losses} refusals");
        stop.shutdown();
        serving.join().unwrap();
    });
}

fn without_inotify_a_session_looks_for_a_server_at_intervals(transport: Transport) {
    feature("without_inotify").remove();
    a_session_wakes_when_the_name_appears_however_long_its_pause_is(transport);
}

fn without_inotify_a_server_that_closes_each_connection_at_once_is_left_alone_as_well(transport: Transport) {
    feature("without_inotify").remove();
    a_server_that_closes_each_connection_at_once_does_not_make_a_session_spin(transport);
}
