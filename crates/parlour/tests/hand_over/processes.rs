//! Hand-overs among several processes: candidates at the same time, generations, and forked children.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::thread;

use rustix::process::Signal;

use parlour::{ConnectOptions, Connection, ErrorKind, Server, Transport, inspect};

use super::moving::{replace, successor};
use crate::by_hand::candidate::Candidate;
use crate::by_hand::generation::GENERATION;
use crate::by_hand::steps::assert_served;
use crate::forking::{fork_among_threads, join, take_in_child};
use crate::support::baseline::Baseline;
use crate::support::own_machine::use_default_bases;
use crate::support::{Base, Child, DEADLINE, eventually, trials};

trials! {
    of_several_candidates_each_has_the_name_in_turn,
    a_name_that_is_being_handed_over_is_listed_as_live,
    forked_children_of_both_sides_do_not_keep_the_name;

    for transport in Transport::ALL =>
        any_number_of_generations_goes_on_with_its_clients_and_none_holds_the_name,
        children_that_are_forked_while_names_move_keep_none_of_them;

    #[own_machine]
    a_name_in_another_base_is_taken_over_there;
}

fn generation(address: &str) -> Child {
    Child::spawn(GENERATION.name, &[address])
}

fn end(server: &mut Child) {
    server.end_input();
    server.expect("shut down");
    assert!(server.wait().success());
}

fn of_several_candidates_each_has_the_name_in_turn() {
    let base = Base::new();
    let address = base.name("wanted").display().to_string();
    let mut first = generation(&address);
    first.expect("ready");
    let mut candidates: Vec<Child> = (0..4).map(|_| generation(&address)).collect();
    for candidate in &mut candidates {
        candidate.expect("ready");
    }
    first.expect("handed over");
    // All but the last one have handed the name over again.
    assert_served(&address, 0);
    let owner = Server::bind(&address).unwrap_err().holder().unwrap().pid;
    let last = candidates.iter().position(|candidate| candidate.pid() == owner).expect("one of them has the name");
    let mut last = candidates.swap_remove(last);
    for candidate in &mut candidates {
        candidate.expect("handed over");
        assert!(candidate.wait().success());
    }
    end(&mut last);
    assert_eq!(base.files(), [""; 0]);
}

/// Each server hands the name over while those before it still serve a client. They have no part in the name: neither
/// its lock nor a listener nor `control`. It makes no difference to it if they are stopped or killed.
fn any_number_of_generations_goes_on_with_its_clients_and_none_holds_the_name(transport: Transport) {
    const GENERATIONS: u8 = 6;
    let base = Base::new();
    let address = base.address(transport, "family");
    let mut servers: Vec<(Child, Connection)> = Vec::new();
    for number in 0..GENERATIONS {
        let mut server = generation(&address);
        server.expect("ready");
        if let Some((former, _)) = servers.last_mut() {
            former.expect("handed over");
        }
        let client = ConnectOptions::new().timeout(DEADLINE).connect(&address).unwrap();
        servers.push((server, client));
        for (_, client) in &mut servers {
            client.send(&[number]).unwrap();
            assert_eq!(*client.recv_timeout(DEADLINE).unwrap().unwrap(), [number]);
        }
    }
    let (mut last, client) = servers.pop().unwrap();
    eventually("each generation holds no more than the first one, and not the lock", || {
        let held = servers.iter().map(|(former, _)| Baseline::of(former.pid()).descriptors);
        let held: Vec<Vec<PathBuf>> = held.map(|descriptors| descriptors.into_values().collect()).collect();
        let is_of_name = |target: &PathBuf| target.starts_with(base.path());
        held.iter().all(|targets| targets.len() == held[0].len() && !targets.iter().any(|at| at.ends_with("lock")))
            && (transport == Transport::Fifo || !held.iter().flatten().any(is_of_name))
    });
    // One former server is stopped, and one is killed. The name has its server, and moves once more.
    let (mut killed, of_killed) = servers.pop().unwrap();
    killed.kill();
    assert_eq!(of_killed.peer().pid(), Some(killed.pid()));
    let (stopped, mut of_stopped) = servers.pop().unwrap();
    stopped.signal(Signal::STOP);
    let mut next = generation(&address);
    next.expect("ready");
    last.expect("handed over");
    assert_served(&address, 0);
    stopped.signal(Signal::CONT);
    of_stopped.send("awake").unwrap();
    assert_eq!(of_stopped.recv_timeout(DEADLINE).unwrap().unwrap(), b"awake");
    servers.extend([(stopped, of_stopped), (last, client)]);
    for (mut server, client) in servers {
        assert!(server.is_running(), "its client is connected");
        client.close().unwrap();
        assert!(server.wait().success());
    }
    end(&mut next);
    drop(of_killed);
    assert_eq!(base.files(), [""; 0]);
}

