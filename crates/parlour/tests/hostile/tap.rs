//! Tests of taps: who can tap a server, and what a process that taps can do to it.

use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use parlour::inspect::{self, Tap, TapDirection, TapMessage};
use parlour::{
    ConnectOptions, Connection, ErrorKind, Payload, Server, ServerOptions, SharedBytes, Transport, TrySendError,
};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::by_hand::options::Words;
use crate::by_hand::place::chmod;
use crate::by_hand::user::{directory_of, new_uid, no_other_users, no_pid_namespaces};
use crate::support::{Base, Child, DEADLINE, Role, eventually, trials};

trials! {
    another_user_cannot_tap_an_open_server unless no_other_users(),
    a_server_that_is_not_dumpable_is_tapped_by_its_own_user_alone_and_only_if_it_allows_that unless no_other_users(),
    a_server_in_another_pid_namespace_is_tapped_at_its_socket unless no_pid_namespaces(),
    a_tapper_that_is_stopped_or_killed_holds_nothing_up_and_keeps_no_memory,
    a_tapper_that_is_slow_loses_messages_and_counts_them,
    requests_with_any_content_change_nothing_but_the_tap,
    a_hundred_taps_see_every_message_and_no_more_than_there_are_places_begin,
    a_tap_goes_on_while_the_name_is_handed_over,
    long_messages_are_recorded_with_their_beginning_and_their_length,
    descriptors_and_blocks_are_recorded_by_number,
    a_message_that_was_not_sent_is_marked,
    what_a_server_recorded_before_it_died_is_read_and_then_its_end,
    a_tapper_without_descriptors_keeps_its_tap,
    a_server_whose_page_of_requests_is_another_file_is_not_written_to;
}

/// A server with one connection.
struct Room {
    client: Connection,
    served: Connection,
    address: String,
    server: Server,
    _base: Base,
}

impl Room {
    fn new(transport: Transport, options: &ServerOptions) -> Self {
        let base = Base::new();
        let address = base.address(transport, "room");
        let server = options.clone().bind(&address).unwrap();
        let client = std::thread::scope(|scope| {
            let client = scope.spawn(|| Connection::connect(&address).unwrap());
            (server.accept_timeout(DEADLINE).unwrap(), client.join().unwrap())
        });
        Self { client: client.1, served: client.0, address, server, _base: base }
    }

    fn pass(&mut self, message: &[u8]) {
        self.client.send(message).unwrap();
        assert_eq!(self.served.recv_timeout(DEADLINE).unwrap().unwrap(), message);
    }
}

fn next(tap: &mut Tap) -> TapMessage {
    tap.recv_timeout(DEADLINE).unwrap().expect("a message has passed")
}

/// Returns the number of rings that this process has.
fn rings() -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    links.filter(|link| link.to_string_lossy().contains("memfd:parlour-tap ")).count()
}

pub const TAP: Role = Role { name: "tap", play: tap };

/// `tap address=A [uid=U]`: taps a server. Prints "tapping" and the length of each message, or the kind of the error.
fn tap(arguments: &[String]) {
    let words = Words(arguments);
    words.become_whom_they_say();
    let mut tap = match inspect::tap(words.address()) {
        Ok(tap) => tap,
        Err(error) => return println!("{}", error.kind()),
    };
    println!("tapping");
    while let Ok(Some(message)) = tap.recv_timeout(DEADLINE) {
        println!("{}", message.length);
    }
}

