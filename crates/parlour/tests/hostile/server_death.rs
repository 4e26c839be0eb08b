//! Tests of servers that stop or die during the FIFO handshake. The client learns it in time and leaves nothing behind.

use std::thread;
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Connection, ErrorKind, Result, Server, Transport};
use rustix::process::Signal;

use crate::by_hand::cost;
use crate::by_hand::fifo_server::line;
use crate::by_hand::place::client_files;
use crate::by_hand::watch::Watch;
use crate::by_hand::{Driver, FifoServer};
use crate::support::{Base, Child, DEADLINE, SOON, trials, wait};

trials! {
    a_server_that_is_stopped_keeps_its_name_and_its_clients_time_out,
    a_server_that_is_killed_with_an_unread_request_is_reported_as_no_server,
    a_server_that_disconnects_without_an_answer_is_tried_again_until_the_deadline,
    a_server_that_never_opens_the_other_fifo_is_tried_again_until_the_deadline,
    a_server_that_dies_after_the_handshake_ends_the_connection,
    a_client_that_waits_is_served_by_the_replacement_of_a_killed_server,
    a_fifo_without_a_reader_is_reported_as_no_server,
    a_server_that_dies_early_is_reported_as_no_server(early in EARLY),
    a_server_that_greets_and_dies_is_noticed,
}

const TIMEOUT: Duration = Duration::from_millis(500);

fn connect(base: &Base, timeout: Duration) -> Result<Connection> {
    ConnectOptions::new().timeout(timeout).connect(base.address(Transport::Fifo, "frail"))
}

