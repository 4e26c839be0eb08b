//! Every system call fails once: the first, the second, and so on, with each error that is plausible for it. What was
//! called says so or does without, nothing is left, and the next try works.

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
use crate::by_hand::steps::marked;
use crate::by_hand::trace::{Call, Traced, cannot_inject};
use crate::support::baseline::Baseline;
use crate::support::roles::until_end_of_input;
use crate::support::{Base, Child, DEADLINE, Role, data, eventually, trials};

const SERVER_STEPS: [&str; 5] = ["start", "accept", "hub", "tokio_server", "server_close"];
const CLIENT_STEPS: [&str; 6] = ["connect", "tokio", "send", "receive", "share", "close"];

/// Those that begin with connecting.
const CONNECTING: [&str; 2] = ["connect", "tokio"];

/// Those that a runtime carries, which makes system calls of its own.
const IN_A_RUNTIME: [&str; 2] = ["tokio", "tokio_server"];

/// The steps in which a client is let in.
const ACCEPTING: [&str; 3] = ["accept", "hub", "tokio_server"];

/// How many calls of one step are tried: more than any has, but for those that wait in between.
const CALLS_MAX: usize = 150;

/// How often a call that brings nothing new is looked at, where another may have its number the next time.
const LOOKS: usize = 2;

/// No round takes longer, whatever fails in it: the time-outs in it are shorter.
const ROUND_MAX: Duration = Duration::from_secs(15);

/// How long a step may wait for the other side. Shorter than [`ROUND_MAX`], longer than anything takes.
const STEP_MAX: Duration = Duration::from_secs(4);

/// How long the client may wait whom the step is about. It may be let go without a word, and tries again.
const EARLY_MAX: Duration = Duration::from_secs(1);

trials! {
    for transport in Transport::ALL =>
        any_system_call_of_step_may_fail_once(step in steps(transport)) unless cannot_inject();
}

/// `faulty ADDRESS STEP`: again and again, does the step between two marks and says `done` or the error; then does it once
/// more if it failed, talks to the other side, and says `again`.
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
                    // An end is no error; a wrong message is one of this test.
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
                // What comes back is whole, or nothing.
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

/// One that goes in one piece, and one that is longer than what a channel holds.
const LENGTHS: [usize; 2] = [10, 300_000];

fn send_all(connection: &mut Connection) -> Result<(), Error> {
    LENGTHS.iter().enumerate().try_for_each(|(seed, &length)| connection.send(data::message(seed, length)))
}

/// What comes back is whole messages in order, whatever was sent of them; all of them if all were sent.
fn hear_whole_messages(mut connection: Connection, sent: bool) {
    let goes_on = sent || connection.send_timeout(b"after", STEP_MAX).is_ok();
    let mut next = 0;
    loop {
        let wait = if goes_on && !(sent && next == LENGTHS.len()) { STEP_MAX } else { Duration::ZERO };
        match connection.recv_timeout(wait) {
            Ok(Some(message)) if message == b"after"[..] => return,
            Ok(Some(message)) => {
                let seed = (next..LENGTHS.len()).find(|&seed| *message == *data::message(seed, LENGTHS[seed]));
                next = 1 + seed.unwrap_or_else(|| panic!("a message of {} bytes that nobody sent", message.len()));
            }
            Ok(None) | Err(_) => break,
        }
    }
    assert!(!sent || next == LENGTHS.len(), "{next} messages have come back");
}

fn connect(address: &str) -> Result<Connection, Error> {
    ConnectOptions::new().timeout(STEP_MAX).connect(address)
}

async fn tokio_exchange(address: &str) -> Result<(), Error> {
    let exchange = async {
        let mut connection = ConnectOptions::new().connect_tokio(address).await?;
        connection.send(data::message(1, LENGTHS[1])).await?;
        // An end is no error; a wrong message is one of this test.
        if let Some(message) = connection.recv().await? {
            data::check(&message, 1, LENGTHS[1]);
        }
        Ok(())
    };
    // What takes longer has ended without a word.
    tokio::time::timeout(STEP_MAX, exchange).await.unwrap_or(Ok(()))
}

