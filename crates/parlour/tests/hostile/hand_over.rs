//! Tests of hand-overs in which either side is killed or stopped at any system call, and of processes that ask for a
//! name and may not have it.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Connection, ErrorKind, Server, ServerOptions, Transport};

use crate::by_hand::candidate::{ACK, Candidate, DENIED, OTHER_VERSION, READY, WELCOME, hello};
use crate::by_hand::generation::{GENERATION, HOLDER, ONE_AT_A_TIME, SUCCESSOR, WAITING};
use crate::by_hand::place;
use crate::by_hand::steps::{CALLS_MAX, LANES, assert_served, at_each_call, at_each_call_of, lane, outcome};
use crate::by_hand::trace::{Traced, cannot_trace};
use crate::by_hand::user::{new_uid, no_other_users};
use crate::support::wait::eventually_some;
use crate::support::{Base, Child, DEADLINE, SOON, trials};

trials! {
    another_user_cannot_take_a_name_over unless no_other_users(),
    another_user_cannot_take_a_name_that_is_yielded unless no_other_users(),
    a_record_that_says_wrongly_that_its_server_yields_moves_no_name,
    a_yielded_name_goes_to_a_server_while_another_candidate_says_nothing,
    a_process_that_may_only_read_cannot_take_a_name_over,
    junk_at_the_control_socket_is_refused_and_changes_nothing,
    a_candidate_that_says_nothing_delays_no_client_and_is_dismissed,
    a_candidate_of_a_waiting_holder_that_errs_or_says_nothing_delays_no_message,
    a_shutdown_before_the_acknowledgement_ends_a_server_of_tasks_in_order,
    a_successor_that_is_killed_leaves_a_waiting_holder_as_it_was unless cannot_trace(),
    a_successor_that_is_stopped_delays_no_message_of_a_waiting_holder unless cannot_trace();

    for transport in Transport::ALL =>
        a_successor_that_is_killed_at_any_system_call_leaves_one_server unless cannot_trace(),
        a_successor_that_is_stopped_at_any_system_call_has_the_name_when_it_goes_on unless cannot_trace(),
        a_holder_that_is_killed_at_any_system_call_leaves_its_successor unless cannot_trace(),
        a_holder_that_is_stopped_at_any_system_call_keeps_its_name_or_has_given_it_up unless cannot_trace(),
        a_candidate_that_takes_the_grant_and_ends_leaves_the_holder_as_it_was,
        a_waiting_holder_that_is_killed_at_any_system_call_leaves_its_successor unless cannot_trace(),
        a_waiting_holder_that_is_stopped_at_any_system_call_goes_on_with_its_client unless cannot_trace();
}

fn generation(arguments: &[&str]) -> Child {
    Child::spawn(GENERATION.name, arguments)
}

fn holder(address: &str) -> Child {
    let mut holder = generation(&[address]);
    holder.expect("ready");
    holder
}

/// Ends a server in order.
fn end(server: &mut Child) {
    server.end_input();
    server.expect("shut down");
    assert!(server.wait().success());
}

/// Returns true if a client is served.
fn is_served(address: &str, within: Duration) -> bool {
    let talked = ConnectOptions::new().timeout(within).connect(address).and_then(|mut client| {
        client.send("me?")?;
        client.recv_timeout(within)
    });
    talked.is_ok_and(|answer| answer.is_some_and(|answer| answer == b"me?"))
}

/// Checks that the holder serves clients, or that it has given the name to the dead successor, and the name is free.
/// Returns true if the holder goes on.
fn goes_on_or_is_free(address: &str, holder: &mut Child, number: usize) -> bool {
    let begin = Instant::now();
    loop {
        match Server::bind(address) {
            Ok(server) => {
                holder.expect("handed over");
                drop(server);
                return false;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::NameInUse, "at call {number}: {error}"),
        }
        if is_served(address, Duration::from_millis(500)) {
            return true;
        }
        assert!(begin.elapsed() < DEADLINE, "at call {number}: nobody serves the name");
    }
}

