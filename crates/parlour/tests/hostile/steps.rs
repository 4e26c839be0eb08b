//! Tests of servers and clients that are killed, or meddled with, at every single system call of a step.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Connection, Error, ErrorKind, Server, ServerOptions, Transport, inspect};

use crate::by_hand::steps::{
    REPLIES, a_client_that_is_killed_at_any_system_call_of_step_harms_nobody, assert_free, at_each_call, outcome,
};
use crate::by_hand::trace::{Traced, cannot_trace};
use crate::by_hand::{Driver, lock};
use crate::support::{Base, DEADLINE, SOON, trials};

trials! {
    meddler_at_any_system_call_of_a_start_leaves_one_owner(meddler in MEDDLERS) unless cannot_trace(),
    a_server_that_is_killed_at_any_system_call_of_its_step_hinders_nobody(step in ["start", "close"])
        unless cannot_trace();

    for transport in Transport::ALL =>
        a_server_that_is_killed_at_any_system_call_of_accept_is_noticed_and_replaced unless cannot_trace(),
        a_server_that_is_killed_at_any_system_call_of_its_reply_is_noticed_and_replaced unless cannot_trace(),
        a_sender_that_is_killed_at_any_system_call_leaves_no_torn_message unless cannot_trace(),
        a_client_that_is_killed_at_any_system_call_of_step_harms_nobody(step in ["connect", "send", "close"])
            unless cannot_trace(),
        a_waiting_client_whose_server_is_restart_at_any_system_call_of_connect_reaches_the_next(restart in RESTARTS)
            unless cannot_trace(),
        waiting_clients_of_a_server_that_restarts_again_and_again_all_connect;
}

/// More system calls than any step makes, except those that send for long.
const CALLS_MAX: usize = 100;

/// The longest time until a side notices the death of its peer.
const NOTICED_WITHIN: Duration = SOON;

fn traced(base: &Base, step: &str) -> Traced {
    Traced::start("traced-server", &[base.name("step").display().to_string(), step.to_owned()])
}

/// An action of another process in the directory of the name while a server starts. Returns the server that it leaves
/// running there.
type Meddler = fn(&Path) -> Option<Server>;
const MEDDLERS: [(&str, Meddler); 5] = [
    ("another_server", bind),
    ("another_server_that_comes_and_goes", |path| {
        drop(bind(path));
        None
    }),
    ("a_removal_of_the_dead_name", |path| {
        clean(path);
        None
    }),
    ("a_removal_of_the_dead_name_and_another_server", |path| {
        clean(path);
        bind(path)
    }),
    ("a_new_lock_and_another_server", |path| {
        // An older version, or a person, might replace the lock while holding it.
        if let Ok(file) = File::options().read(true).write(true).open(path.join("lock")) {
            if !lock::take(&file) {
                return None;
            }
            fs::remove_file(path.join("lock")).unwrap();
        }
        bind(path)
    }),
];

fn bind(path: &Path) -> Option<Server> {
    match Server::bind(path.to_str().unwrap()) {
        Ok(server) => Some(server),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NameInUse, "{error}");
            None
        }
    }
}

fn clean(path: &Path) {
    let resolution = inspect::resolve(path.to_str().unwrap()).unwrap();
    if let Some(status) = &resolution.candidates[0].name {
        inspect::clean(status).unwrap();
    }
}

fn meddler_at_any_system_call_of_a_start_leaves_one_owner((_, meddle): (&str, Meddler)) {
    let base = Base::new();
    let path = base.name("step");
    let address = path.to_str().unwrap();
    let (mut won, mut lost) = (0, 0);
    let calls = at_each_call(
        || {
            // A dead name with everything that a killed server leaves.
            traced(&base, "start").release().kill();
            traced(&base, "start")
        },
        |number, mut starting| {
            let pid = starting.child().pid();
            let other = meddle(&path);
            let mut starting = starting.release();
            let said = outcome(&mut starting);
            let owner = match &other {
                Some(_) => {
                    won += 1;
                    assert!(said.starts_with("error name in use:"), "at call {number}, with another server: {said}");
                    std::process::id()
                }
                None => {
                    lost += 1;
                    assert_eq!(said, "done", "at call {number}");
                    pid
                }
            };
            // Both servers offer this transport, and it connects without an accept.
            let connection = Connection::connect(format!("unix:{address}"))
                .unwrap_or_else(|error| panic!("at call {number}: {error}"));
            assert_eq!(connection.peer().pid(), Some(owner), "at call {number}");
            let error = Server::bind(address).unwrap_err();
            assert_eq!((error.kind(), error.holder().unwrap().pid), (ErrorKind::NameInUse, owner), "at call {number}");
        },
    );
    println!("{calls} system calls: the other server won {won} times and lost {lost} times");
    assert!(calls > 20, "{calls} system calls");
}

fn a_server_that_is_killed_at_any_system_call_of_its_step_hinders_nobody(step: &str) {
    let base = Base::new();
    let address = base.name("step").display().to_string();
    let calls = at_each_call(
        || traced(&base, step),
        |number, traced| {
            traced.kill();
            assert_free(&address, number);
            assert_eq!(base.files(), [""; 0], "at call {number}");
        },
    );
    assert!(calls > 5, "{calls} system calls");
}

