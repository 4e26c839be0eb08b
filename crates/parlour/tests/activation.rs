//! Servers on sockets that a service manager created. The manager listens before they start and after they end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test fails by panicking, and a child process talks with its test over stdout"
)]

#[path = "support/by_hand/mod.rs"]
mod by_hand;
#[path = "support/manager.rs"]
mod manager;
mod support;

use std::fs;
use std::io::{self, BufRead};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use by_hand::place::chmod;
use by_hand::user::{become_user, chown, new_uid, no_other_users};
use manager::Manager;
use parlour::hub::{Event, HubOptions};
use parlour::inspect::{self, NameState};
use parlour::{ConnectOptions, Connection, ErrorKind, Server, ServerOptions, Transport};
use rustix::net::SocketType;
use support::{Base, Child, DEADLINE, Role, data, roles, trials};

const ACTIVATED: Role = Role { name: "activated", play: activated };

const ACTIVATED_AS: Role = Role { name: "activated-as", play: activated_as };

const ACTIVATED_HUB: Role = Role { name: "activated-hub", play: activated_hub };

trials! {
    one_server_serves_the_passed_sockets_and_further_transports,
    a_live_server_of_the_name_is_not_disturbed_by_an_activated_one,
    an_activated_server_holds_its_name,
    an_activated_server_neither_hands_its_name_over_nor_takes_one_over,
    a_managers_socket_is_not_a_leftover_before_and_between_starts,
    files_of_clients_that_wait_are_left_when_the_server_ends,
    clients_see_the_server_and_not_the_manager,
    a_hub_can_be_activated,
    descriptors_that_belong_to_no_name_are_left_alone,
    no_program_inherits_a_passed_descriptor_although_activation_fails,
    a_passed_descriptor_that_is_not_open_is_named,
    a_descriptor_name_selects_sockets,
    sockets_of_two_names_need_a_selection,
    passed_sockets_are_taken_once,
    sockets_for_another_process_are_not_taken,
    one_connection_is_not_a_listening_socket,
    the_mode_of_the_socket_determines_that_of_the_directory;

    for transport in [Transport::Shm, Transport::Packet, Transport::Unix] =>
        clients_that_came_before_the_start_and_between_starts_are_served,
        clients_that_expect_the_user_of_the_server_are_served_from_the_first_one_on unless no_other_users(),
        the_managers_socket_outlives_every_end_of_its_server,
        a_socket_of_the_wrong_type_is_refused_and_the_right_one_named;
}

fn main() -> ExitCode {
    support::run(&[ACTIVATED, ACTIVATED_AS, ACTIVATED_HUB], &[trials])
}

/// `activated [FD-NAME [TRANSPORT]]`: takes over the sockets, prints `ready NAME TRANSPORTS` or `error KIND: TEXT`, and
/// then executes the lines of stdin:
///
/// | line | answer |
/// |---|---|
/// | `echo`: serves one client to its end | `served` |
/// | `close` | `closed` |
/// | `again`, `again FD-NAME`: takes over once more | as at the start |
/// | `kept`: passed descriptors that are still open | their numbers |
/// | `inherited`: descriptors from 3 on that a program would inherit | their numbers |
fn activated(arguments: &[String]) {
    let passed: Vec<(u32, PathBuf)> = (3..10).filter_map(|number| Some((number, file_of(number)?))).collect();
    let take_over = |arguments: &[&str]| {
        let options = match arguments.get(1) {
            Some(transport) => ServerOptions::new().transports([transport.parse().unwrap()]),
            None => ServerOptions::new(),
        };
        let server = match arguments.first() {
            Some(name) if !name.is_empty() => options.bind_listen_fds(Some(name)),
            _ => options.bind_listen_fds(None),
        };
        match &server {
            Ok(server) => {
                let transports: Vec<String> = server.transports().iter().map(ToString::to_string).collect();
                println!("ready {} {}", server.name(), transports.join(","));
            }
            Err(error) => println!("error {}: {error}", error.kind()),
        }
        server.ok()
    };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut server = take_over(&arguments);
    let mut others = Vec::new();
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[0] {
            "echo" => {
                roles::echo(server.as_ref().unwrap().accept_timeout(DEADLINE).unwrap());
                println!("served");
            }
            "close" => {
                server.take().unwrap().close().unwrap();
                println!("closed");
            }
            "again" => others.push(take_over(&words[1..])),
            "kept" => {
                let is_kept = |(number, file): &&(u32, PathBuf)| file_of(*number).as_ref() == Some(file);
                let kept: Vec<String> = passed.iter().filter(is_kept).map(|(number, _)| number.to_string()).collect();
                println!("{}", kept.join(" "));
            }
            "inherited" => println!("{}", inheritable().join(" ")),
            other => panic!("unknown command {other:?}"),
        }
    }
}