/// Sends every message back, until the client of the step has its own or has not come, and ends gracefully.
async fn tokio_serves_until_early(server: Server) -> Result<(), Error> {
    let server = parlour::tokio::Server::from_blocking(server)?;
    let is_served = Arc::new(Notify::new());
    let shutdown = {
        let is_served = Arc::clone(&is_served);
        // One that was let go without a word comes again, to whoever serves then.
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

/// What the client says whom a step is about: to a task more than the channel holds, so that it has to wait.
fn early_of(step: &str) -> &'static [u8] {
    if step == "tokio_server" { data::message(1, LENGTHS[1]) } else { b"early" }
}

fn exchange(mut connection: Connection) {
    connection.send(b"me?").unwrap();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"me?");
}

/// Serves one client after the other, until one has said `next`.
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

/// Sends every message back, until this one has come and nobody is left, or until nothing comes any more.
fn hub_serves_until(hub: &mut Hub, last: &[u8]) -> Result<(), Error> {
    let mut is_over = false;
    while !(is_over && hub.clients().len() == 0) {
        match hub.next_event_timeout(STEP_MAX) {
            Ok(Event::Message(client, message)) => {
                // One that has gone needs no answer.
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

/// `block-server ADDRESS`: says `ready`, and sends every message back with the blocks that came with it.
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

/// A client that tries until it is served, at most so many times. Gives what it was told before.
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
            // Whoever was let in and then not served sees the end.
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
    }
    panic!("not served: {errors:?}");
}

/// Returns the steps that there are over this transport.
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
    // What is made once for each process is there after this.
    rounds.play(None);
    let before = Baseline::of(rounds.traced.child().pid());
    // Each connection is a thread of the server's; that of a step that begins with one is there by now.
    let threads = if CONNECTING.contains(&step) { 2 } else { 3 };
    let held = server.as_ref().map(|server| quiet(server, threads));
    // The file of a client that is in goes with its being let in.
    eventually("no client's file is there", || {
        !base.files().iter().any(|file| file.contains("/c/") && !file.ends_with("/c/"))
    });
    let files = base.files();

    let mut seen: BTreeMap<(&str, String), usize> = BTreeMap::new();
    let mut injected = 0;
    'calls: for number in 0..CALLS_MAX {
        // Which call has this number depends on how far the other side is, where that sets the pace.
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
            assert!(!told.iter().any(|told| blames(told.kind())), "{place}, and the client is blamed: {told:?}");
            // Who asks over a FIFO that cannot be opened is answered, and asks again; silence would cost it all of its time.
            let is_answered = transport == Transport::Fifo && ACCEPTING.contains(&step) && call == "open";
            assert!(!is_answered || told.is_empty(), "{place}, and the client is not answered: {told:?}");
            assert!(!round.said.starts_with("error protocol"), "{place}, and the peer is blamed: {}", round.said);
            assert!(begin.elapsed() < ROUND_MAX, "{place}: {:?}, {}", begin.elapsed(), round.said);
            // A client whom the runtime cannot watch is no reason not to serve the others. (What is registered besides is the
            // server and its time of grace.)
            let is_ended = step == "tokio_server" && call == "epoll_ctl" && round.said.contains("cannot use");
            assert!(!is_ended, "{place}, and nobody is served any more: {}", round.said);
            // What has passed the moment after is nobody's error, and nobody waits for it in vain.
            let is_unnoticed = round.said == "done" && told.is_empty() && begin.elapsed() < STEP_MAX;
            assert!(!passes || is_unnoticed, "{place}: {:?}, {}, {told:?}", begin.elapsed(), round.said);
            let pid = rounds.traced.child().pid();
            let now = Baseline::of(pid);
            assert!(now.is_like(&before), "{place}, {}: {now:#?}\nbefore: {before:#?}", round.said);
            if !removes {
                eventually(&format!("{place}, {}: files are as they were", round.said), || {
                    let mut now = base.files();
                    // A client that was turned away unheard leaves its file to be swept.
                    now.retain(|file| !ACCEPTING.contains(&step) || !file.ends_with(".sock"));
                    now == files
                });
            }
            let kind = round.said.split(':').next().unwrap().to_owned();
            *seen.entry((call, kind)).or_default() += 1;
        }
    }
    println!("{transport} {step}: {injected} faults: {seen:?}");
    // What one of them left, the next has removed.
    rounds.play(None);
    if let (Some(server), Some(held)) = (&server, held) {
        held.assert_restored(server.pid());
    }
    rounds.traced.kill();
    drop(server);
    Server::bind(&address).unwrap().close().unwrap();
    assert_eq!(base.files(), ["faulty/", "faulty/c/", "faulty/lock"]);
    // Sending and receiving in shared memory make no call, unless somebody sleeps.
    let quiet = transport == Transport::Shm && matches!(step, "send" | "receive" | "close");
    assert!(quiet || injected > 3, "{injected} faults");
}

