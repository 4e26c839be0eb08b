//! Tests of the counters of a server: who can read and change them, and what a reader believes.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use parlour::{ConnectOptions, Connection, ErrorKind, Server, ServerOptions, Transport, inspect};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::forking::{fork, join};
use crate::by_hand::options::Words;
use crate::by_hand::place::chmod;
use crate::by_hand::user::{
    directory_of, give_children_a_pid_namespace, hide_from_proc, new_uid, no_other_users, no_pid_namespaces,
};
use crate::support::{Base, Child, DEADLINE, Role, eventually, trials};

trials! {
    another_user_sees_nothing_of_the_counters_of_an_open_server unless no_other_users(),
    no_process_of_the_same_user_can_change_the_counters_or_their_size,
    an_owner_record_that_names_another_file_is_not_believed,
    counters_with_any_content_are_read_within_bounds,
    a_server_without_memory_for_counters_starts_and_serves,
    a_server_that_is_not_dumpable_hands_its_counters_to_its_own_user_alone unless no_other_users(),
    a_server_in_another_pid_namespace_hands_its_counters_out_while_it_waits unless no_pid_namespaces();

    for transport in Transport::ALL =>
        a_forked_child_that_uses_a_connection_counts_and_records_nothing;
}

pub const LOOK_AT_STATS: Role = Role { name: "look-at-stats", play: look_at_stats };

/// `look-at-stats address=A uid=U pid=P`: prints the kind of the error of reading the counters, and the number of
/// descriptors of that process that this user can open.
fn look_at_stats(arguments: &[String]) {
    let words = Words(arguments);
    words.become_whom_they_say();
    let kind = inspect::stats(words.address()).map_or_else(|error| error.kind().to_string(), |_| "read".to_owned());
    let pid = words.number("pid").unwrap();
    let opened = (0..64).filter(|fd| fs::File::open(format!("/proc/{pid}/fd/{fd}")).is_ok()).count();
    println!("{kind} {opened}");
}

fn another_user_sees_nothing_of_the_counters_of_an_open_server() {
    let top = Base::new();
    chmod(top.path(), 0o755);
    let (owner, home) = (new_uid(), top.path().join("home"));
    directory_of(&home, owner, 0o755);
    let address = home.join("open").display().to_string();
    let words = [format!("address={address}"), format!("uid={owner}"), "mode=666".to_owned()];
    let mut server = Child::spawn("serve", &words);
    server.expect(&format!("ready {address}"));
    let look = |uid: u32| {
        let words = [format!("address={address}"), format!("uid={uid}"), format!("pid={}", server.pid())];
        let mut child = Child::spawn("look-at-stats", &words);
        let said = child.line();
        child.finish();
        said
    };
    assert_eq!(look(new_uid()), format!("{} 0", ErrorKind::Denied));
    assert!(look(owner).starts_with("read "), "the owner reads them");
    // Root names the user, as a client does that connects.
    let denied = inspect::stats(&address).unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Denied);
    assert!(denied.to_string().contains("server_uid"), "{denied}");
    let expected = |uid| inspect::stats_with(&address, &ConnectOptions::new().server_uid(uid));
    assert_eq!(expected(owner).unwrap().owner.pid, server.pid());
    assert_eq!(expected(new_uid()).unwrap_err().kind(), ErrorKind::Denied);
}

/// Returns the place of the counters in an owner record: the descriptor, and the line.
fn place(server: &Server) -> (i32, String) {
    let record = fs::read_to_string(server.path().join("lock")).unwrap();
    let line = record.lines().find(|line| line.starts_with("stats ")).unwrap();
    (line.split(' ').nth(1).unwrap().parse().unwrap(), line.to_owned())
}

