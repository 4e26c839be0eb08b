//! The holder of a name, and the state of the name after the holder ends.

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use parlour::inspect::{self, NameState};
use parlour::{Connection, ErrorKind, Server, ServerOptions, Transport};
use rustix::process::Signal;

use crate::by_hand::fifo_client::{make_fifo, write_request};
use crate::by_hand::{FifoClient, Id, Place, lock, place, snapshot, unix};
use crate::support::{Base, Child, SOON, eventually, trials};

trials! {
    the_name_in_use_error_names_pid_uid_program_time_and_path,
    a_held_name_is_refused_within_the_same_process_too,
    a_holder_without_an_owner_record_still_holds_the_name,
    a_holder_that_is_stopped_is_shown_as_stopped_until_it_continues,
    a_process_that_has_ended_is_not_named_as_the_holder_of_a_lock_that_another_one_keeps,
    a_lock_that_other_users_may_open_is_unsafe_and_not_a_name_in_use,
    killing_the_holder_frees_the_name_at_once,
    the_next_server_removes_what_a_killed_one_left,
    files_in_c_that_no_client_makes_are_left_alone,
    a_server_over_one_transport_removes_what_one_over_another_left,
    way_removes_everything_of_the_name(way in ["close", "drop"]);

    for transport in Transport::ALL =>
        a_live_name_cannot_be_taken,
        who_accepts_while_a_server_is_released_hears_of_that_and_of_no_loss,
        a_released_server_is_free_of_its_name_and_wakes_who_accepts;
}

/// The next server has the name at once, and the end of the released one does it no harm.
fn a_released_server_is_free_of_its_name_and_wakes_who_accepts(transport: Transport) {
    let (base, server) = released_while_accepting(transport);
    let address = base.address(transport, "room");
    let next = Server::bind(&address).unwrap();
    drop(server);
    std::thread::scope(|scope| {
        scope.spawn(|| Connection::connect(&address).unwrap());
        next.accept_timeout(crate::support::DEADLINE).unwrap();
    });
    assert_eq!(Server::bind(&address).unwrap_err().kind(), ErrorKind::NameInUse);
}

fn who_accepts_while_a_server_is_released_hears_of_that_and_of_no_loss(transport: Transport) {
    (0..50).for_each(|_| drop(released_while_accepting(transport)));
}

fn released_while_accepting(transport: Transport) -> (Base, Server) {
    let base = Base::new();
    let server = Server::bind(base.address(transport, "room")).unwrap();
    std::thread::scope(|scope| {
        let accepting = scope.spawn(|| server.accept().unwrap_err().kind());
        server.release().unwrap();
        server.release().unwrap();
        assert_eq!(accepting.join().unwrap(), ErrorKind::Shutdown);
    });
    (base, server)
}

fn state_of(path: &std::path::Path) -> inspect::NameStatus {
    inspect::resolve(path.to_str().unwrap()).unwrap().candidates.remove(0).name.unwrap()
}

/// A child that was created without fork handlers keeps the lock of its parent. The test has the lock in its place.
fn a_process_that_has_ended_is_not_named_as_the_holder_of_a_lock_that_another_one_keeps() {
    let base = Base::new();
    let path = base.name("kept");
    let mut server = Child::spawn("serve", &[format!("address={}", path.display())]);
    assert!(server.line().starts_with("ready"));
    server.kill();
    let file = fs::File::options().read(true).write(true).open(path.join("lock")).unwrap();
    crate::support::eventually("the dead server has released the lock", || lock::take(&file));
    let error = Server::bind(path.to_str().unwrap()).unwrap_err();
    assert_eq!((error.kind(), error.holder()), (ErrorKind::NameInUse, None));
    let text = error.to_string();
    let parts = [format!("has ended (pid {}", server.pid()), format!("{}/lock open", path.display())];
    assert!(parts.iter().all(|part| text.contains(part)) && !text.contains("is held by pid"), "{text}");
    let status = state_of(&path);
    assert!(matches!(status.state, NameState::Live) && status.owner.is_none(), "{status:?}");
    drop(file);
    Server::bind(path.to_str().unwrap()).unwrap();
}