fn another_user_cannot_tap_an_open_server() {
    let top = Base::new();
    chmod(top.path(), 0o755);
    let (owner, home) = (new_uid(), top.path().join("home"));
    directory_of(&home, owner, 0o755);
    let address = home.join("open").display().to_string();
    let words = [format!("address={address}"), format!("uid={owner}"), "mode=666".to_owned()];
    let mut server = Child::spawn("serve", &words);
    server.expect(&format!("ready {address}"));
    let words = |uid: u32| [format!("address={address}"), format!("uid={uid}")];
    let mut stranger = Child::spawn("tap", &words(new_uid()));
    stranger.expect(&ErrorKind::Denied.to_string());
    stranger.finish();
    let mut own = Child::spawn("tap", &words(owner));
    own.expect("tapping");
    // Root names the user, as a client does that connects.
    let denied = inspect::tap(&address).unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Denied);
    assert!(denied.to_string().contains("server_uid"), "{denied}");
    let expecting = |uid| inspect::tap_with(&address, &ConnectOptions::new().server_uid(uid));
    assert!(expecting(owner).unwrap().recv_timeout(Duration::ZERO).unwrap().is_none());
    assert_eq!(expecting(new_uid()).unwrap_err().kind(), ErrorKind::Denied);
    own.kill();
}

fn a_server_that_is_not_dumpable_is_tapped_by_its_own_user_alone_and_only_if_it_allows_that() {
    let top = Base::new();
    chmod(top.path(), 0o755);
    let (owner, home) = (new_uid(), top.path().join("home"));
    directory_of(&home, owner, 0o755);
    let address = home.join("private").display().to_string();
    let hidden = [format!("address={address}"), format!("uid={owner}"), "hide=memory".to_owned()];
    let words = |uid: u32| [format!("address={address}"), format!("uid={uid}")];
    let mut server = Child::spawn("serve-hidden", &hidden);
    server.expect("ready");
    let mut own = Child::spawn("tap", &words(owner));
    own.expect(&ErrorKind::Denied.to_string());
    own.finish();
    server.kill();
    let mut server = Child::spawn("serve-hidden", &[&hidden[..], &["tap=1".to_owned()]].concat());
    server.expect("ready");
    let mut stranger = Child::spawn("tap", &words(new_uid()));
    stranger.expect(&ErrorKind::Denied.to_string());
    stranger.finish();
    let mut own = Child::spawn("tap", &words(owner));
    own.expect("tapping");
    own.kill();
}

fn a_server_in_another_pid_namespace_is_tapped_at_its_socket() {
    let base = Base::new();
    let address = base.address(Transport::Unix, "inside");
    let words = [format!("address={address}"), "hide=pids".to_owned()];
    let mut server = Child::spawn("serve-hidden", &words);
    server.expect("ready");
    assert_eq!(inspect::tap(&address).unwrap_err().kind(), ErrorKind::Unsupported);
    // Its one client ends it.
    drop(Connection::connect(&address).unwrap());
    server.finish();
    let mut server = Child::spawn("serve-hidden", &[&words[..], &["tap=1".to_owned()]].concat());
    server.expect("ready");
    let mut client = Connection::connect(&address).unwrap();
    let mut talk = |message: &[u8]| {
        client.send(message).unwrap();
        assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap(), message);
    };
    talk(b"before");
    let mut tap = inspect::tap(&address).unwrap();
    talk(b"tapped");
    let mut later = inspect::tap(&address).unwrap();
    for direction in [TapDirection::In, TapDirection::Out] {
        let message = next(&mut tap);
        assert_eq!((message.direction, &message.bytes[..], message.lost), (direction, &b"tapped"[..], 0));
    }
    talk(b"for both");
    for tap in [&mut tap, &mut later] {
        assert_eq!(next(tap).bytes, b"for both");
        assert_eq!(next(tap).direction, TapDirection::Out);
    }
    drop(client);
    server.finish();
    assert_eq!(tap.recv_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::NoServer);

    let words = ["hide=pids", "deaf=1", "tap=1"].map(str::to_owned);
    let mut server = Child::spawn("serve-hidden", &[&[format!("address={address}")], &words[..]].concat());
    server.expect("ready");
    assert_eq!(inspect::tap(&address).unwrap_err().kind(), ErrorKind::Busy);
    server.finish();
}