fn no_process_of_the_same_user_can_change_the_counters_or_their_size() {
    let base = Base::new();
    let address = base.address(Transport::Unix, "hall");
    let server = Server::bind(&address).unwrap();
    let path = format!("/proc/self/fd/{}", place(&server).0);
    // Root, and the owner after a change of the mode, can open the file for writing. The seals remain.
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let file = fs::File::options().read(true).write(true).open(&path).unwrap();
    for outcome in [file.write_all_at(&[1; 64], 0), file.set_len(0), file.set_len(1 << 40)] {
        assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
    assert!(fs::File::create(&path).is_err(), "the file cannot be truncated");
    let mut client = Connection::connect(&address).unwrap();
    let mut served = server.accept_timeout(DEADLINE).unwrap();
    client.send("hello").unwrap();
    served.recv().unwrap().unwrap();
    assert_eq!(inspect::stats(&address).unwrap().received.messages, 1);
}

/// Replaces the place of the counters in an owner record, and reads them.
fn stats_at(server: &Server, line: &str) -> parlour::Result<inspect::NameStats> {
    let path = server.path().join("lock");
    let record = fs::read_to_string(&path).unwrap();
    let before = place(server).1;
    fs::write(&path, record.replace(&before, line)).unwrap();
    let stats = inspect::stats(server.path().to_str().unwrap());
    fs::write(&path, record).unwrap();
    stats
}

fn line_of(file: &impl AsRawFd) -> String {
    let fd = file.as_raw_fd();
    let stat = fs::metadata(format!("/proc/self/fd/{fd}")).unwrap();
    format!("stats {fd} {}:{}", stat.dev(), stat.ino())
}

fn an_owner_record_that_names_another_file_is_not_believed() {
    let base = Base::new();
    let server = Server::bind(base.address(Transport::Unix, "hall")).unwrap();
    let (fd, good) = place(&server);
    assert!(stats_at(&server, &good).is_ok());
    let (reader, _writer) = rustix::pipe::pipe().unwrap();
    let zero = fs::File::open("/dev/zero").unwrap();
    let directory = fs::File::open("/").unwrap();
    let mut lines = vec![
        format!("stats {fd} 1:1"),
        "stats 1000000 1:1".to_owned(),
        line_of(&reader),
        line_of(&zero),
        line_of(&directory),
        good.replace(&format!("stats {fd} "), "stats 0 "),
    ];
    lines.extend(["stats", "stats -1 1:1", "stats 5", "stats 5 1", "stats 99999999999 1:1"].map(str::to_owned));
    for line in lines {
        let error = stats_at(&server, &line).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NoServer | ErrorKind::Unsupported), "{line}: {error}");
    }
    assert!(stats_at(&server, &good).is_ok());
}