/// `activated-as UID`: does what `activated` does, as that user.
fn activated_as(arguments: &[String]) {
    become_user(arguments[0].parse().unwrap());
    activated(&[]);
}

/// `activated-hub [FD-NAME]`: takes over the sockets, prints `ready`, serves one client to its end and prints `served`.
fn activated_hub(arguments: &[String]) {
    let options = HubOptions::new();
    let mut hub = match arguments.first() {
        Some(name) => options.bind_listen_fds(Some(name)).unwrap(),
        None => options.bind_listen_fds(None).unwrap(),
    };
    println!("ready");
    loop {
        match hub.next_event().unwrap() {
            Event::Message(client, message) => hub.send(client, &message).unwrap(),
            Event::Finished(client) => hub.finish(client).unwrap(),
            Event::Left(..) => break,
            _ => {}
        }
    }
    println!("served");
}

/// Returns the file of a descriptor, as /proc shows it: a path, or the type and the inode.
fn file_of(number: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{number}")).ok()
}

/// Returns the numbers of the open descriptors from 3 to 9 that are not close-on-exec. (The parent of the test process
/// may have left higher ones open.)
fn inheritable() -> Vec<String> {
    let is_kept = |number: &String| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).map(str::trim);
        let flags = flags.and_then(|flags| u32::from_str_radix(flags, 8).ok());
        flags.is_some_and(|flags| flags & 0o2_000_000 == 0)
    };
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    let numbers = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut kept: Vec<String> =
        numbers.filter(|number| (3..10).contains(&number.parse::<u32>().unwrap())).filter(is_kept).collect();
    kept.sort();
    kept
}

fn start(manager: &Manager, arguments: &[&str]) -> Child {
    Child::start(&mut manager.hand_over(&Child::command("activated", arguments)))
}

fn started(manager: &Manager, ready: &str) -> Child {
    let mut server = start(manager, &[]);
    server.expect(ready);
    server
}

/// Starts a client that exchanges three messages. It runs in a thread, because over `shm` connecting waits for the
/// server.
fn client(address: &str) -> thread::JoinHandle<()> {
    client_with(ConnectOptions::new(), address)
}

fn client_with(options: ConnectOptions, address: &str) -> thread::JoinHandle<()> {
    let address = address.to_owned();
    thread::spawn(move || {
        let mut connection = options.timeout(DEADLINE).connect(&address).unwrap();
        for number in 0..3 {
            connection.send(data::message(number, 1000)).unwrap();
            data::check(&connection.recv_timeout(DEADLINE).unwrap().expect("a reply"), number, 1000);
        }
        connection.close().unwrap();
    })
}

/// Waits until a client is in the queue of a socket, from the connections that /proc/net/unix shows.
fn wait_for_a_client(path: &Path) {
    support::eventually("a client in the queue", || {
        let table = fs::read_to_string("/proc/net/unix").unwrap();
        // One line is the listening socket itself, and each waiting client adds one.
        table.lines().filter(|line| line.ends_with(path.to_str().unwrap())).count() > 1
    });
}