/// Another user who can open the lock for reading can hold a read lock on it.
fn a_lock_that_other_users_may_open_is_unsafe_and_not_a_name_in_use() {
    let base = Base::new();
    let path = base.name("wide");
    for mode in [0o644, 0o604, 0o660] {
        let mut server = Child::spawn("serve", &[format!("address={}", path.display())]);
        assert!(server.line().starts_with("ready"));
        server.kill();
        let file = fs::File::options().read(true).write(true).open(path.join("lock")).unwrap();
        crate::support::eventually("the dead server has released the lock", || lock::take(&file));
        place::chmod(&path.join("lock"), mode);
        let error = Server::bind(path.to_str().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsafeDirectory, "{error}");
        let status = state_of(&path);
        let NameState::Unsafe(listed) = status.state else { panic!("{status:?}") };
        for text in [error.to_string(), listed.to_string()] {
            assert!(text.contains(&format!("{mode:04o}")) && text.contains("deny access to other users"), "{text}");
        }
        place::chmod(&path.join("lock"), 0o600);
    }
}

fn both() -> ServerOptions {
    ServerOptions::new().transports(Transport::ALL.iter().copied())
}

pub fn serve_both(address: &str) -> Child {
    let mut child = Child::spawn("serve", &[format!("address={address}"), "on=unix,fifo".to_owned()]);
    child.expect(&format!("ready {address}"));
    child
}

fn the_name_in_use_error_names_pid_uid_program_time_and_path() {
    let base = Base::new();
    let address = base.name("held").display().to_string();
    let before = SystemTime::now();
    let holder = serve_both(&address);
    let error = Server::bind(&address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameInUse);

    let owner = error.holder().expect("the holder has written its record");
    assert_eq!(owner.pid, holder.pid());
    assert_eq!(owner.uid, rustix::process::geteuid().as_raw());
    assert_eq!(owner.program, std::env::current_exe().unwrap());
    assert_eq!(owner.transports, [Transport::Unix, Transport::Fifo]);
    assert_eq!(owner.message_max, Some(16 << 20), "the default limit");
    // The record has a resolution of one second.
    assert!(owner.since >= before - Duration::from_secs(1) && owner.since <= SystemTime::now(), "{owner:?}");

    let text = error.to_string();
    let since = humantime::format_rfc3339_seconds(owner.since);
    for part in [
        format!("pid {}", holder.pid()),
        format!("uid {}", owner.uid),
        owner.program.display().to_string(),
        format!("since {since}"),
        format!("at {address}"),
        "'held'".to_owned(),
    ] {
        assert!(text.contains(&part), "{part:?} is not in {text:?}");
    }
}

fn a_held_name_is_refused_within_the_same_process_too() {
    let base = Base::new();
    let address = base.name("held").display().to_string();
    let server = both().bind(&address).unwrap();
    let error = Server::bind(&address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameInUse);
    assert_eq!(error.holder().unwrap().pid, std::process::id());
    drop(server);
    Server::bind(&address).unwrap();
}

fn a_holder_without_an_owner_record_still_holds_the_name() {
    let base = Base::new();
    let place = Place::held(&base, "silent");
    let begin = Instant::now();
    let error = Server::bind(place.path().to_str().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameInUse);
    assert_eq!(error.holder(), None);
    assert!(error.to_string().contains("has not written its owner record"), "{error}");
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

fn a_live_name_cannot_be_taken(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "live");
    let mut holder = Child::spawn("serve", &[format!("address={address}")]);
    let path = base.name("live");
    holder.expect(&format!("ready {}", path.display()));
    let mut early = Connection::connect(&address).unwrap();
    early.send(b"before").unwrap();
    assert_eq!(early.recv().unwrap().unwrap(), b"before");

    let before = snapshot::tree(&path);
    for options in [ServerOptions::new(), both()] {
        let error = options.bind(path.to_str().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NameInUse, "{error}");
    }
    assert_eq!(snapshot::tree(&path), before);

    early.send(b"after").unwrap();
    assert_eq!(early.recv().unwrap().unwrap(), b"after");
    let mut late = Connection::connect(&address).unwrap();
    late.send(b"late").unwrap();
    assert_eq!(late.recv().unwrap().unwrap(), b"late");
}

fn a_holder_that_is_stopped_is_shown_as_stopped_until_it_continues() {
    let base = Base::new();
    let address = base.name("stopped").display().to_string();
    let mut holder = serve_both(&address);
    let owner = Server::bind(&address).unwrap_err().holder().unwrap().clone();
    assert_eq!(owner.is_stopped(), Some(false));
    // The kernel stops and continues a process some time after kill(2) has returned.
    holder.signal(Signal::STOP);
    eventually("it is stopped", || owner.is_stopped() == Some(true));
    holder.signal(Signal::CONT);
    eventually("it runs", || owner.is_stopped() == Some(false));
    holder.kill();
    assert_eq!(owner.is_stopped(), None, "the process is gone");
}