fn a_tapper_that_is_stopped_or_killed_holds_nothing_up_and_keeps_no_memory() {
    // Another trial of this process may have a ring at the same time, so this one looks at its own server alone.
    for signal in [Signal::STOP, Signal::KILL] {
        let mut room = Room::new(Transport::Unix, &ServerOptions::new());
        let mut tapper = Child::spawn("tap", &[format!("address={}", room.address)]);
        tapper.expect("tapping");
        room.pass(b"first");
        tapper.expect("5");
        let inode = ring_of(&room).expect("the server has a ring");
        tapper.signal(signal);
        // Several times the length of the ring.
        let message = vec![7; 64 * 1024];
        for _ in 0..256 {
            room.pass(&message);
        }
        eventually("the server gives the memory back", || {
            room.pass(b"later");
            ring_of(&room).is_none() && !has_ring(inode)
        });
        tapper.kill();
        assert_eq!(room.server.stats().open, 1);
    }
}

/// Returns the inode of the ring that the counters of a server state.
fn ring_of(room: &Room) -> Option<u64> {
    let mut header = [0; 4096];
    counters(room).read_exact_at(&mut header, 0).unwrap();
    Some(word(&header, 36 * 8 + 16)).filter(|inode| *inode != 0)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Opens the counters of a server of this process.
fn counters(room: &Room) -> fs::File {
    let record = fs::read_to_string(room.server.path().join("lock")).unwrap();
    let line = record.lines().find(|line| line.starts_with("stats ")).unwrap();
    fs::File::open(format!("/proc/self/fd/{}", line.split(' ').nth(1).unwrap())).unwrap()
}

/// Returns true if this process has the ring with this inode.
fn has_ring(inode: u64) -> bool {
    let files = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::metadata(entry.unwrap().path()).ok());
    files.into_iter().any(|file| std::os::unix::fs::MetadataExt::ino(&file) == inode) && rings() > 0
}

fn a_tapper_that_is_slow_loses_messages_and_counts_them() {
    const COUNT: u64 = 200;
    let mut room = Room::new(Transport::Unix, &ServerOptions::new());
    let mut tap = inspect::tap(&room.address).unwrap();
    for _ in 0..COUNT {
        room.pass(&[7; 64 * 1024]);
    }
    let first = next(&mut tap);
    assert!(first.lost > 0, "the ring has no space for all");
    let mut seen = first.lost + 1;
    while let Some(message) = tap.recv_timeout(Duration::ZERO).unwrap() {
        assert_eq!((message.lost, message.bytes.len()), (0, 64 * 1024));
        seen += 1;
    }
    assert_eq!(seen, COUNT);
}

fn requests_with_any_content_change_nothing_but_the_tap() {
    let mut room = Room::new(Transport::Unix, &ServerOptions::new());
    let mut header = [0; 4096];
    counters(&room).read_exact_at(&mut header, 0).unwrap();
    let path = format!("/proc/self/fd/{}", word(&header, 32 * 8));
    let requests = fs::File::options().read(true).write(true).open(path).unwrap();
    for change in [requests.set_len(0), requests.set_len(8192)] {
        assert_eq!(change.unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
    let mut random = 88172645463325252u64;
    for round in 0..200u32 {
        let page: Vec<u8> = (0..4096)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                if round == 0 { 0xff } else { random as u8 }
            })
            .collect();
        requests.write_all_at(&page, 0).unwrap();
        room.pass(b"message");
    }
    let hole = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&requests, hole, 0, 4096).unwrap();
    room.pass(b"message");
    let mut tap = inspect::tap(&room.address).unwrap();
    eventually("the tap begins", || {
        room.pass(b"tapped");
        tap.recv_timeout(Duration::ZERO).unwrap().is_some_and(|message| message.bytes == b"tapped")
    });
}

fn a_hundred_taps_see_every_message_and_no_more_than_there_are_places_begin() {
    let mut room = Room::new(Transport::Unix, &ServerOptions::new());
    let mut taps: Vec<Tap> = (0..128).map(|_| inspect::tap(&room.address).unwrap()).collect();
    assert_eq!(inspect::tap(&room.address).unwrap_err().kind(), ErrorKind::Busy);
    room.pass(b"for all");
    for tap in &mut taps {
        assert_eq!(next(tap).bytes, b"for all");
    }
    taps.pop();
    let mut last = inspect::tap(&room.address).unwrap();
    room.pass(b"again");
    assert_eq!(next(&mut last).bytes, b"again");
}