fn counters_with_any_content_are_read_within_bounds() {
    let base = Base::new();
    let address = base.address(Transport::Unix, "hall");
    let server = Server::bind(&address).unwrap();
    let _client = Connection::connect(&address).unwrap();
    let _served = server.accept_timeout(DEADLINE).unwrap();
    let mut real = vec![0; 4096 + 64 * 256];
    let path = format!("/proc/self/fd/{}", place(&server).0);
    fs::File::open(path).unwrap().read_exact_at(&mut real, 0).unwrap();
    let forged = |bytes: &[u8]| {
        let memory = rustix::fs::memfd_create("forged", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let file = fs::File::from(memory);
        file.write_all_at(bytes, 0).unwrap();
        stats_at(&server, &line_of(&file))
    };
    assert_eq!(forged(&real).unwrap().clients.len(), 1);
    assert_eq!(forged(&[]).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(forged(&[7; 5000]).unwrap_err().kind(), ErrorKind::Unsupported);
    // Each word of the header and of the first slot has the largest value once. The number of slots is the largest that
    // is allowed, too.
    for at in (0..512).chain(4096..4096 + 256).step_by(8) {
        let mut bytes = real.clone();
        bytes[at..at + 8].copy_from_slice(&u64::MAX.to_ne_bytes());
        match forged(&bytes) {
            Ok(stats) => assert!(stats.clients.len() <= 1, "{at}: {stats:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{at}: {error}"),
        }
    }
    // A file of the largest number of slots, all of which are changing.
    let mut bytes = real[..4096].to_vec();
    bytes[32..40].copy_from_slice(&(1u64 << 20).to_ne_bytes());
    let mut changing = real[4096..4096 + 256].to_vec();
    changing[0] = 1;
    bytes.extend(changing.repeat(1 << 14));
    let stats = forged(&bytes).unwrap();
    assert_eq!((stats.clients.len(), stats.unlisted), (0, 1 << 14));
}

pub const FEW_BYTES: Role = Role { name: "few-bytes", play: few_bytes };

/// `few-bytes ADDRESS`: binds while the limit on file sizes is too low for counters, prints the error of reading them,
/// and echoes one message.
fn few_bytes(arguments: &[String]) {
    let limit = Rlimit { current: Some(4096), ..getrlimit(Resource::Fsize) };
    setrlimit(Resource::Fsize, limit).unwrap();
    let server = Server::bind(&arguments[0]).unwrap();
    println!("{}", inspect::stats(&arguments[0]).unwrap_err().kind());
    let mut connection = server.accept_timeout(DEADLINE).unwrap();
    let message = connection.recv_timeout(DEADLINE).unwrap().unwrap();
    connection.send(&message).unwrap();
    assert_eq!(server.stats().accepted, 1);
    std::io::stdin().lines().for_each(drop);
}

fn a_server_without_memory_for_counters_starts_and_serves() {
    let base = Base::new();
    let address = base.address(Transport::Unix, "hall");
    let mut server = Child::spawn("few-bytes", &[&address]);
    server.expect(&ErrorKind::Unsupported.to_string());
    let mut client = Connection::connect(&address).unwrap();
    client.send("hello").unwrap();
    assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    server.finish();
}

pub const COUNT_APART: Role = Role { name: "count-apart", play: count_apart };

/// `count-apart ADDRESS`: receives one message, another one in a forked child, and a third one. Then prints the
/// numbers of messages that were counted, and of those that were recorded for a tap.
fn count_apart(arguments: &[String]) {
    let server = Server::bind(&arguments[0]).unwrap();
    let mut tap = inspect::tap(&arguments[0]).unwrap();
    println!("ready");
    let mut connection = server.accept_timeout(DEADLINE).unwrap();
    let receive = |connection: &mut Connection, answer: &str| {
        connection.recv_timeout(DEADLINE).unwrap().unwrap();
        connection.send(answer).unwrap();
    };
    receive(&mut connection, "parent");
    let child = fork(|| {
        receive(&mut connection, "child");
        assert_eq!(server.client_stats(), []);
    });
    join(child);
    receive(&mut connection, "parent");
    let stats = inspect::stats(&arguments[0]).unwrap();
    let mut tapped = 0;
    while tap.recv_timeout(std::time::Duration::ZERO).unwrap().is_some() {
        tapped += 1;
    }
    println!("{} {} {} {tapped}", stats.open, stats.received.messages, stats.sent.messages);
    std::io::stdin().lines().for_each(drop);
}

fn a_forked_child_that_uses_a_connection_counts_and_records_nothing(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "hall");
    let mut server = Child::spawn("count-apart", &[&address]);
    server.expect("ready");
    let mut client = Connection::connect(&address).unwrap();
    for answer in ["parent", "child", "parent"] {
        client.send("message").unwrap();
        assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap(), answer.as_bytes());
    }
    server.expect("1 2 2 4");
    drop(client);
    server.finish();
}

pub const SERVE_HIDDEN: Role = Role { name: "serve-hidden", play: serve_hidden };