fn a_successor_that_is_killed_at_any_system_call_leaves_one_server(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "moving");
    let holders = RefCell::new(Vec::new());
    let (mut went_on, mut was_free) = (0, 0);
    let calls = at_each_call(
        || {
            holders.borrow_mut().push(holder(&address));
            Traced::start(SUCCESSOR.name, &[&address])
        },
        |number, successor| {
            let mut holder = holders.borrow_mut().pop().unwrap();
            successor.kill();
            match goes_on_or_is_free(&address, &mut holder, number) {
                true => {
                    went_on += 1;
                    assert_served(&address, number);
                    end(&mut holder);
                }
                false => was_free += 1,
            }
            assert_eq!(base.files(), [""; 0], "at call {number}");
        },
    );
    println!(
        "{transport}: {calls} system calls; the holder went on {went_on} times, the name was free {was_free} times"
    );
    assert!(went_on > 30 && was_free > 3, "{went_on} and {was_free}");
}

fn a_successor_that_is_stopped_at_any_system_call_has_the_name_when_it_goes_on(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "moving");
    let holders = RefCell::new(Vec::new());
    let mut served_meanwhile = 0;
    // A client that is not served costs its whole timeout, so it is long only while the holder is to be serving.
    let mut is_holder_serving = true;
    let calls = at_each_call(
        || {
            holders.borrow_mut().push(holder(&address));
            Traced::start(SUCCESSOR.name, &[&address])
        },
        |number, stopped| {
            let mut holder = holders.borrow_mut().pop().unwrap();
            // Until the name is granted, the holder serves. From then on clients wait for its next server.
            is_holder_serving = is_served(&address, if is_holder_serving { SOON } else { Duration::from_millis(20) });
            served_meanwhile += usize::from(is_holder_serving);
            let error = Server::bind(&address).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NameInUse, "at call {number}: {error}");
            let mut successor = stopped.release();
            assert_eq!(outcome(&mut successor), "done", "at call {number}");
            holder.expect("handed over");
            assert!(holder.wait().success());
            assert_served(&address, number);
            end(&mut successor);
            assert_eq!(base.files(), [""; 0], "at call {number}");
        },
    );
    println!("{transport}: {calls} system calls; {served_meanwhile} clients were served meanwhile");
    assert!(served_meanwhile > 10, "{served_meanwhile} of {calls}");
    for mut holder in holders.into_inner() {
        holder.kill();
    }
}

fn a_holder_that_is_killed_at_any_system_call_leaves_its_successor(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "moving");
    let successors = RefCell::new(Vec::new());
    let calls = at_each_call(
        || {
            let mut holder = Traced::start(HOLDER.name, &[&address]);
            holder.child().expect("ready");
            successors.borrow_mut().push(generation(&[&address]));
            holder
        },
        |number, holder| {
            holder.kill();
            let mut successor = successors.borrow_mut().pop().unwrap();
            assert_eq!(successor.line(), "ready", "at call {number}");
            assert_served(&address, number);
            let error = Server::bind(&address).unwrap_err();
            assert_eq!(error.holder().unwrap().pid, successor.pid(), "at call {number}: {error}");
            end(&mut successor);
            assert_eq!(base.files(), [""; 0], "at call {number}");
        },
    );
    println!("{transport}: {calls} system calls");
    assert!(calls > 10, "{calls} system calls");
    for mut successor in successors.into_inner() {
        successor.kill();
    }
}

fn a_holder_that_is_stopped_at_any_system_call_keeps_its_name_or_has_given_it_up(transport: Transport) {
    let (kept, given) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // A successor of a holder that keeps its name waits until its deadline.
    thread::scope(|scope| {
        let (kept, given) = (&kept, &given);
        for number in 0..LANES {
            scope.spawn(move || holders_are_stopped(transport, lane(number), kept, given));
        }
    });
    let (kept, given) = (kept.into_inner(), given.into_inner());
    println!("{transport}: the holder kept its name {kept} times and gave it up {given} times");
    assert!(kept > 5 && given > 5, "{kept} and {given}");
}