fn clients_that_came_before_the_start_and_between_starts_are_served(transport: Transport) {
    let base = Base::new();
    let (directory, address) = (base.name("room"), base.address(transport, "room"));
    let manager = Manager::of_name(&directory, &[&transport.to_string()]);
    for round in 0..3 {
        let first = client(&address);
        wait_for_a_client(&directory.join(transport.to_string()));
        let mut server = started(&manager, &format!("ready room {transport}"));
        assert_eq!(server.ask("echo"), "served", "round {round}");
        first.join().unwrap();
        let second = client(&address);
        assert_eq!(server.ask("echo"), "served", "round {round}");
        second.join().unwrap();
        match round {
            0 => assert_eq!(server.ask("close"), "closed"),
            1 => server.finish(),
            _ => server.kill(),
        }
    }
}

/// The sockets belong to root, or to the user that `SocketUser=` names.
fn clients_that_expect_the_user_of_the_server_are_served_from_the_first_one_on(transport: Transport) {
    for is_of_root in [true, false] {
        let base = Base::new();
        let (directory, address, uid) = (base.name("room"), base.address(transport, "room"), new_uid());
        let manager = Manager::of_name(&directory, &[&transport.to_string()]);
        let socket = directory.join(transport.to_string());
        if !is_of_root {
            chown(&socket, uid);
        }
        chown(&directory, uid);
        chmod(base.path(), 0o755);
        let expecting = || client_with(ConnectOptions::new().server_uid(uid), &address);
        let first = expecting();
        wait_for_a_client(&socket);
        let mut server = Child::start(&mut manager.hand_over(&Child::command("activated-as", &[uid.to_string()])));
        server.expect(&format!("ready room {transport}"));
        assert_eq!(server.ask("echo"), "served");
        first.join().unwrap();
        let second = expecting();
        assert_eq!(server.ask("echo"), "served");
        second.join().unwrap();
        server.kill();
    }
}

fn the_managers_socket_outlives_every_end_of_its_server(transport: Transport) {
    let base = Base::new();
    let directory = base.name("room");
    let path = directory.join(transport.to_string());
    let manager = Manager::of_name(&directory, &[&transport.to_string()]);
    let inode = || {
        let file = fs::symlink_metadata(&path).unwrap();
        assert!(file.file_type().is_socket());
        file.ino()
    };
    let before = inode();
    let mut server = started(&manager, &format!("ready room {transport}"));
    assert_eq!(server.ask("close"), "closed");
    assert_eq!(inode(), before);
    server.finish();
    started(&manager, &format!("ready room {transport}")).finish();
    assert_eq!(inode(), before);
    started(&manager, &format!("ready room {transport}")).kill();
    assert_eq!(inode(), before);
    let _server = started(&manager, &format!("ready room {transport}"));
    assert_eq!(inode(), before);
}

fn a_socket_of_the_wrong_type_is_refused_and_the_right_one_named(transport: Transport) {
    let base = Base::new();
    let wrong = if transport == Transport::Unix { SocketType::SEQPACKET } else { SocketType::STREAM };
    let mut manager = Manager::default();
    manager.add_listening(&base.name("room").join(transport.to_string()), wrong, "parlour");
    let told = start(&manager, &[]).line();
    let right = if transport == Transport::Unix { "use ListenStream=" } else { "use ListenSequentialPacket=" };
    assert!(told.starts_with("error invalid option: ") && told.contains(right), "{told}");
}

fn one_server_serves_the_passed_sockets_and_further_transports() {
    let base = Base::new();
    let manager = Manager::of_name(&base.name("room"), &["unix", "packet", "shm"]);
    let mut server = start(&manager, &["", "fifo"]);
    server.expect("ready room shm,packet,unix,fifo");
    for &transport in Transport::ALL {
        let client = client(&base.address(transport, "room"));
        assert_eq!(server.ask("echo"), "served", "{transport}");
        client.join().unwrap();
    }
    assert_eq!(server.ask("kept"), "", "the passed descriptors were replaced by duplicates");
    assert_eq!(server.ask("inherited"), "");
    assert_eq!(server.ask("close"), "closed");
    // The server has removed only the FIFO, which it created itself.
    assert_eq!(base.files(), ["room/", "room/c/", "room/lock", "room/packet", "room/shm", "room/unix"]);
}

