//! A side that stands still at any of its system calls, as SIGSTOP leaves it.

use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use parlour::{ConnectOptions, Connection, ErrorKind, Server, ServerOptions, Transport};

use crate::by_hand::Driver;
use crate::by_hand::steps::{assert_served, at_each_call, outcome};
use crate::by_hand::trace::{Traced, cannot_trace};
use crate::support::{Base, Child, DEADLINE, SOON, trial_unless};

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for &transport in Transport::ALL {
        let name = |what: &str| format!("{transport}::{what}");
        trials.push(trial_unless(
            cannot_trace(),
            name("a_client_that_is_stopped_at_any_system_call_of_connect_delays_nobody_and_goes_on"),
            move || stopped_client(transport),
        ));
        trials.push(trial_unless(
            cannot_trace(),
            name("a_client_that_is_stopped_for_longer_than_the_handshake_may_take_is_let_go"),
            move || stopped_for_good(transport),
        ));
        trials.push(trial_unless(
            cannot_trace(),
            name("a_server_that_is_stopped_at_any_system_call_of_accept_keeps_its_name_and_holds_nobody"),
            move || stopped_server(transport),
        ));
    }
    trials
}

fn stopped_client(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "patient");
    let mut server = Child::spawn("serve", &[format!("address={address}")]);
    assert!(server.line().starts_with("ready"));
    let calls = at_each_call(
        || Traced::start("traced-client", &[&*address, "connect"]),
        |number, stopped| {
            assert_served(&address, number);
            let mut client = stopped.let_go();
            assert_eq!(outcome(&mut client), "done", "at call {number}");
        },
    );
    assert!(calls > 10, "{calls} system calls");
    server.finish();
}

/// Every handshake but those that need no answer.
fn stopped_for_good(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "strict");
    let options = ServerOptions::new().handshake_timeout(Duration::from_millis(30)).half_open_max(1);
    let driver = Driver::new(options.bind(&address).unwrap());
    let calls = at_each_call(
        || Traced::start("traced-client", &[&*address, "connect"]),
        |number, stopped| {
            // There is one place for handshakes, and whoever has it gives it up.
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
                // Ours has sent by now; of the one who stands still nothing comes.
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

fn stopped_server(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "asleep");
    let path = base.name("asleep");
    let calls = at_each_call(
        || {
            let traced = Traced::start("traced-server", &[path.to_str().unwrap(), "accept"]);
            // Its client comes as soon as it can.
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
                // Where nobody needs to accept it is connected all the same.
                connection.recv_timeout(Duration::from_millis(30))
            });
            let kind = met.unwrap_err().kind();
            assert!(matches!(kind, ErrorKind::TimedOut | ErrorKind::Busy), "at call {number}: {kind}");
            assert!(begin.elapsed() < SOON, "at call {number}: {:?}", begin.elapsed());
            let mut server = stopped.let_go();
            assert_eq!(outcome(&mut server), "done", "at call {number}");
            // The next one has the name as soon as this one is gone.
            server.kill();
        },
    );
    assert!(calls > 5, "{calls} system calls");
}
