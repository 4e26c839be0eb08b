//! Tests in which every system call fails once: the first, the second, and so on, each with every error that is
//! plausible for it. The call of the library then returns an error or succeeds without the system call, leaves nothing
//! behind, and succeeds at the next try.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use parlour::hub::Event;
use parlour::{
    ConnectOptions, Connection, Error, ErrorKind, Hub, Payload, Server, ServerOptions, SharedBytes, Transport,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::Notify;

use super::plausible;
use crate::by_hand::roles::say_error;
use crate::by_hand::steps::marked;
use crate::by_hand::trace::{Call, Traced, cannot_inject, mark};
use crate::support::baseline::Baseline;
use crate::support::roles::until_end_of_input;
use crate::support::{Base, Child, DEADLINE, Role, data, eventually, trials};

const SERVER_STEPS: [&str; 7] = ["start", "accept", "hub", "tokio_server", "server_close", "take_over", "hand_over"];
const CLIENT_STEPS: [&str; 6] = ["connect", "tokio", "send", "receive", "share", "close"];

/// The steps that begin by connecting.
const CONNECTING: [&str; 2] = ["connect", "tokio"];

/// The steps that run in a tokio runtime, which makes system calls of its own.
const IN_A_RUNTIME: [&str; 2] = ["tokio", "tokio_server"];

/// The steps in which a client is admitted.
const ACCEPTING: [&str; 3] = ["accept", "hub", "tokio_server"];

/// The number of system calls tried for one step: more than any step has, except those that wait in between.
const CALLS_MAX: usize = 150;

/// The number of rounds without a new fault before the next call is tried, in steps where a call's number varies.
const LOOKS: usize = 2;

/// The longest duration of a round, whatever fails in it: every timeout within a round is shorter.
const ROUND_MAX: Duration = Duration::from_secs(15);

/// The longest time that a step waits for the peer: shorter than [`ROUND_MAX`], longer than any step takes.
const STEP_MAX: Duration = Duration::from_secs(4);

/// The number of rounds that may take longer than [`STEP_MAX`] although the fault passes.
const SLOW_MAX: usize = 2;

/// The longest time that the step's client waits for one attempt. The server may drop it without an answer; it then
/// tries again.
const EARLY_MAX: Duration = Duration::from_secs(1);

trials! {
    for transport in Transport::ALL =>
        any_system_call_of_step_may_fail_once(step in steps(transport)) unless cannot_inject();
}

/// `faulty ADDRESS STEP`: repeatedly runs the step between two marks and prints `done` or the error. If the step
/// failed, runs it once more. Then exchanges a message with the peer and prints `again`.
pub const FAULTY: Role = Role { name: "faulty", play: faulty };

fn faulty(arguments: &[String]) {
    let [address, step] = arguments else { panic!("faulty ADDRESS STEP") };
    match step.as_str() {
        "start" => loop {
            let server = marked(|| Server::bind(address)).unwrap_or_else(|| Server::bind(address).unwrap());
            serve_until_next(&server, None);
            server.close().unwrap();
            println!("again");
        },
        "accept" => {
            let server = Server::bind(address).unwrap();
            loop {
                let first = marked(|| server.accept_timeout(STEP_MAX));
                serve_until_next(&server, first);
                println!("again");
            }
        }
        "hub" => {
            let mut hub = Hub::bind(address).unwrap();
            loop {
                marked(|| hub_serves_until(&mut hub, early_of("hub")));
                hub_serves_until(&mut hub, b"next").unwrap();
                println!("again");
            }
        }
        "tokio_server" => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            loop {
                let server = Server::bind(address).unwrap();
                marked(|| runtime.block_on(tokio_serves_until_early(server)));
                let server = Server::bind(address).unwrap();
                serve_until_next(&server, None);
                server.close().unwrap();
                println!("again");
            }
        }
        "server_close" => loop {
            let server = Server::bind(address).unwrap();
            marked(|| server.close());
            let server = Server::bind(address).unwrap();
            serve_until_next(&server, None);
            server.close().unwrap();
            println!("again");
        },
        "take_over" => loop {
            let old = Server::bind(address).unwrap();
            thread::scope(|scope| {
                let old = scope.spawn(|| serves_until_next_or_ends(&old));
                match marked(|| ServerOptions::new().take_over(STEP_MAX).bind(address)) {
                    Some(new) => {
                        assert!(old.join().unwrap(), "two servers have the name");
                        serve_until_next(&new, None);
                        new.close().unwrap();
                    }
                    // The old server goes on, or the new one had the name when it failed, and has released it.
                    None if old.join().unwrap() => serve_until_next(&Server::bind(address).unwrap(), None),
                    None => {}
                }
            });
            old.close().unwrap();
            println!("again");
        },
        "hand_over" => loop {
            let old = Server::bind(address).unwrap();
            thread::scope(|scope| {
                let (go, may_go) = mpsc::channel();
                let (tell, is_bound) = mpsc::channel();
                let taking = scope.spawn(move || {
                    // Until then this process holds nothing but its own server.
                    may_go.recv().unwrap();
                    let new = match ServerOptions::new().take_over(STEP_MAX).bind(address) {
                        Ok(new) => new,
                        Err(error) => {
                            // The old server goes on. The first client need not wait until its call gives up.
                            drop(connect(address));
                            return Err(error);
                        }
                    };
                    let _ = tell.send(new.shutdown_handle());
                    serves_until_next_or_ends(&new);
                    Ok::<(), Error>(())
                });
                mark();
                go.send(()).unwrap();
                let left = old.accept_timeout(STEP_MAX).map(drop);
                mark();
                match left {
                    Ok(()) => println!("done"),
                    Err(error) if error.kind() == ErrorKind::HandedOver => println!("done"),
                    Err(error) => say_error(&error),
                }
                let has_ended = serves_until_next_or_ends(&old);
                if !has_ended {
                    // The old server goes on until the new one has the name, or fails. A client whose handshake had
                    // begun before the hand-over is served by the old server. No other one comes to the new server.
                    let is_bound = loop {
                        match is_bound.try_recv() {
                            Err(mpsc::TryRecvError::Empty) => drop(old.accept_timeout(Duration::from_millis(10))),
                            known => break known,
                        }
                    };
                    if let Ok(shutdown) = is_bound {
                        shutdown.shutdown();
                    }
                }
                let taken = taking.join().unwrap();
                assert!(taken.is_ok() || !has_ended, "{taken:?}");
            });
            old.close().unwrap();
            println!("again");
        },
        "connect" => loop {
            let connection = marked(|| connect(address)).unwrap_or_else(|| connect(address).unwrap());
            exchange(connection);
            println!("again");
        },
        "tokio" => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            loop {
                marked(|| runtime.block_on(tokio_exchange(address)));
                exchange(connect(address).unwrap());
                println!("again");
            }
        }
        "send" => loop {
            let mut connection = connect(address).unwrap();
            let sent = marked(|| send_all(&mut connection)).is_some();
            hear_whole_messages(connection, sent);
            exchange(connect(address).unwrap());
            println!("again");
        },
        "receive" => loop {
            let mut connection = connect(address).unwrap();
            send_all(&mut connection).unwrap();
            marked(|| {
                for (seed, &length) in LENGTHS.iter().enumerate() {
                    let message = connection.recv_timeout(STEP_MAX)?;
                    // End of file is not an error. A wrong message is a failure of this test.
                    let Some(message) = message else { break };
                    data::check(&message, seed, length);
                }
                Ok(())
            });
            drop(connection);
            exchange(connect(address).unwrap());
            println!("again");
        },
        "share" => loop {
            let options = ConnectOptions::new().fds_max(1);
            let mut connection = options.connect(address).unwrap();
            marked(|| {
                let block = SharedBytes::new(data::message(1, 10_000))?;
                connection.send_timeout(Payload::new(b"block").shared(&[&block]), STEP_MAX)?;
                // The reply is whole, or there is none.
                let Some(mut message) = connection.recv_timeout(STEP_MAX)? else { return Ok(()) };
                assert_eq!(message, b"block");
                data::check(&message.take_shared()?[0], 1, 10_000);
                Ok(())
            });
            drop(connection);
            exchange(connect(address).unwrap());
            println!("again");
        },
        "close" => loop {
            let mut connection = connect(address).unwrap();
            connection.feed(b"fed").unwrap();
            marked(|| connection.close());
            exchange(connect(address).unwrap());
            println!("again");
        },
        other => panic!("what is {other:?}?"),
    }
}