/// Stops a holder at each of these system calls, and counts how often it has kept its name and given it up.
fn holders_are_stopped(
    transport: Transport,
    numbers: impl Iterator<Item = usize>,
    kept: &AtomicUsize,
    given: &AtomicUsize,
) {
    let base = Base::new();
    let address = base.address(transport, "moving");
    let successors = RefCell::new(Vec::new());
    at_each_call_of(
        numbers,
        || {
            let mut holder = Traced::start(HOLDER.name, &[&address]);
            holder.child().expect("ready");
            successors.borrow_mut().push(generation(&[&address, "500"]));
            holder
        },
        |number, stopped| {
            let mut successor = successors.borrow_mut().pop().unwrap();
            let begin = Instant::now();
            let said = successor.line();
            assert!(begin.elapsed() < SOON, "at call {number}: {:?}", begin.elapsed());
            if said == "ready" {
                given.fetch_add(1, Ordering::Relaxed);
                // The successor needs nothing of the stopped process.
                assert_served(&address, number);
                let mut holder = stopped.release();
                let said = outcome(&mut holder);
                assert!(said.starts_with("error handed over: "), "at call {number}: {said}");
                holder.finish();
                end(&mut successor);
            } else {
                kept.fetch_add(1, Ordering::Relaxed);
                assert!(said.starts_with("error busy: "), "at call {number}: {said}");
                // The holder accepts this client when it goes on.
                let client = thread::spawn({
                    let address = address.clone();
                    move || assert_served(&address, number)
                });
                let mut holder = stopped.release();
                assert_eq!(outcome(&mut holder), "done", "at call {number}");
                client.join().unwrap();
                end(&mut holder);
            }
            assert_eq!(base.files(), [""; 0], "at call {number}");
        },
    );
    for mut successor in successors.into_inner() {
        successor.kill();
    }
}

/// The descriptors are closed with the candidate, whatever it did not do with them.
fn a_candidate_that_takes_the_grant_and_ends_leaves_the_holder_as_it_was(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "kept");
    let mut server = holder(&address);
    assert_served(&address, 0);
    for number in 0..10 {
        let candidate = Candidate::connect(&base.name("kept")).unwrap();
        let (grant, descriptors) = candidate.take_grant(&base.name("kept"));
        assert!(grant.starts_with(b"parlour1\x05\x01\0\0"), "{grant:?}");
        assert_eq!(descriptors.len(), 2, "the lock and a listener");
        // Nobody is served, because the candidate may own the name.
        assert!(!is_served(&address, Duration::from_millis(20)));
        drop((candidate, descriptors));
        assert_served(&address, number);
    }
    end(&mut server);
    assert_eq!(base.files(), [""; 0]);
}

fn another_user_cannot_take_a_name_over() {
    let base = Base::new();
    place::chmod(base.path(), 0o755);
    let address = base.name("private").display().to_string();
    // Even a server that is open to all users.
    let server = ServerOptions::new().mode(0o666).bind(&address).unwrap();
    let words = [format!("address={address}"), format!("uid={}", new_uid()), "take_over_ms=100".to_owned()];
    let said = Child::spawn("serve", &words).line();
    assert!(said.starts_with("error "), "{said}");
    assert!(Candidate::connect(server.path()).is_ok(), "the user of the server may connect");
    assert_eq!(Server::bind(&address).unwrap_err().holder().unwrap().pid, std::process::id());
}

fn another_user_cannot_take_a_name_that_is_yielded() {
    let base = Base::new();
    place::chmod(base.path(), 0o755);
    let address = base.name("private").display().to_string();
    let server = ServerOptions::new().mode(0o666).yields(true).bind(&address).unwrap();
    thread::scope(|scope| {
        let accepting = scope.spawn(|| server.accept_timeout(DEADLINE).map(drop).unwrap_err().kind());
        let words = [format!("address={address}"), format!("uid={}", new_uid())];
        let said = Child::spawn("serve", &words).line();
        assert!(said.starts_with("error "), "{said}");
        let error = ServerOptions::new().yields(true).bind(&address).unwrap_err();
        assert_eq!(error.holder().unwrap().pid, std::process::id());
        server.shutdown_handle().shutdown();
        assert_eq!(accepting.join().unwrap(), ErrorKind::Shutdown);
    });
}

/// A program of this user may write anything into the record. The server decides, and not the record.
fn a_record_that_says_wrongly_that_its_server_yields_moves_no_name() {
    asks_in_vain(|path, address| {
        let lock = path.join("lock");
        let record = std::fs::read_to_string(&lock).unwrap();
        std::fs::write(&lock, record.replace("\nsince ", "\nyields 1\nsince ")).unwrap();
        let error = Server::bind(address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NameInUse, "{error}");
        assert!(error.holder().unwrap().yields && error.to_string().contains("in time"), "{error}");
    });
}