/// What a server holds when nobody else is connected, and goes on holding: while one comes and another goes the threads may
/// be as many.
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

/// Which calls have failed with what.
type Tried = BTreeSet<(&'static str, i32)>;

/// A call that failed.
struct Fault {
    call: &'static str,
    error: i32,
    removes: bool,
    /// What was not possible is possible the moment after.
    passes: bool,
}

struct Round {
    /// What failed, if anything did.
    fault: Option<Fault>,
    /// There is no call of that number.
    is_over: bool,
    said: String,
    /// What the client was told whom the step is about.
    told: Vec<Error>,
}

/// The role in its rounds.
struct Rounds<'a> {
    transport: Transport,
    step: &'static str,
    address: &'a str,
    traced: Traced,
    watchdog: Option<Watchdog>,
}

impl Rounds<'_> {
    /// One round, from its first mark to that of the next, in which the call of that number fails with an error with which
    /// it has not failed yet.
    fn play(&mut self, fault: Option<(usize, &Tried)>) -> Round {
        let watchdog = self.watchdog.as_ref().unwrap();
        watchdog.look(fault.map(|(number, tried)| (number, tried.len())));
        let (address, step) = (self.address, self.step);
        let traced = &mut self.traced;
        let mut round = Round { fault: None, is_over: false, said: String::new(), told: Vec::new() };
        thread::scope(|scope| {
            // The client whom the step is about.
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
                    // Who finds a frame in shared memory knows that its descriptors have come: a kernel that then says that
                    // nothing is there is none.
                    let knows_better = self.transport == Transport::Shm && step == "share" && name == "receive";
                    let is_next =
                        |error: &&i32| !tried.contains(&(name, **error)) && (**error != libc::EAGAIN || !knows_better);
                    if let Some(&error) = errors.iter().find(is_next) {
                        match error == libc::EAGAIN && plausible::transfers(&call) {
                            true => traced.fail_for_now(),
                            false => traced.fail(error, plausible::is_made(&call)),
                        }
                        let (removes, passes) = (plausible::removes(&call), plausible::passes(&call, error));
                        round.fault = Some(Fault { call: name, error, removes, passes });
                    }
                } else {
                    at_mark = true;
                    round.is_over = true;
                }
            }
            assert!(at_mark || traced.go_to_mark(), "it ends: {}", watchdog.told());
            let next = SERVER_STEPS.contains(&step).then(|| {
                scope.spawn(move || {
                    let errors = early.map(|early| early.join().unwrap());
                    be_served(address, b"next", 1, STEP_MAX);
                    errors.unwrap_or_default()
                })
            });
            assert!(traced.go_to_mark(), "it ends afterwards: {}", watchdog.told());
            round.told = next.map(|next| next.join().unwrap()).unwrap_or_default();
        });
        round.said = self.traced.child().line();
        self.traced.child().expect("again");
        round
    }
}

/// Whether this is the write with which a runtime wakes itself, to an eventfd(2): its own affair, and a panic of its own when
/// it fails.
fn wakes_a_runtime(call: &Call) -> bool {
    call.number == libc::SYS_write && call.arguments[2] == 8
}

/// Kills a process that stands still, so that whoever waits for it comes back.
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
                        let _ = tell.send(format!("killed, since it hangs after fault {last:?}"));
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
        self.told.try_recv().unwrap_or_else(|_| "by itself".to_owned())
    }
}