fn a_name_that_is_being_handed_over_is_listed_as_live() {
    let base = Base::new();
    let address = base.name("listed").display().to_string();
    let mut server = generation(&address);
    server.expect("ready");
    let state = || {
        let resolution = inspect::resolve(&address).unwrap();
        let status = resolution.candidates[0].name.as_ref().unwrap();
        assert!(matches!(status.state, inspect::NameState::Live), "{:?}", status.state);
        assert!(!inspect::clean(status).unwrap());
        assert_eq!(status.transports, [Transport::Unix]);
        status.owner.as_ref().map(|owner| owner.pid)
    };
    assert_eq!(state(), Some(server.pid()));
    let candidate = Candidate::connect(&base.name("listed")).unwrap();
    let granted = candidate.take_grant(&base.name("listed"));
    assert_eq!(state(), Some(server.pid()));
    drop((candidate, granted));
    assert_served(&address, 0);
    assert_eq!(state(), Some(server.pid()));
    end(&mut server);
}

/// Forks a child that waits until its parent, this process, has closed the other end of a pipe.
fn waiting_child() -> (u32, OwnedFd) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let pid = fork_among_threads(|| {
        drop(take_in_child(&writer));
        let _ = std::io::copy(&mut File::from(reader), &mut std::io::sink());
    });
    (pid, writer)
}

fn forked_children_of_both_sides_do_not_keep_the_name() {
    let base = Base::new();
    let address = base.name("forking").display().to_string();
    let old = Server::bind(&address).unwrap();
    let (of_old, end_of_old) = waiting_child();
    let (new, old, _) = replace(old, &successor(), &address);
    let (of_new, end_of_new) = waiting_child();
    old.close().unwrap();
    new.close().unwrap();
    // Both children live.
    drop(Server::bind(&address).unwrap());
    drop((end_of_old, end_of_new));
    join(of_old);
    join(of_new);
}

/// A process that forks all the time, while it takes a name over and hands it over again and again.
fn children_that_are_forked_while_names_move_keep_none_of_them(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "forking");
    let mut children = Vec::new();
    let mut server = Server::bind(&address).unwrap();
    for _ in 0..10 {
        let next = thread::scope(|scope| {
            let leaving = scope.spawn(|| server.accept_timeout(DEADLINE).unwrap_err().kind());
            let taking = scope.spawn(|| successor().bind(&address).unwrap());
            while !taking.is_finished() {
                children.push(waiting_child());
                thread::yield_now();
            }
            assert_eq!(leaving.join().unwrap(), ErrorKind::HandedOver);
            taking.join().unwrap()
        });
        server = next;
    }
    assert!(!children.is_empty());
    server.close().unwrap();
    // The children live, and none has a descriptor of the lock.
    drop(Server::bind(&address).unwrap());
    // Each child has the ends of those before it.
    let (pids, ends): (Vec<u32>, Vec<_>) = children.into_iter().unzip();
    drop(ends);
    pids.into_iter().for_each(join);
}

/// Servers in different environments use different bases. Clients search all of them.
fn a_name_in_another_base_is_taken_over_there() {
    let base = Base::new();
    let address = base.name("parlour").join("here").display().to_string();
    let old = Server::bind(&address).unwrap();
    let path = old.path().to_owned();
    let mut next = Child::command(GENERATION.name, &["here"]);
    use_default_bases(&mut next).env("XDG_RUNTIME_DIR", base.path());
    let mut next = Child::start(&mut next);
    assert_eq!(old.accept_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::HandedOver);
    next.expect("ready");
    assert!(path.join("control").exists());
    assert_served(&address, 0);
    end(&mut next);
    assert!(!path.exists());
}