fn killing_the_holder_frees_the_name_at_once() {
    let base = Base::new();
    let address = base.name("freed").display().to_string();
    for round in 0..5 {
        let mut holder = serve_both(&address);
        let path = base.name("freed");
        holder.kill();
        assert!(path.join("unix").exists() && path.join("fifo").exists(), "a killed server leaves its files");
        let begin = Instant::now();
        let server = both().bind(&address).unwrap();
        let took = begin.elapsed();
        assert!(took < SOON, "round {round}: taking the name took {took:?}");
        for &transport in Transport::ALL {
            let connecting = std::thread::spawn({
                let address = base.address(transport, "freed");
                move || Connection::connect(address).unwrap()
            });
            let accepted = server.accept_timeout(crate::support::DEADLINE).unwrap();
            assert_eq!(accepted.transport(), transport);
            connecting.join().unwrap();
        }
    }
}

/// Creates every file that a server and its clients may leave when they are killed.
fn leave_everything(path: &std::path::Path) {
    for id in [Id::new(), Id::of(1)] {
        make_fifo(&path.join("c").join(id.s2c()));
        make_fifo(&path.join("c").join(id.c2s()));
        drop(unix::bound(&path.join("c").join(id.sock()), 0o700));
    }
    make_fifo(&path.join("fifo.new"));
}

fn the_next_server_removes_what_a_killed_one_left() {
    let base = Base::new();
    let address = base.name("again").display().to_string();
    let mut holder = serve_both(&address);
    let path = base.name("again");
    leave_everything(&path);
    for later in ["packet", "shm"] {
        drop(unix::bound(&path.join(later), 0o600));
    }
    holder.kill();
    let server = Server::bind(&address).unwrap();
    assert_eq!(base.files(), ["again/", "again/c/", "again/control", "again/lock", "again/unix"]);
    drop(server);
}

fn files_in_c_that_no_client_makes_are_left_alone() {
    let base = Base::with_foreign_files();
    let place = Place::dead_at(&base.name("odd"));
    let nonce = Id::new().nonce;
    let odd = [
        "notes.txt".to_owned(),
        format!("1-{nonce}"),
        format!("01-{nonce}.sock"),
        format!("1-{nonce}.sock.bak"),
        format!("1-{}.sock", nonce.to_uppercase() + "A"),
    ];
    for name in &odd {
        fs::write(place.clients().join(name), "mine").unwrap();
    }
    // Files of other types with proper names.
    let regular = Id::new().sock();
    fs::write(place.clients().join(&regular), "mine").unwrap();
    fs::create_dir(place.clients().join(Id::new().s2c())).unwrap();
    let before = place::client_files(place.path());
    let server = both().bind(place.path().to_str().unwrap()).unwrap();
    assert_eq!(place::client_files(place.path()), before);
    server.close().unwrap();
    assert_eq!(place::client_files(place.path()), before);
    assert_eq!(fs::read(place.clients().join(&regular)).unwrap(), b"mine");
}

fn a_server_over_one_transport_removes_what_one_over_another_left() {
    let base = Base::new();
    let address = base.name("switch").display().to_string();
    serve_both(&address).kill();
    let server = Server::bind(base.address(Transport::Fifo, "switch")).unwrap();
    assert_eq!(base.files(), ["switch/", "switch/c/", "switch/control", "switch/fifo", "switch/lock"]);
    let error = Connection::connect(base.address(Transport::Unix, "switch")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoServer);
    assert!(error.to_string().contains("offers fifo and not unix"), "{error}");
    drop(server);
}

fn way_removes_everything_of_the_name(way: &str) {
    let base = Base::new();
    let server = both().bind(base.name("ended").to_str().unwrap()).unwrap();
    let path = server.path().to_owned();
    leave_everything(&path);
    fs::remove_file(path.join("fifo.new")).unwrap();
    // A request that the server has not read, and a client in mid-handshake.
    write_request(&path, &Id::new().request());
    let stalled = FifoClient::asking(&path);
    match way {
        "close" => server.close().unwrap(),
        _ => drop(server),
    }
    assert_eq!(base.files(), [""; 0]);
    drop(stalled);
    let error = Connection::connect(path.to_str().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoServer);
    both().bind(path.to_str().unwrap()).unwrap();
}
