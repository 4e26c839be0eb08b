//! Tests of a side that is stopped at any of its system calls, as SIGSTOP does.

use std::cell::RefCell;
use std::thread;
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Connection, ErrorKind, Server, ServerOptions, Transport};

use crate::by_hand::Driver;
use crate::by_hand::steps::{REPLIES, assert_served, at_each_call, outcome};
use crate::by_hand::trace::{Traced, cannot_trace};
use crate::support::{Base, Child, DEADLINE, SOON, trials};

trials! {
    for transport in Transport::ALL =>
        a_client_that_is_stopped_at_any_system_call_of_step_delays_nobody_and_goes_on(
            step in ["connect", "send", "close"],
        ) unless cannot_trace(),
        a_client_that_is_stopped_for_longer_than_the_handshake_may_take_is_dropped unless cannot_trace(),
        a_server_that_is_stopped_at_any_system_call_of_accept_keeps_its_name_and_its_clients_time_out
            unless cannot_trace(),
        a_server_that_is_stopped_at_any_system_call_of_its_reply_keeps_its_name_and_goes_on unless cannot_trace(),
        a_server_that_is_stopped_at_any_system_call_of_its_close_has_the_name_or_has_given_it_up
            unless cannot_trace();
}

fn a_client_that_is_stopped_at_any_system_call_of_step_delays_nobody_and_goes_on(transport: Transport, step: &str) {
    let base = Base::new();
    let address = base.address(transport, "patient");
    let mut server = Child::spawn("serve", &[format!("address={address}")]);
    assert!(server.line().starts_with("ready"));
    let calls = at_each_call(
        || Traced::start("traced-client", &[&*address, step]),
        |number, stopped| {
            assert_served(&address, number);
            let mut client = stopped.release();
            assert_eq!(outcome(&mut client), "done", "at call {number}");
        },
    );
    // Over shared memory, sending and closing make few system calls, or none while no side sleeps.
    assert!(calls > if step == "connect" { 10 } else { 0 }, "{calls} system calls of {step}");
    server.finish();
}

/// Stops a client at every system call of connecting. Covers every handshake except those in which the server takes no
/// part.
fn a_client_that_is_stopped_for_longer_than_the_handshake_may_take_is_dropped(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "strict");
    let options = ServerOptions::new().handshake_timeout(Duration::from_millis(30)).half_open_max(1);
    let driver = Driver::new(options.bind(&address).unwrap());
    let calls = at_each_call(
        || Traced::start("traced-client", &[&*address, "connect"]),
        |number, stopped| {
            // There is one handshake slot, and a stopped client loses it at its deadline.
            let begin = Instant::now();
            let mut connection = loop {
                match ConnectOptions::new().timeout(DEADLINE).connect(&address) {
                    Ok(connection) => break connection,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Busy, "at call {number}");
                        assert!(begin.elapsed() < SOON, "at call {number}");
                    }
                }
            };
            assert!(begin.elapsed() < SOON, "at call {number}: {:?}", begin.elapsed());
            connection.send(b"me").unwrap();
            let served = loop {
                let mut served = driver.client();
                // This client has sent its message. The stopped one sends nothing.
                if let Ok(Some(message)) = served.recv_timeout(Duration::from_millis(20)) {
                    break message;
                }
            };
            assert_eq!(served, b"me");
            stopped.kill();
        },
    );
    assert!(calls > 10, "{calls} system calls");
}

fn a_server_that_is_stopped_at_any_system_call_of_accept_keeps_its_name_and_its_clients_time_out(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "asleep");
    let path = base.name("asleep");
    let calls = at_each_call(
        || {
            let traced = Traced::start("traced-server", &[path.to_str().unwrap(), "accept"]);
            // Its client connects as soon as it can.
            let address = address.clone();
            thread::spawn(move || {
                let connected = ConnectOptions::new().timeout(DEADLINE).connect(address);
                connected.and_then(|mut connection| connection.recv_timeout(DEADLINE)).map(drop)
            });
            traced
        },
        |number, mut stopped| {
            stopped.child().expect("ready");
            let error = Server::bind(&address).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NameInUse, "at call {number}: {error}");
            assert_eq!(error.holder().unwrap().pid, stopped.child().pid());
            let begin = Instant::now();
            let options = ConnectOptions::new().timeout(Duration::from_millis(30));
            let met = options.connect(&address).and_then(|mut connection: Connection| {
                // Where connecting does not involve the server, the client is connected nevertheless.
                connection.recv_timeout(Duration::from_millis(30))
            });
            let kind = met.unwrap_err().kind();
            assert!(matches!(kind, ErrorKind::TimedOut | ErrorKind::Busy), "at call {number}: {kind}");
            assert!(begin.elapsed() < SOON, "at call {number}: {:?}", begin.elapsed());
            let mut server = stopped.release();
            assert_eq!(outcome(&mut server), "done", "at call {number}");
            // The next server has the name as soon as this one has ended.
            server.kill();
        },
    );
    assert!(calls > 5, "{calls} system calls");
}