/// The candidate that says nothing has its turn first, for up to 2 seconds.
fn a_yielded_name_goes_to_a_server_while_another_candidate_says_nothing() {
    let base = Base::new();
    let address = base.name("name").display().to_string();
    let stand_in = ServerOptions::new().yields(true).bind(&address).unwrap();
    thread::scope(|scope| {
        let accepting = scope.spawn(|| stand_in.accept_timeout(DEADLINE).map(drop).unwrap_err().kind());
        let silent = Candidate::connect(stand_in.path()).unwrap();
        let server = eventually_some(|| match Server::bind(&address) {
            Ok(server) => Some(server),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NameInUse, "{error}");
                None
            }
        });
        drop(server.expect("the name was not yielded"));
        assert_eq!(accepting.join().unwrap(), ErrorKind::HandedOver);
        drop(silent);
    });
}

/// Serves the name in a child, and checks that each of these asks in vain.
fn asks_in_vain(ask: impl Fn(&Path, &str)) {
    let base = Base::new();
    let address = base.name("kept").display().to_string();
    let mut server = holder(&address);
    ask(&base.name("kept"), &address);
    assert_served(&address, 0);
    end(&mut server);
}

fn a_process_that_may_only_read_cannot_take_a_name_over() {
    asks_in_vain(|path, _| {
        let other = path.with_extension("other");
        std::fs::write(&other, "").unwrap();
        let writable = |path: &Path| File::options().read(true).write(true).open(path).unwrap();
        let proofs = [
            Some(File::open(path.join("lock")).unwrap()),
            Some(File::options().write(true).open(path.join("lock")).unwrap()),
            Some(writable(&other)),
            Some(File::open(path).unwrap()),
            None,
        ];
        for proof in &proofs {
            let candidate = Candidate::connect(path).unwrap();
            candidate.send(&hello(), proof.as_ref());
            assert_eq!(candidate.receive().0, DENIED, "{proof:?}");
            assert_eq!(candidate.receive().0, b"", "the holder has closed the socket");
        }
        std::fs::remove_file(&other).unwrap();
    });
}

fn junk_at_the_control_socket_is_refused_and_changes_nothing() {
    asks_in_vain(|path, address| {
        let say = |words: &[&[u8]]| {
            let candidate = Candidate::connect(path).unwrap();
            for word in words {
                candidate.send(word, None);
            }
            candidate.receive().0
        };
        assert_eq!(say(&[b"parlour1\x01\x02\0\0 what the next version says"]), OTHER_VERSION);
        for junk in [&b"x"[..], b"parlour1", READY, ACK, WELCOME, &[b'x'; 5000]] {
            assert_eq!(say(&[junk]), DENIED, "{junk:?}");
        }
        // Frames out of order end the attempt.
        for words in [&[ACK][..], &[WELCOME], &[b"junk"], &[DENIED, READY]] {
            let candidate = Candidate::connect(path).unwrap();
            candidate.greet(path);
            assert_eq!(candidate.receive().0, WELCOME);
            words.iter().for_each(|word| candidate.send(word, None));
            assert_eq!(candidate.receive().0, b"", "{words:?}");
        }
        // After `grant`, nothing but `ack` and the end mean anything.
        let candidate = Candidate::connect(path).unwrap();
        let _granted = candidate.take_grant(path);
        [READY, WELCOME, b"junk"].iter().for_each(|word| candidate.send(word, None));
        assert!(!is_served(address, Duration::from_millis(20)));
    });
}

fn a_candidate_that_says_nothing_delays_no_client_and_is_dismissed() {
    asks_in_vain(|path, address| {
        let silent = Candidate::connect(path).unwrap();
        let greeted = Candidate::connect(path).unwrap();
        assert_served(address, 0);
        // The other candidate has its turn as soon as the silent one is dismissed.
        greeted.greet(path);
        assert_eq!(silent.receive().0, b"");
        assert_eq!(greeted.receive().0, WELCOME);
        assert_served(address, 1);
        assert_eq!(greeted.receive().0, b"", "it did not get ready in time");
    });
}