/// The manager passes the sockets to the next server itself.
fn an_activated_server_neither_hands_its_name_over_nor_takes_one_over() {
    let base = Base::new();
    let manager = Manager::of_name(&base.name("room"), &["unix"]);
    let mut server = start(&manager, &[]);
    server.expect("ready room unix");
    assert!(!base.name("room").join("control").exists());
    let taking_over = ServerOptions::new().take_over(DEADLINE);
    let error = taking_over.bind(base.name("room").to_str().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameInUse, "{error}");
    assert!(error.to_string().contains("serves on the sockets of a service manager"), "{error}");
    assert_eq!(server.ask("close"), "closed");
    assert_eq!(taking_over.bind_listen_fds(None).unwrap_err().kind(), ErrorKind::InvalidOption);
}

fn a_live_server_of_the_name_is_not_disturbed_by_an_activated_one() {
    let base = Base::new();
    let holder = Server::bind(base.address(Transport::Fifo, "room")).unwrap();
    let manager = Manager::of_name(&base.name("room"), &["unix"]);
    let mut server = start(&manager, &[]);
    let told = server.line();
    assert!(told.starts_with("error name in use: "), "{told}");
    assert!(told.contains(&format!("pid {}", std::process::id())), "{told}");
    // The passed sockets are untouched, and the holder continues.
    assert_eq!(server.ask("kept"), "3");
    assert!(holder.try_accept().unwrap_err().is_empty());
    drop(holder);
    assert_eq!(server.ask("again"), "ready room unix");
}

fn an_activated_server_holds_its_name() {
    let base = Base::new();
    let manager = Manager::of_name(&base.name("room"), &["unix"]);
    let server = started(&manager, "ready room unix");
    let error = Server::bind(base.address(Transport::Fifo, "room")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameInUse);
    assert_eq!(error.holder().unwrap().pid, server.pid());
}

fn a_managers_socket_is_not_a_leftover_before_and_between_starts() {
    let base = Base::new();
    let address = base.name("room").display().to_string();
    let manager = Manager::of_name(&base.name("room"), &["unix"]);
    let look = || inspect::resolve(&address).unwrap().candidates.remove(0).name.unwrap();
    let assert_it_stays = || {
        let status = look();
        assert!(matches!(status.state, NameState::Waiting), "{status:?}");
        assert_eq!(inspect::resolve(&address).unwrap().client.unwrap(), base.name("room"));
        assert!(!inspect::clean(&status).unwrap());
        let error = Server::bind(&address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NameInUse);
        assert!(error.to_string().contains("probably a service manager, listens"), "{error}");
        assert!(base.name("room").join("unix").exists());
    };
    assert_it_stays();
    assert_eq!(base.files(), ["room/", "room/unix"], "a refusal leaves nothing behind");
    let mut server = started(&manager, "ready room unix");
    assert!(matches!(look().state, NameState::Live));
    assert_eq!(server.ask("close"), "closed");
    assert_it_stays();
    // A socket without a listener is a leftover.
    drop(server);
    drop(manager);
    assert!(matches!(look().state, NameState::Dead));
    Server::bind(&address).unwrap();
}