/// The lengths of a message that is sent in one piece, and of one that exceeds the capacity of a channel.
const LENGTHS: [usize; 2] = [10, 300_000];

fn send_all(connection: &mut Connection) -> Result<(), Error> {
    LENGTHS.iter().enumerate().try_for_each(|(seed, &length)| connection.send(data::message(seed, length)))
}

/// Checks that the replies are whole messages in order, however much was sent; all of them if everything was sent.
fn hear_whole_messages(mut connection: Connection, sent: bool) {
    let goes_on = sent || connection.send_timeout(b"after", STEP_MAX).is_ok();
    let mut next = 0;
    loop {
        let wait = if goes_on && !(sent && next == LENGTHS.len()) { STEP_MAX } else { Duration::ZERO };
        match connection.recv_timeout(wait) {
            Ok(Some(message)) if message == b"after"[..] => return,
            Ok(Some(message)) => {
                let seed = (next..LENGTHS.len()).find(|&seed| *message == *data::message(seed, LENGTHS[seed]));
                next = 1 + seed
                    .unwrap_or_else(|| panic!("received a message of {} bytes that was not sent", message.len()));
            }
            Ok(None) | Err(_) => break,
        }
    }
    assert!(!sent || next == LENGTHS.len(), "{next} messages were returned");
}