fn a_server_that_is_stopped_keeps_its_name_and_its_clients_time_out() {
    let base = Base::new();
    let address = base.address(Transport::Fifo, "frail");
    let mut server = Child::spawn("serve", &[format!("address={address}")]);
    assert!(server.line().starts_with("ready"));
    let mut early = Connection::connect(&address).unwrap();
    cost::stop(&server);

    let begin = Instant::now();
    let error = connect(&base, TIMEOUT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!((TIMEOUT..TIMEOUT + SOON).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert_eq!(client_files(&base.name("frail")), [""; 0]);
    let error = Server::bind(&address).unwrap_err();
    assert_eq!((error.kind(), error.holder().unwrap().pid), (ErrorKind::NameInUse, server.pid()));

    server.signal(Signal::CONT);
    early.send(b"awake?").unwrap();
    assert_eq!(early.recv_timeout(DEADLINE).unwrap().unwrap(), b"awake?");
    connect(&base, DEADLINE).unwrap();
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Asked,
    OpenedOne,
    OpenedBoth,
    Greeted,
}

/// The points before the greeting at which a server dies.
const EARLY: [(&str, Step); 3] = [
    ("before_it_opens_the_pair", Step::Asked),
    ("after_it_opened_one_fifo", Step::OpenedOne),
    ("after_it_opened_the_pair", Step::OpenedBoth),
];

fn a_server_that_dies_early_is_reported_as_no_server((_, step): (&str, Step)) {
    dies_at(step);
}

fn a_server_that_greets_and_dies_is_noticed() {
    dies_at(Step::Greeted);
}

fn dies_at(step: Step) {
    let base = Base::new();
    let server = FifoServer::new(&base, "frail");
    thread::scope(|scope| {
        let connecting = scope.spawn(|| connect(&base, DEADLINE));
        let id = server.request();
        let to_client = (step >= Step::OpenedOne).then(|| server.open_s2c(&id));
        let from_client = (step >= Step::OpenedBoth).then(|| server.open_c2s(&id));
        if step == Step::Greeted {
            assert!(rustix::io::write(to_client.as_ref().unwrap(), id.hello().as_bytes()).is_ok());
        }
        // The kernel closes the descriptors of a killed process in the same way.
        let begin = Instant::now();
        drop((server, to_client, from_client));
        let outcome = connecting.join().unwrap();
        assert!(begin.elapsed() < SOON, "noticed after {:?}", begin.elapsed());
        match outcome {
            Err(error) => assert_eq!(error.kind(), ErrorKind::NoServer, "{error}"),
            // The client may have sent its acknowledgement before the server died.
            Ok(mut connection) => {
                assert_eq!(step, Step::Greeted);
                assert_eq!(connection.recv_timeout(DEADLINE).unwrap(), None);
            }
        }
    });
    assert_eq!(client_files(&base.name("frail")), [""; 0]);
}

fn a_server_that_is_killed_with_an_unread_request_is_reported_as_no_server() {
    let base = Base::new();
    let mut server = Child::spawn("hold", &[base.address(Transport::Fifo, "frail")]);
    server.expect("ready");
    let asked = Watch::new(&base.name("frail").join("c"));
    thread::scope(|scope| {
        let connecting = scope.spawn(|| connect(&base, DEADLINE));
        assert!(asked.until(DEADLINE, || client_files(&base.name("frail")).len() == 2));
        let begin = Instant::now();
        server.kill();
        assert_eq!(connecting.join().unwrap().unwrap_err().kind(), ErrorKind::NoServer);
        assert!(begin.elapsed() < SOON, "noticed after {:?}", begin.elapsed());
    });
    assert_eq!(client_files(&base.name("frail")), [""; 0]);
}

/// Answers every request with `fail` until the client has given up. Returns the number of requests.
fn keep_failing(server: &FifoServer, base: &Base, fail: impl Fn(&crate::by_hand::Id)) -> u32 {
    let mut asked = 0;
    let begin = Instant::now();
    thread::scope(|scope| {
        let connecting = scope.spawn(|| connect(base, TIMEOUT));
        while !connecting.is_finished() {
            if wait::readable_within(&server.requests, Duration::from_millis(10)) {
                fail(&server.request());
                asked += 1;
            }
        }
        let error = connecting.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    });
    assert!((TIMEOUT..TIMEOUT + SOON).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert_eq!(client_files(server.path()), [""; 0]);
    asked
}

fn a_server_that_disconnects_without_an_answer_is_tried_again_until_the_deadline() {
    let base = Base::new();
    let server = FifoServer::new(&base, "frail");
    let asked = keep_failing(&server, &base, |id| drop(server.find_s2c(id)));
    assert!((2..200).contains(&asked), "the client asked {asked} times");
}

fn a_server_that_never_opens_the_other_fifo_is_tried_again_until_the_deadline() {
    let base = Base::new();
    let server = FifoServer::new(&base, "frail");
    let asked = keep_failing(&server, &base, |id| {
        // The client may give up at any moment.
        let Some(to_client) = server.find_s2c(id) else { return };
        let _ = rustix::io::write(&to_client, id.hello().as_bytes());
        // Waits until the client has closed its end.
        wait::ready(&to_client, rustix::event::PollFlags::empty(), DEADLINE);
    });
    assert!((2..200).contains(&asked), "the client asked {asked} times");
}

fn a_server_that_dies_after_the_handshake_ends_the_connection() {
    let base = Base::new();
    let server = FifoServer::new(&base, "frail");
    thread::scope(|scope| {
        let connecting = scope.spawn(|| connect(&base, DEADLINE));
        let id = server.request();
        let (to_client, from_client) = (server.open_s2c(&id), server.open_c2s(&id));
        assert!(rustix::io::write(&to_client, id.hello().as_bytes()).is_ok());
        assert_eq!(format!("{}\n", line(&from_client)), id.ack());
        let mut connection = connecting.join().unwrap().unwrap();
        assert!(rustix::io::write(&to_client, &[0, 0, 0, 9, b'h', b'a', b'l', b'f']).is_ok());
        drop((to_client, from_client));
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::Truncated);
        assert_eq!(connection.send(b"anybody?").unwrap_err().kind(), ErrorKind::Disconnected);
    });
}

fn a_client_that_waits_is_served_by_the_replacement_of_a_killed_server() {
    let base = Base::new();
    let address = base.address(Transport::Fifo, "frail");
    let mut old = Child::spawn("hold", std::slice::from_ref(&address));
    old.expect("ready");
    let asked = Watch::new(&base.name("frail").join("c"));
    thread::scope(|scope| {
        let connecting = scope.spawn(|| ConnectOptions::new().wait_for_server(DEADLINE).connect(&address).unwrap());
        assert!(asked.until(DEADLINE, || client_files(&base.name("frail")).len() == 2));
        old.kill();
        let new = Driver::new(Server::bind(&address).unwrap());
        let mut theirs = connecting.join().unwrap();
        let mut ours = new.client();
        theirs.send(b"to the new one").unwrap();
        assert_eq!(ours.recv_timeout(DEADLINE).unwrap().unwrap(), b"to the new one");
        assert_eq!(new.server.stats().refused, 0);
    });
}

fn a_fifo_without_a_reader_is_reported_as_no_server() {
    let base = Base::new();
    let mut server = FifoServer::new(&base, "frail");
    let error = |base: &Base| connect(base, DEADLINE).unwrap_err();
    let place = std::mem::replace(&mut server.place, crate::by_hand::Place::held(&base, "other"));
    drop(server);
    let begin = Instant::now();
    assert_eq!(error(&base).kind(), ErrorKind::NoServer);
    drop(place);
    assert_eq!(error(&base).kind(), ErrorKind::NoServer);
    assert!(begin.elapsed() < SOON);
}