fn a_tap_goes_on_while_the_name_is_handed_over() {
    let mut room = Room::new(Transport::Unix, &ServerOptions::new());
    let mut tap = inspect::tap(&room.address).unwrap();
    room.pass(b"before");
    assert_eq!(next(&mut tap).bytes, b"before");
    let Room { mut client, mut served, address, server, _base } = room;
    let new = std::thread::scope(|scope| {
        // The thread hands the name over while it waits for a message.
        let receiving = scope.spawn(|| served.recv_timeout(DEADLINE).unwrap().unwrap());
        let new = ServerOptions::new().take_over(DEADLINE).bind(&address).unwrap();
        client.send("after").unwrap();
        assert_eq!(receiving.join().unwrap(), b"after");
        new
    });
    assert_eq!(next(&mut tap).bytes, b"after", "the connection stays with the server that is tapped");
    let mut new_tap = inspect::tap(&address).unwrap();
    let (mut new_served, mut new_client) = std::thread::scope(|scope| {
        let client = scope.spawn(|| Connection::connect(&address).unwrap());
        (new.accept_timeout(DEADLINE).unwrap(), client.join().unwrap())
    });
    new_client.send("anew").unwrap();
    assert_eq!(new_served.recv_timeout(DEADLINE).unwrap().unwrap(), b"anew");
    assert_eq!(next(&mut new_tap).bytes, b"anew");
    assert!(tap.recv_timeout(Duration::ZERO).unwrap().is_none(), "the next server is tapped anew");
    drop(server);
}

fn long_messages_are_recorded_with_their_beginning_and_their_length() {
    const LENGTH: usize = 16 << 20;
    let options = ServerOptions::new().message_max(LENGTH);
    let Room { client, mut served, address, server: _server, _base } = Room::new(Transport::Unix, &options);
    drop(client);
    drop(served.recv_timeout(DEADLINE));
    let message: Vec<u8> = (0..LENGTH).map(|at| (at / 3) as u8).collect();
    let options = parlour::ConnectOptions::new().message_max(LENGTH);
    let mut client = options.connect(&address).unwrap();
    let mut served = _server.accept_timeout(DEADLINE).unwrap();
    let mut tap = inspect::tap(&address).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| client.send(&message).unwrap());
        assert!(served.recv_timeout(DEADLINE).unwrap().unwrap() == message[..]);
    });
    let seen = next(&mut tap);
    assert_eq!((seen.length, seen.bytes.len()), (LENGTH as u64, 1 << 20));
    assert!(seen.bytes == message[..1 << 20]);
}

fn descriptors_and_blocks_are_recorded_by_number() {
    let mut room = Room::new(Transport::Unix, &ServerOptions::new());
    let mut tap = inspect::tap(&room.address).unwrap();
    let block = SharedBytes::new(&[1; 100]).unwrap();
    let sent = room.served.send(Payload::new(b"a block").shared(&[&block, &block]));
    let seen = next(&mut tap);
    assert_eq!((seen.direction, &seen.bytes[..], seen.descriptors), (TapDirection::Out, &b"a block"[..], 2));
    // A client that allows no descriptors refuses them on newer kernels.
    if sent.is_err() {
        assert_eq!(next(&mut tap).direction, TapDirection::OutFailed);
    }
}

fn a_message_that_was_not_sent_is_marked() {
    let mut room = Room::new(Transport::Unix, &ServerOptions::new());
    let message = [7; 1000];
    let mut tap = inspect::tap(&room.address).unwrap();
    let mut sent = 0;
    loop {
        match room.served.try_send(&message) {
            Ok(()) if sent < 100_000 => sent += 1,
            Ok(()) => panic!("the channel is never full"),
            Err(TrySendError::Full(_)) => break,
            Err(TrySendError::Failed(error)) => panic!("{error}"),
        }
    }
    let mut directions = Vec::new();
    while let Some(message) = tap.recv_timeout(Duration::ZERO).unwrap() {
        assert_eq!(message.lost, 0);
        directions.push(message.direction);
    }
    let mut expected = vec![TapDirection::Out; sent + 1];
    expected.push(TapDirection::OutFailed);
    assert!(directions == expected, "{} of {}", directions.len(), expected.len());
}