fn connect(address: &str) -> Result<Connection, Error> {
    ConnectOptions::new().timeout(STEP_MAX).connect(address)
}

async fn tokio_exchange(address: &str) -> Result<(), Error> {
    let exchange = async {
        let mut connection = ConnectOptions::new().connect_tokio(address).await?;
        connection.send(data::message(1, LENGTHS[1])).await?;
        // End of file is not an error. A wrong message is a failure of this test.
        if let Some(message) = connection.recv().await? {
            data::check(&message, 1, LENGTHS[1]);
        }
        Ok(())
    };
    // An exchange that takes longer was dropped without an answer.
    tokio::time::timeout(STEP_MAX, exchange).await.unwrap_or(Ok(()))
}

/// Echoes every message until the step's client has its reply, or a timeout passes, and shuts down gracefully.
async fn tokio_serves_until_early(server: Server) -> Result<(), Error> {
    let server = parlour::tokio::Server::from_blocking(server)?;
    let is_served = Arc::new(Notify::new());
    let shutdown = {
        let is_served = Arc::clone(&is_served);
        // A client that was dropped without an answer connects again, to the next server.
        async move { drop(tokio::time::timeout(STEP_MAX, is_served.notified()).await) }
    };
    let conversation = |mut connection: parlour::tokio::Connection| {
        let is_served = Arc::clone(&is_served);
        async move {
            while let Ok(Some(message)) = connection.recv().await {
                if connection.send(&message).await.is_err() {
                    return;
                }
                if message == *early_of("tokio_server") {
                    is_served.notify_one();
                }
            }
            let _ = connection.close().await;
        }
    };
    server.serve(conversation, shutdown, STEP_MAX).await.map(drop)
}

/// Returns the message of the step's client. For a task it exceeds the capacity of the channel, so that the task has to
/// wait.
fn early_of(step: &str) -> &'static [u8] {
    if step == "tokio_server" { data::message(1, LENGTHS[1]) } else { b"early" }
}

fn exchange(mut connection: Connection) {
    connection.send(b"me?").unwrap();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"me?");
}

/// Serves one client after the other, until one has sent `next`.
fn serve_until_next(server: &Server, mut first: Option<Connection>) {
    loop {
        let mut connection = first.take().unwrap_or_else(|| server.accept_timeout(DEADLINE).unwrap());
        while let Ok(Some(message)) = connection.recv_timeout(DEADLINE) {
            let _ = connection.send(&message);
            if message == b"next"[..] {
                return;
            }
        }
    }
}

/// Serves one client after the other, until one has sent `next`, or until the service has ended, because of a shutdown
/// or of another server that has taken the name over. Returns true in the second case.
fn serves_until_next_or_ends(server: &Server) -> bool {
    loop {
        let mut connection = match server.accept_timeout(DEADLINE) {
            Ok(connection) => connection,
            Err(error) if matches!(error.kind(), ErrorKind::HandedOver | ErrorKind::Shutdown) => return true,
            // The call may fail for the moment.
            Err(error) if error.kind() == ErrorKind::Io => continue,
            Err(error) => panic!("{error}"),
        };
        while let Ok(Some(message)) = connection.recv_timeout(DEADLINE) {
            let _ = connection.send(&message);
            if message == b"next"[..] {
                return false;
            }
        }
    }
}