/// `serve-hidden address=A hide=pids|memory [uid=U] [deaf=1] [tap=1]`: serves in a PID namespace of its own, or from a
/// process that is not dumpable. Echoes the messages of one client, or waits for nothing.
fn serve_hidden(arguments: &[String]) {
    let words = Words(arguments);
    if words.find("hide") == Some("pids") {
        give_children_a_pid_namespace();
        return join(fork(|| echo_or_wait_for_nothing(&words)));
    }
    words.become_whom_they_say();
    hide_from_proc();
    echo_or_wait_for_nothing(&words);
}

fn echo_or_wait_for_nothing(words: &Words<'_>) {
    let options = match words.number("tap") {
        Some(1) => ServerOptions::new().tap(true),
        _ => ServerOptions::new(),
    };
    let server = options.bind(words.address()).unwrap();
    println!("ready");
    if words.number("deaf") == Some(1) {
        return std::io::stdin().lines().for_each(drop);
    }
    let mut connection = server.accept_timeout(DEADLINE).unwrap();
    while let Some(message) = connection.recv_timeout(DEADLINE).unwrap() {
        connection.send(&message).unwrap();
    }
}

fn a_server_that_is_not_dumpable_hands_its_counters_to_its_own_user_alone() {
    let top = Base::new();
    chmod(top.path(), 0o755);
    let (owner, home) = (new_uid(), top.path().join("home"));
    directory_of(&home, owner, 0o755);
    let address = home.join("private").display().to_string();
    let words = [format!("address={address}"), format!("uid={owner}"), "hide=memory".to_owned()];
    let mut server = Child::spawn("serve-hidden", &words);
    server.expect("ready");
    let look = |uid: u32| {
        let words = [format!("address={address}"), format!("uid={uid}"), format!("pid={}", server.pid())];
        let mut child = Child::spawn("look-at-stats", &words);
        let said = child.line();
        child.finish();
        said
    };
    assert_eq!(look(owner), "read 0");
    assert_eq!(look(new_uid()), format!("{} 0", ErrorKind::Denied));
}

fn a_server_in_another_pid_namespace_hands_its_counters_out_while_it_waits() {
    let base = Base::new();
    let address = base.address(Transport::Unix, "inside");
    let mut server = Child::spawn("serve-hidden", &[format!("address={address}"), "hide=pids".to_owned()]);
    server.expect("ready");
    let mut client = Connection::connect(&address).unwrap();
    client.send("hello").unwrap();
    assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    // The server sleeps in a receive, soon. It counts a message after it was sent.
    eventually("the answer is counted", || inspect::stats(&address).unwrap().sent.messages == 1);
    let stats = inspect::stats(&address).unwrap();
    assert_eq!((stats.owner.pid, stats.open, stats.received.messages, stats.sent.messages), (1, 1, 1, 1));
    assert!(stats_are_refused_at_another_place(&base, &address));
    client.send("again").unwrap();
    assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap(), b"again", "the conversation goes on");
    drop(client);
    server.finish();

    let words = ["hide=pids", "deaf=1"].map(str::to_owned);
    let mut server = Child::spawn("serve-hidden", &[&[format!("address={address}")], &words[..]].concat());
    server.expect("ready");
    assert_eq!(inspect::stats(&address).unwrap_err().kind(), ErrorKind::Busy);
    server.finish();
}

/// Returns true if the counters that a server hands out are refused when its record names another file.
fn stats_are_refused_at_another_place(base: &Base, address: &str) -> bool {
    let name = address.rsplit('/').next().unwrap();
    let lock = base.path().join(name).join("lock");
    let record = fs::read_to_string(&lock).unwrap();
    let forged: String = record
        .lines()
        .map(|line| if line.starts_with("stats ") { "stats 3 1:1\n".to_owned() } else { format!("{line}\n") })
        .collect();
    fs::write(&lock, forged).unwrap();
    let refused = inspect::stats(address).is_err_and(|error| error.kind() == ErrorKind::Unsupported);
    fs::write(&lock, record).unwrap();
    refused
}