/// Starts a server that waits for one client, and its client.
fn waiting_holder(address: &str) -> (Child, Connection) {
    let mut holder = Child::spawn(ONE_AT_A_TIME.name, &[address]);
    holder.expect("ready");
    let mut client = ConnectOptions::new().timeout(DEADLINE).connect(address).unwrap();
    talk(&mut client, 0);
    (holder, client)
}

fn talk(client: &mut Connection, number: usize) {
    let begin = Instant::now();
    client.send("hello").unwrap();
    assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello", "at call {number}");
    assert!(begin.elapsed() < SOON, "at call {number}: {:?}", begin.elapsed());
}

fn a_successor_that_is_killed_leaves_a_waiting_holder_as_it_was() {
    let base = Base::new();
    let address = base.address(Transport::Unix, "moving");
    let holders = RefCell::new(Vec::new());
    let (mut went_on, mut was_free) = (0, 0);
    let calls = at_each_call(
        || {
            holders.borrow_mut().push(waiting_holder(&address));
            Traced::start(SUCCESSOR.name, &[&address])
        },
        |number, successor| {
            let (mut holder, mut client) = holders.borrow_mut().pop().unwrap();
            successor.kill();
            talk(&mut client, number);
            client.close().unwrap();
            match goes_on_or_is_free(&address, &mut holder, number) {
                true => {
                    went_on += 1;
                    end(&mut holder);
                }
                false => was_free += 1,
            }
            assert_eq!(base.files(), [""; 0], "at call {number}");
        },
    );
    println!("{calls} system calls; the holder went on {went_on} times, the name was free {was_free} times");
    assert!(went_on > 30 && was_free > 3, "{went_on} and {was_free}");
}

fn a_successor_that_is_stopped_delays_no_message_of_a_waiting_holder() {
    let base = Base::new();
    let address = base.address(Transport::Unix, "moving");
    let holders = RefCell::new(Vec::new());
    let calls = at_each_call(
        || {
            holders.borrow_mut().push(waiting_holder(&address));
            Traced::start(SUCCESSOR.name, &[&address])
        },
        |number, stopped| {
            let (mut holder, mut client) = holders.borrow_mut().pop().unwrap();
            talk(&mut client, number);
            let mut successor = stopped.release();
            assert_eq!(outcome(&mut successor), "done", "at call {number}");
            talk(&mut client, number);
            assert_served(&address, number);
            client.close().unwrap();
            holder.expect("handed over");
            assert!(holder.wait().success());
            end(&mut successor);
            assert_eq!(base.files(), [""; 0], "at call {number}");
        },
    );
    println!("{calls} system calls");
    assert!(calls > 30, "{calls} system calls");
    for (mut holder, client) in holders.into_inner() {
        holder.kill();
        drop(client);
    }
}

/// A client that connects as soon as there is a server.
fn first_client(address: &str) -> thread::JoinHandle<Connection> {
    let address = address.to_owned();
    thread::spawn(move || ConnectOptions::new().timeout(DEADLINE).wait_for_server(DEADLINE).connect(address).unwrap())
}

fn a_waiting_holder_that_is_killed_at_any_system_call_leaves_its_successor(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "moving");
    let others = RefCell::new(Vec::new());
    let calls = at_each_call(
        || {
            let client = first_client(&address);
            let holder = Traced::start(WAITING.name, &[&address]);
            others.borrow_mut().push((generation(&[&address]), client.join().unwrap()));
            holder
        },
        |number, holder| {
            let (mut successor, mut client) = others.borrow_mut().pop().unwrap();
            holder.kill();
            assert_eq!(successor.line(), "ready", "at call {number}");
            assert_served(&address, number);
            assert!(!matches!(client.recv_timeout(DEADLINE), Ok(Some(_))), "at call {number}");
            end(&mut successor);
            assert_eq!(base.files(), [""; 0], "at call {number}");
        },
    );
    println!("{transport}: {calls} system calls");
    assert!(calls > 20, "{calls} system calls");
    for (mut successor, _) in others.into_inner() {
        successor.kill();
    }
}