pub const TAP_SCARCELY: Role = Role { name: "tap-scarcely", play: tap_scarcely };

/// `tap-scarcely ADDRESS`: taps a server, is out of descriptors for some time, and then prints a length.
fn tap_scarcely(arguments: &[String]) {
    let mut tap = inspect::tap(&arguments[0]).unwrap();
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(0), maximum: before.maximum }).unwrap();
    println!("{}", tap.recv_timeout(DEADLINE).unwrap_err().kind());
    setrlimit(Resource::Nofile, before).unwrap();
    println!("{}", next(&mut tap).length);
}

fn a_tapper_without_descriptors_keeps_its_tap() {
    let mut room = Room::new(Transport::Unix, &ServerOptions::new());
    let mut tapper = Child::spawn("tap-scarcely", &[&room.address]);
    tapper.expect(&ErrorKind::Io.to_string());
    room.pass(b"message");
    tapper.expect("7");
    tapper.finish();
}

fn a_server_whose_page_of_requests_is_another_file_is_not_written_to() {
    // A copy of the counters states a memory file that has the length of a page, and no seals.
    let room = Room::new(Transport::Unix, &ServerOptions::new());
    let victim = memfd_create("victim", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let victim = fs::File::from(victim);
    victim.write_all_at(&[0; 4096], 0).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut counters(&room), &mut bytes).unwrap();
    let forged = fs::File::from(memfd_create("forged", MemfdFlags::CLOEXEC).unwrap());
    let place = |file: &fs::File| {
        let (stat, fd) = (file.metadata().unwrap(), std::os::fd::AsRawFd::as_raw_fd(file));
        [fd as u64, std::os::unix::fs::MetadataExt::dev(&stat), std::os::unix::fs::MetadataExt::ino(&stat)]
    };
    for (number, value) in place(&victim).into_iter().enumerate() {
        bytes[(32 + number) * 8..][..8].copy_from_slice(&value.to_ne_bytes());
    }
    forged.write_all_at(&bytes, 0).unwrap();
    let path = room.server.path().join("lock");
    let record = fs::read_to_string(&path).unwrap();
    let [fd, device, inode] = place(&forged);
    let lines = record.lines().map(|line| match line.starts_with("stats ") {
        true => format!("stats {fd} {device}:{inode}\n"),
        false => format!("{line}\n"),
    });
    fs::write(&path, lines.collect::<String>()).unwrap();
    assert_eq!(inspect::tap(&room.address).unwrap_err().kind(), ErrorKind::Protocol);
    let mut after = [1; 4096];
    victim.read_exact_at(&mut after, 0).unwrap();
    assert!(after == [0; 4096]);
    fs::write(&path, record).unwrap();
}

pub const SEND_AND_DIE: Role = Role { name: "send-and-die", play: send_and_die };

/// `send-and-die ADDRESS`: receives one message and then waits for its end.
fn send_and_die(arguments: &[String]) {
    let server = Server::bind(&arguments[0]).unwrap();
    println!("ready");
    let mut connection = server.accept_timeout(DEADLINE).unwrap();
    connection.recv_timeout(DEADLINE).unwrap().unwrap();
    connection.send("last words").unwrap();
    std::io::stdin().lines().for_each(drop);
}

fn what_a_server_recorded_before_it_died_is_read_and_then_its_end() {
    let base = Base::new();
    let address = base.address(Transport::Unix, "room");
    let mut server = Child::spawn("send-and-die", &[&address]);
    server.expect("ready");
    let mut client = Connection::connect(&address).unwrap();
    let mut tap = inspect::tap(&address).unwrap();
    client.send("hello").unwrap();
    assert_eq!(next(&mut tap).bytes, b"hello");
    assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap(), b"last words");
    server.kill();
    assert_eq!(next(&mut tap).bytes, b"last words");
    assert_eq!(tap.recv_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::NoServer);
}