/// Echoes every message until `last` has arrived and no client is left, or until no event arrives in time.
fn hub_serves_until(hub: &mut Hub, last: &[u8]) -> Result<(), Error> {
    let mut is_over = false;
    while !(is_over && hub.clients().len() == 0) {
        match hub.next_event_timeout(STEP_MAX) {
            Ok(Event::Message(client, message)) => {
                // A client that has disconnected needs no answer.
                let _ = hub.send(client, &message);
                is_over |= message == *last;
            }
            Ok(Event::Finished(client)) => drop(hub.finish(client)),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::TimedOut => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// `block-server ADDRESS`: prints `ready`, and echoes every message with the blocks that came with it.
pub const BLOCKS: Role = Role { name: "block-server", play: block_server };

fn block_server(arguments: &[String]) {
    let server = ServerOptions::new().fds_max(1).bind(&arguments[0]).unwrap();
    println!("ready");
    thread::spawn(move || {
        for connection in server.incoming() {
            let mut connection = connection.unwrap();
            thread::spawn(move || {
                while let Ok(Some(mut message)) = connection.recv() {
                    let blocks = message.take_shared().unwrap_or_default();
                    let blocks: Vec<&SharedBytes> = blocks.iter().collect();
                    let sent = match blocks.is_empty() {
                        true => connection.send(&message),
                        false => connection.send(Payload::new(&message).shared(&blocks)),
                    };
                    if sent.is_err() {
                        return;
                    }
                }
            });
        }
    });
    until_end_of_input();
}

/// Connects until the server answers, at most `tries` times. Returns the errors of the failed attempts.
fn be_served(address: &str, word: &[u8], tries: usize, timeout: Duration) -> Vec<Error> {
    let options = ConnectOptions::new().timeout(timeout).wait_for_server(timeout);
    let mut errors = Vec::new();
    for _ in 0..tries {
        let served = options.connect(address).and_then(|mut connection| {
            connection.send_timeout(word, STEP_MAX)?;
            connection.recv_timeout(STEP_MAX)
        });
        match served {
            Ok(Some(reply)) => {
                assert_eq!(reply, word);
                return errors;
            }
            // A client that was admitted and then not served sees end of file.
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
    }
    panic!("not served: {errors:?}");
}

/// Returns the steps that exist for this transport.
fn steps(transport: Transport) -> Vec<&'static str> {
    let all = SERVER_STEPS.into_iter().chain(CLIENT_STEPS);
    all.filter(|&step| step != "share" || transport != Transport::Fifo).collect()
}

fn any_system_call_of_step_may_fail_once(transport: Transport, step: &'static str) {
    let base = Base::new();
    let address = base.address(transport, "faulty");
    let server = CLIENT_STEPS.contains(&step).then(|| {
        let mut server = Child::spawn(if step == "share" { "block-server" } else { "echo-server" }, &[&address]);
        server.expect("ready");
        be_served(&address, b"first", 1, STEP_MAX);
        server
    });
    let traced = Traced::start("faulty", &[address.clone(), step.to_owned()]);
    let mut rounds = Rounds { transport, step, address: &address, traced, watchdog: None };
    rounds.watchdog = Some(Watchdog::new(rounds.traced.child().pid()));
    // After this round, everything that is created once per process exists.
    rounds.play(None);
    let before = Baseline::of(rounds.traced.child().pid());
    // The server has one thread for each connection. In the steps that do not begin by connecting, the role is
    // connected by now.
    let threads = if CONNECTING.contains(&step) { 2 } else { 3 };
    let held = server.as_ref().map(|server| quiet(server, threads));
    // A client's file is removed when the client is admitted.
    eventually("no client's file is left", || {
        !base.files().iter().any(|file| file.contains("/c/") && !file.ends_with("/c/"))
    });
    let files = base.files();

    let mut seen: BTreeMap<(&str, String), usize> = BTreeMap::new();
    let (mut injected, mut slow) = (0, 0);
    'calls: for number in 0..CALLS_MAX {
        // The call that has this number varies where the peer's progress sets the pace.
        let mut looks = if ACCEPTING.contains(&step) { LOOKS } else { 1 };
        let mut tried = BTreeSet::new();
        while looks > 0 {
            let begin = Instant::now();
            let round = rounds.play(Some((number, &tried)));
            let Some(Fault { call, error, removes, passes }) = round.fault else {
                looks -= 1;
                match round.is_over && looks == 0 {
                    true => break 'calls,
                    false => continue,
                }
            };
            tried.insert((call, error));
            injected += 1;
            let place = format!("{call}, call {number}, failed with {}", std::io::Error::from_raw_os_error(error));
            assert!(round.said == "done" || round.said.starts_with("error "), "{place}: {}", round.said);
            let blames = |kind| matches!(kind, ErrorKind::Protocol | ErrorKind::Denied | ErrorKind::Refused);
            let told = &round.told;
            assert!(
                !told.iter().any(|told| blames(told.kind())),
                "{place}, and the client got an error that blames it: {told:?}"
            );
            // A FIFO client whose FIFO cannot be opened gets an answer and asks again. Without an answer it would wait
            // until its deadline.
            let is_answered = transport == Transport::Fifo && ACCEPTING.contains(&step) && call == "open";
            assert!(!is_answered || told.is_empty(), "{place}, and the client got no answer: {told:?}");
            assert!(
                !round.said.starts_with("error protocol"),
                "{place}, and the error blames the peer: {}",
                round.said
            );
            assert!(begin.elapsed() < ROUND_MAX, "{place}: {:?}, {}", begin.elapsed(), round.said);
            // If the runtime cannot register one client, the server must go on serving the others. (The server itself
            // and its grace period are registered as well.)
            let is_ended =
                step == "tokio_server" && call == "epoll_ctl" && round.said.contains("cannot register the connection");
            assert!(!is_ended, "{place}, and no client is served any more: {}", round.said);
            // A transient condition must cause neither an error nor a wait for the full timeout.
            let is_unnoticed = round.said == "done" && told.is_empty();
            assert!(!passes || is_unnoticed, "{place}: {:?}, {}, {told:?}", begin.elapsed(), round.said);
            // A busy machine may take this long, too, but not each time.
            if passes && begin.elapsed() >= STEP_MAX {
                assert!(slow < SLOW_MAX, "{place}: {:?}", begin.elapsed());
                slow += 1;
                tried.remove(&(call, error));
                continue;
            }
            let pid = rounds.traced.child().pid();
            let now = Baseline::of(pid);
            assert!(now.is_like(&before), "{place}, {}: {now:#?}\nbefore: {before:#?}", round.said);
            if !removes {
                eventually(&format!("{place}, {}: the files are as before", round.said), || {
                    let mut now = base.files();
                    // The file of a client that was refused unheard stays until it is swept.
                    now.retain(|file| !ACCEPTING.contains(&step) || !file.ends_with(".sock"));
                    now == files
                });
            }
            let kind = round.said.split(':').next().unwrap().to_owned();
            *seen.entry((call, kind)).or_default() += 1;
        }
    }
    println!("{transport} {step}: {injected} faults: {seen:?}");
    // The next round removes what a fault has left behind.
    rounds.play(None);
    if let (Some(server), Some(held)) = (&server, held) {
        held.assert_restored(server.pid());
    }
    rounds.traced.kill();
    drop(server);
    Server::bind(&address).unwrap().close().unwrap();
    assert_eq!(base.files(), [""; 0]);
    // Sending and receiving over shared memory make no system call unless a side sleeps.
    let quiet = transport == Transport::Shm && matches!(step, "send" | "receive" | "close");
    assert!(quiet || injected > 3, "{injected} faults");
}

/// Waits until a server holds the same resources over many samples, with `threads` threads, and returns them. While one
/// client connects and another disconnects, the number of threads alone may match by coincidence.
fn quiet(server: &Child, threads: usize) -> Baseline {
    const LOOKS: usize = 30;
    let mut held = Baseline::of(server.pid());
    let mut same = 0;
    eventually("the server is idle", || {
        let now = Baseline::of(server.pid());
        same = if now == held && now.threads == threads { same + 1 } else { 0 };
        held = now;
        same >= LOOKS
    });
    held
}

/// The calls that have failed, each with the error.
type Tried = BTreeSet<(&'static str, i32)>;

/// A system call that failed.
#[derive(Debug)]
struct Fault {
    call: &'static str,
    error: i32,
    removes: bool,
    /// The condition is transient: the next try succeeds.
    passes: bool,
}

struct Round {
    /// The injected fault, if there was one.
    fault: Option<Fault>,
    /// There is no call with this number.
    is_over: bool,
    said: String,
    /// The errors that the step's client got.
    told: Vec<Error>,
}

/// The role, and its rounds.
struct Rounds<'a> {
    transport: Transport,
    step: &'static str,
    address: &'a str,
    traced: Traced,
    watchdog: Option<Watchdog>,
}

impl Rounds<'_> {
    /// Runs one round, from its first mark to the first mark of the next. In it the call with this number fails, with
    /// an error that has not been tried for it yet.
    fn play(&mut self, fault: Option<(usize, &Tried)>) -> Round {
        let watchdog = self.watchdog.as_ref().unwrap();
        watchdog.look(fault.map(|(number, tried)| (number, tried.len())));
        let (address, step) = (self.address, self.step);
        let traced = &mut self.traced;
        let mut round = Round { fault: None, is_over: false, said: String::new(), told: Vec::new() };
        thread::scope(|scope| {
            // The client that the step is about.
            let early = ACCEPTING
                .contains(&step)
                .then(|| scope.spawn(move || be_served(address, early_of(step), 5, EARLY_MAX)));
            let mut at_mark = false;
            if let Some((number, tried)) = fault {
                if traced.go_to_call(number) {
                    let call = traced.call();
                    let (name, errors) = match IN_A_RUNTIME.contains(&step) && wakes_a_runtime(&call) {
                        true => ("write", &[][..]),
                        false => plausible::errors(self.transport, &call),
                    };
                    // The receiver of a frame in shared memory knows that its descriptors have arrived. A kernel never
                    // reports EAGAIN then.
                    let knows_better = self.transport == Transport::Shm && step == "share" && name == "receive";
                    let is_next =
                        |error: &&i32| !tried.contains(&(name, **error)) && (**error != libc::EAGAIN || !knows_better);
                    if let Some(&error) = errors.iter().find(is_next) {
                        match error {
                            libc::EAGAIN if plausible::transfers(&call) => traced.fail_for_now(),
                            libc::EPIPE | libc::ECONNRESET if plausible::sends(&call) => {
                                traced.fail_for_good(error);
                            }
                            _ => traced.fail(error, plausible::is_made(&call)),
                        }
                        let (removes, passes) = (plausible::removes(&call), plausible::passes(&call, error));
                        round.fault = Some(Fault { call: name, error, removes, passes });
                    }
                } else {
                    at_mark = true;
                    round.is_over = true;
                }
            }
            assert!(at_mark || traced.go_to_mark(), "the role exited: {}", watchdog.told());
            let next = SERVER_STEPS.contains(&step).then(|| {
                scope.spawn(move || {
                    let errors = early.map(|early| early.join().unwrap());
                    be_served(address, b"next", 1, STEP_MAX);
                    errors.unwrap_or_default()
                })
            });
            assert!(traced.go_to_mark(), "the role exited after the step with {:?}: {}", round.fault, watchdog.told());
            round.told = next.map(|next| next.join().unwrap()).unwrap_or_default();
        });
        round.said = self.traced.child().line();
        self.traced.child().expect("again");
        round
    }
}

/// Returns true if this call is the write to an eventfd(2) with which a runtime wakes itself. Its failure makes the
/// runtime panic and does not concern the library.
fn wakes_a_runtime(call: &Call) -> bool {
    call.number == libc::SYS_write && call.arguments[2] == 8
}

/// Kills a process that hangs, so that whoever waits for it returns.
struct Watchdog {
    looks: mpsc::Sender<Option<(usize, usize)>>,
    told: mpsc::Receiver<String>,
}

impl Watchdog {
    fn new(pid: u32) -> Self {
        let (looks, is_looked_at) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut last = None;
            loop {
                match is_looked_at.recv_timeout(2 * ROUND_MAX) {
                    Ok(now) => last = now,
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        let _ = tell.send(format!("killed because it hung after fault {last:?}"));
                        let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
                        return;
                    }
                }
            }
        });
        Self { looks, told }
    }

    fn look(&self, fault: Option<(usize, usize)>) {
        let _ = self.looks.send(fault);
    }

    fn told(&self) -> String {
        self.told.try_recv().unwrap_or_else(|_| "without being killed".to_owned())
    }
}