/// No client of a stopped server waits past its deadline. When the server continues, the client receives every message
/// once.
fn a_server_that_is_stopped_at_any_system_call_of_its_reply_keeps_its_name_and_goes_on(transport: Transport) {
    let base = Base::new();
    let path = base.name("asleep");
    let clients = RefCell::new(Vec::new());
    let calls = at_each_call(
        || {
            // The client sends its request while the server runs to its first mark, and receives in parallel.
            let address = base.address(transport, "asleep");
            clients.borrow_mut().push(thread::spawn(move || replies_heard(&address)));
            Traced::start("traced-server", &[path.to_str().unwrap(), "reply"])
        },
        |number, mut stopped| {
            stopped.child().expect("ready");
            let error = Server::bind(path.to_str().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NameInUse, "at call {number}: {error}");
            let client = clients.borrow_mut().pop().unwrap();
            let mut server = stopped.release();
            assert_eq!(outcome(&mut server), "done", "at call {number}");
            assert_eq!(client.join().unwrap(), REPLIES, "at call {number}");
            server.kill();
        },
    );
    assert!(calls > 0, "{calls} system calls");
    for client in clients.into_inner() {
        client.join().unwrap();
    }
}

/// Returns the lengths of the replies to a client that sends a request and receives with a short timeout until it has
/// all. Checks that no receive takes longer than that.
fn replies_heard(address: &str) -> Vec<usize> {
    const WAIT_LIMIT: Duration = Duration::from_millis(10);
    let mut client = ConnectOptions::new().wait_for_server(DEADLINE).connect(address).unwrap();
    client.send(b"x").unwrap();
    let mut heard = Vec::new();
    while heard.len() < REPLIES.len() {
        let begin = Instant::now();
        match client.recv_timeout(WAIT_LIMIT) {
            Ok(Some(message)) => heard.push(message.len()),
            Ok(None) => break,
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Err(_) => break,
        }
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    }
    heard
}

/// A server that starts in the meantime gets the name or learns who holds it, and a client gets an answer in time.
fn a_server_that_is_stopped_at_any_system_call_of_its_close_has_the_name_or_has_given_it_up(transport: Transport) {
    let base = Base::new();
    let path = base.name("leaving");
    let address = base.address(transport, "leaving");
    let calls = at_each_call(
        || Traced::start("traced-server", &[path.to_str().unwrap(), "close"]),
        |number, stopped| {
            let begin = Instant::now();
            let next = match Server::bind(&address) {
                Ok(next) => Some(next),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NameInUse, "at call {number}: {error}");
                    let options = ConnectOptions::new().timeout(Duration::from_millis(30));
                    let met = options.connect(&address).and_then(|mut connection: Connection| {
                        // Where connecting does not involve the server, the client may be connected nevertheless.
                        connection.recv_timeout(Duration::from_millis(30))
                    });
                    let expected = [ErrorKind::TimedOut, ErrorKind::Busy, ErrorKind::NoServer, ErrorKind::Disconnected];
                    match met {
                        Ok(heard) => assert_eq!(heard, None, "at call {number}"),
                        Err(error) => assert!(expected.contains(&error.kind()), "at call {number}: {error}"),
                    }
                    None
                }
            };
            assert!(begin.elapsed() < SOON, "at call {number}: {:?}", begin.elapsed());
            let mut server = stopped.release();
            assert_eq!(outcome(&mut server), "done", "at call {number}");
            server.finish();
            // The end of one server leaves the files of the other unchanged.
            drop(next.unwrap_or_else(|| Server::bind(&address).unwrap()));
            assert_eq!(base.files(), [""; 0], "at call {number}");
        },
    );
    assert!(calls > 5, "{calls} system calls");
}