fn a_server_that_is_killed_at_any_system_call_of_accept_is_noticed_and_replaced(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "step");
    let options = ConnectOptions::new().timeout(DEADLINE);
    for number in 0.. {
        let mut server = traced(&base, "accept");
        server.child().expect("ready");
        let client = thread::scope(|scope| {
            let client = scope.spawn(|| options.connect(&address).and_then(|mut client| client.recv_timeout(DEADLINE)));
            let begin = match server.go_to_call(number) {
                true => Some(Instant::now()),
                false => None,
            };
            server.kill();
            let outcome = client.join().unwrap();
            begin.map(|begin| (outcome, begin.elapsed()))
        });
        let Some((outcome, took)) = client else {
            assert!(number > 10, "{number} system calls");
            return;
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(message)) => panic!("{message:?}"),
            Err(error) => {
                let expected = [ErrorKind::NoServer, ErrorKind::Disconnected];
                assert!(expected.contains(&error.kind()), "at call {number}: {error:?}");
            }
        }
        assert!(took < NOTICED_WITHIN, "at call {number} the client noticed it after {took:?}");
        assert_free(base.name("step").to_str().unwrap(), number);
    }
}

/// Checks what is received from a peer that sends [`REPLIES`] and is killed: whole messages, in order, each once, then
/// end of file or an error about a truncated message. Returns the moment of the end.
fn assert_whole_messages(mut connection: Connection, number: usize) -> Instant {
    let is_the_end = |error: &Error| matches!(error.kind(), ErrorKind::Truncated | ErrorKind::Disconnected);
    for &length in &REPLIES {
        match connection.recv_timeout(DEADLINE) {
            Ok(Some(message)) => assert!(*message == *b"x".repeat(length), "at call {number}: {} bytes", message.len()),
            Ok(None) => break,
            Err(error) => {
                assert!(is_the_end(&error), "at call {number}: {error:?}");
                break;
            }
        }
    }
    match connection.recv_timeout(DEADLINE) {
        Ok(None) => {}
        Ok(Some(message)) => panic!("at call {number}: an extra message of {} bytes", message.len()),
        Err(error) => assert!(is_the_end(&error), "at call {number}: {error:?}"),
    }
    Instant::now()
}

/// Kills the sender at the start of this system call, while the peer receives. Returns `false` if there is no such
/// call.
fn kill_in_mid_sending(mut sender: Traced, listener: Connection, number: usize) -> bool {
    let listening = thread::spawn(move || assert_whole_messages(listener, number));
    let was_there = sender.go_to_call(number);
    sender.kill();
    let death = Instant::now();
    let noticed = listening.join().unwrap().saturating_duration_since(death);
    assert!(noticed < NOTICED_WITHIN, "at call {number}: noticed {noticed:?} after the death");
    was_there
}

fn a_server_that_is_killed_at_any_system_call_of_its_reply_is_noticed_and_replaced(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "step");
    for number in 0..CALLS_MAX {
        // The client sends its request while the server runs to its first mark.
        let client = thread::spawn({
            let address = address.clone();
            move || {
                let mut client = ConnectOptions::new().wait_for_server(DEADLINE).connect(&address).unwrap();
                client.send(b"x").unwrap();
                client
            }
        });
        let server = traced(&base, "reply");
        if !kill_in_mid_sending(server, client.join().unwrap(), number) {
            assert!(number > 0, "{number} system calls");
            return;
        }
        assert_free(base.name("step").to_str().unwrap(), number);
    }
}

fn a_sender_that_is_killed_at_any_system_call_leaves_no_torn_message(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "heard");
    let driver = Driver::new(Server::bind(&address).unwrap());
    for number in 0..CALLS_MAX {
        let sender = Traced::start("traced-client", &[&*address, "send"]);
        if !kill_in_mid_sending(sender, driver.client(), number) {
            assert!(number > 0, "{number} system calls");
            return;
        }
    }
}

/// The events between two servers of a name.
type Restart = fn(&Path);
const RESTARTS: [(&str, Restart); 2] = [("replaced", |_| {}), ("replaced_in_a_new_directory", clean)];

/// The next server removes the files of the client, or the whole directory is another one by then.
fn a_waiting_client_whose_server_is_restart_at_any_system_call_of_connect_reaches_the_next(
    transport: Transport,
    (_, between): (&str, Restart),
) {
    let base = Base::new();
    let address = base.address(transport, "step");
    let options = ServerOptions::new().transports(Transport::ALL.iter().copied());
    let serve = |options: &ServerOptions| Driver::new(options.bind(base.name("step").to_str().unwrap()).unwrap());
    // A server that ends waits this long for the acknowledgement of the client, which stands still.
    let impatient = options.clone().handshake_timeout(Duration::from_millis(100));
    for number in 0..CALLS_MAX {
        let server = serve(&impatient);
        let mut client = Traced::start("traced-client", &[&*address, "wait"]);
        if !client.go_to_call(number) {
            assert!(number > 10, "{number} system calls");
            return;
        }
        drop(server);
        between(&base.name("step"));
        let server = serve(&options);
        let mut client = client.release();
        assert_eq!(outcome(&mut client), "done", "at call {number}");
        client.finish();
        drop(server);
    }
    panic!("more than {CALLS_MAX} system calls");
}

fn waiting_clients_of_a_server_that_restarts_again_and_again_all_connect(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "step");
    let options = ConnectOptions::new().timeout(DEADLINE).wait_for_server(DEADLINE);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| (0..50).filter_map(|_| options.connect(&address).map(drop).err()).collect::<Vec<_>>())
            })
            .collect();
        let restarting = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let server = Driver::new(Server::bind(&address).unwrap());
                // A few clients are served between two restarts.
                for _ in 0..3 {
                    if server.client_within(Duration::from_millis(20)).is_none() {
                        break;
                    }
                }
            }
        });
        let errors: Vec<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        restarting.join().unwrap();
        assert!(errors.is_empty(), "{} clients failed: {:?}", errors.len(), errors.first());
    });
}