fn a_waiting_holder_that_is_stopped_at_any_system_call_goes_on_with_its_client(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "moving");
    let others = RefCell::new(Vec::new());
    let (kept, given) = (Cell::new(0), Cell::new(0));
    // Once the name has been given up, the holder only waits, with the same few calls.
    let numbers = (0..CALLS_MAX).take_while(|_| given.get() < 6);
    at_each_call_of(
        numbers,
        || {
            let client = first_client(&address);
            let holder = Traced::start(WAITING.name, &[&address]);
            others.borrow_mut().push((generation(&[&address, "300"]), client.join().unwrap()));
            holder
        },
        |number, stopped| {
            let (mut successor, mut client) = others.borrow_mut().pop().unwrap();
            let said = successor.line();
            client.send("done").unwrap();
            if said == "ready" {
                // The successor needs nothing of the stopped process.
                assert_served(&address, number);
            } else {
                assert!(said.starts_with("error busy: "), "at call {number}: {said}");
            }
            let mut holder = stopped.release();
            let waited = outcome(&mut holder);
            if waited != "done" {
                // Its time was over before the message came. The message is the next one.
                assert!(waited.starts_with("error timed out: "), "at call {number}: {waited}");
                assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap(), b"done");
            }
            talk(&mut client, number);
            client.close().unwrap();
            if said == "ready" {
                given.set(given.get() + 1);
                holder.expect("handed over");
                assert!(holder.wait().success());
                end(&mut successor);
            } else {
                kept.set(kept.get() + 1);
                assert_served(&address, number);
                end(&mut holder);
            }
            assert_eq!(base.files(), [""; 0], "at call {number}");
        },
    );
    let (kept, given) = (kept.get(), given.get());
    println!("{transport}: the holder kept its name {kept} times and gave it up {given} times");
    assert!(kept > 5 && given > 0, "{kept} and {given}");
    for (mut successor, _) in others.into_inner() {
        successor.kill();
    }
}

fn a_shutdown_before_the_acknowledgement_ends_a_server_of_tasks_in_order() {
    let base = Base::new();
    let path = base.name("moving");
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let (bound, is_bound) = mpsc::channel();
    let (notice, is_noticed) = mpsc::channel();
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = ServerOptions::new().bind_tokio(path.display().to_string()).unwrap();
                bound.send(()).unwrap();
                // The future panics if it is polled again after it has completed.
                let shutdown = async {
                    stopped.await.unwrap();
                    notice.send(()).unwrap();
                };
                server.serve(|_connection| std::future::pending(), shutdown, Duration::from_millis(10)).await
            })
        });
        is_bound.recv_timeout(DEADLINE).unwrap();
        let _client = Connection::connect(path.display().to_string()).unwrap();
        let candidate = Candidate::connect(&path).unwrap();
        let _granted = candidate.take_grant(&path);
        stop.send(()).unwrap();
        is_noticed.recv_timeout(DEADLINE).unwrap();
        candidate.send(ACK, None);
        let served = serving.join().unwrap().unwrap();
        assert_eq!((served.finished, served.ended, served.panicked), (0, 1, 0));
    });
    // The candidate does not remove the files of the name, which it has.
    fs::remove_dir_all(&path).unwrap();
}

fn a_candidate_of_a_waiting_holder_that_errs_or_says_nothing_delays_no_message() {
    let base = Base::new();
    let address = base.name("kept").display().to_string();
    let (mut holder, mut client) = waiting_holder(&address);
    let path = base.name("kept");
    for junk in [&b"x"[..], b"parlour1", READY, ACK] {
        let candidate = Candidate::connect(&path).unwrap();
        candidate.send(junk, None);
        assert_eq!(candidate.receive().0, DENIED, "{junk:?}");
        talk(&mut client, 1);
    }
    let silent = Candidate::connect(&path).unwrap();
    let next = Candidate::connect(&path).unwrap();
    next.greet(&path);
    talk(&mut client, 2);
    // The waiting thread dismisses the first one in time, and turns to the next one.
    assert_eq!(silent.receive().0, b"");
    assert_eq!(next.receive().0, WELCOME);
    drop(next);
    talk(&mut client, 3);
    client.close().unwrap();
    end(&mut holder);
    assert_eq!(base.files(), [""; 0]);
}