fn files_of_clients_that_wait_are_left_when_the_server_ends() {
    let base = Base::new();
    let address = base.address(Transport::Unix, "room");
    let manager = Manager::of_name(&base.name("room"), &["unix"]);
    let mut server = started(&manager, "ready room unix");
    // One client waits with a file of its own, and one was killed before it connected.
    let mut connection = Connection::connect(&address).unwrap();
    connection.send(b"hello").unwrap();
    let left = format!("room/c/1-{}.s2c", "0".repeat(32));
    rustix::fs::mkfifoat(rustix::fs::CWD, base.path().join(&left), rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let files =
        || base.files().into_iter().filter(|file| file.starts_with("room/c/1") || file.ends_with(".sock")).count();
    assert_eq!(files(), 2);
    assert_eq!(server.ask("close"), "closed");
    assert_eq!(files(), 1, "the FIFO of the killed client must be removed: {:?}", base.files());
    server.finish();
    // The age of the file does not matter.
    let waiting = base.files().into_iter().find(|file| file.ends_with(".sock")).unwrap();
    let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    rustix::fs::utimensat(
        rustix::fs::CWD,
        base.path().join(waiting),
        &rustix::fs::Timestamps { last_access: seconds(hour_ago), last_modification: seconds(hour_ago) },
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )
    .unwrap();
    let mut server = started(&manager, "ready room unix");
    server.say("echo");
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    assert_eq!(files(), 0);
    connection.close().unwrap();
    server.expect("served");
}

fn seconds(time: std::time::SystemTime) -> rustix::fs::Timespec {
    let since = time.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
    rustix::fs::Timespec { tv_sec: since.as_secs().try_into().unwrap(), tv_nsec: 0 }
}

fn clients_see_the_server_and_not_the_manager() {
    let base = Base::new();
    let address = base.address(Transport::Unix, "room");
    let manager = Manager::of_name(&base.name("room"), &["unix"]);
    let before = Connection::connect(&address).unwrap();
    assert_eq!(before.peer().pid(), Some(std::process::id()), "the manager is this process");
    let mut server = started(&manager, "ready room unix");
    let after = Connection::connect(&address).unwrap();
    assert_eq!(after.peer().pid(), Some(server.pid()));
    drop((before, after));
    server.say("echo");
    server.expect("served");
}

fn a_hub_can_be_activated() {
    let base = Base::new();
    // The manager's socket stays until the next server removes it as a leftover.
    support::base::leaves_files();
    let manager = Manager::of_name(&base.name("room"), &["unix"]);
    for arguments in [&[][..], &["parlour"]] {
        let client = client(&base.address(Transport::Unix, "room"));
        let mut hub = Child::start(&mut manager.hand_over(&Child::command("activated-hub", arguments)));
        hub.expect("ready");
        hub.expect("served");
        client.join().unwrap();
        hub.finish();
    }
}

fn descriptors_that_belong_to_no_name_are_left_alone() {
    let base = Base::new();
    let mut manager = Manager::default();
    manager.add(TcpListener::bind("127.0.0.1:0").unwrap(), "web");
    manager.add_name(&base.name("room"), &["unix"], "parlour");
    manager.add_listening(&base.path().join("plain.sock"), SocketType::STREAM, "plain");
    manager.add(fs::File::open("/dev/null").unwrap(), "store");
    let mut server = started(&manager, "ready room unix");
    assert_eq!(server.ask("kept"), "3 5 6");
    assert_eq!(server.ask("inherited"), "", "descriptors of the manager");

    let mut manager = Manager::default();
    manager.add(TcpListener::bind("127.0.0.1:0").unwrap(), "web");
    manager.add_listening(&base.path().join("other.sock"), SocketType::STREAM, "plain");
    let told = start(&manager, &[]).line();
    for part in ["error invalid option: ", "\"web\": it is not a UNIX socket", "\"plain\": its path", "NAME/unix"] {
        assert!(told.contains(part), "{told}");
    }
}

/// The names do not match the descriptors, or no descriptor has the selected name.
fn no_program_inherits_a_passed_descriptor_although_activation_fails() {
    let base = Base::new();
    let mut manager = Manager::default();
    manager.add_name(&base.name("room"), &["unix"], "parlour");
    manager.add(TcpListener::bind("127.0.0.1:0").unwrap(), "web");
    for names in ["a:b:c", "a", "other:other"] {
        let mut command = manager.hand_over(&Child::command("activated", &["parlour"]));
        let mut server = Child::start(command.env("LISTEN_FDNAMES", names));
        let told = server.line();
        assert!(told.starts_with("error "), "{names}: {told}");
        assert_eq!(server.ask("kept"), "3 4", "{names}");
        assert_eq!(server.ask("inherited"), "", "{names}");
    }
}

fn a_passed_descriptor_that_is_not_open_is_named() {
    let base = Base::new();
    let manager = Manager::of_name(&base.name("room"), &["unix"]);
    let mut command = manager.hand_over(&Child::command("activated", &[""; 0]));
    let mut server = Child::start(command.env("LISTEN_FDS", "7").env_remove("LISTEN_FDNAMES"));
    let told = server.line();
    assert!(told.starts_with("error invalid option: ") && told.contains("which is not open"), "{told}");
    assert_eq!(server.ask("inherited"), "");
}

fn a_descriptor_name_selects_sockets() {
    let base = Base::new();
    let mut manager = Manager::default();
    manager.add_name(&base.name("one"), &["unix", "packet"], "first");
    manager.add_name(&base.name("two"), &["unix"], "second");
    let mut server = start(&manager, &["second"]);
    server.expect("ready two unix");
    assert_eq!(server.ask("kept"), "3 4");
    assert_eq!(server.ask("inherited"), "");
    assert_eq!(server.ask("again first"), "ready one packet,unix");
    assert_eq!(server.ask("kept"), "");
    let told = start(&manager, &["third"]).line();
    assert!(told.starts_with("error unsupported: ") && told.contains("first, first, second"), "{told}");
}

fn sockets_of_two_names_need_a_selection() {
    let base = Base::new();
    let mut manager = Manager::default();
    manager.add_name(&base.name("one"), &["unix"], "first");
    manager.add_name(&base.name("two"), &["unix"], "second");
    let mut server = start(&manager, &[]);
    let told = server.line();
    assert!(told.starts_with("error invalid option: ") && told.contains("FileDescriptorName="), "{told}");
    assert_eq!(server.ask("kept"), "3 4");
    assert_eq!(server.ask("again first"), "ready one unix");
}

fn passed_sockets_are_taken_once() {
    let base = Base::new();
    let manager = Manager::of_name(&base.name("room"), &["unix"]);
    let mut server = started(&manager, "ready room unix");
    let told = server.ask("again");
    assert!(told.starts_with("error unsupported: ") && told.contains("taken already"), "{told}");
    assert_eq!(server.ask("close"), "closed");
    assert_eq!(server.ask("again"), told);
}

fn sockets_for_another_process_are_not_taken() {
    let base = Base::new();
    let manager = Manager::of_name(&base.name("room"), &["unix"]);
    let mut command = manager.hand_over(&Child::command::<&str>("activated", &[]));
    // This is the case of a wrapping shell that does not exec the program.
    let mut wrapped = Child::command::<&str>("activated", &[]);
    wrapped.env("LISTEN_PID", "1").env("LISTEN_FDS", "1");
    let told = Child::start(&mut wrapped).line();
    assert!(told.starts_with("error unsupported: ") && told.contains("assigns them to process \"1\""), "{told}");
    command.env_remove("LISTEN_FDS");
    let told = Child::start(&mut command).line();
    assert!(told.contains("the environment announces none"), "{told}");
    assert_eq!(Server::from_listen_fds(None).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(Server::from_listen_fds(Some("parlour")).unwrap_err().kind(), ErrorKind::Unsupported);
}

fn one_connection_is_not_a_listening_socket() {
    let base = Base::new();
    let path = base.name("room").join("unix");
    let listener = std::os::unix::net::UnixListener::from(manager::bound(&path, SocketType::STREAM));
    rustix::net::listen(&listener, 1).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    let mut manager = Manager::default();
    manager.add(listener.accept().unwrap().0, "connection");
    let told = start(&manager, &[]).line();
    assert!(told.starts_with("error invalid option: ") && told.contains("use Accept=no"), "{told}");
}

fn the_mode_of_the_socket_determines_that_of_the_directory() {
    for (mode, expected) in [(0o600, 0o700), (0o644, 0o700), (0o666, 0o755), (0o620, 0o755)] {
        let base = Base::new();
        // Other users must be able to enter the base.
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let directory = base.name("room");
        let manager = Manager::of_name(&directory, &["unix"]);
        fs::set_permissions(directory.join("unix"), fs::Permissions::from_mode(mode)).unwrap();
        let _server = started(&manager, "ready room unix");
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o7777, expected);
        assert_eq!(fs::metadata(directory.join("unix")).unwrap().permissions().mode() & 0o7777, mode);
    }
}
