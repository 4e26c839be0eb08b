//! Connections that a child process inherits, without a name.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test fails by panicking, and a child reports to its test on stdout"
)]

mod support;

use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parlour::{ConnectOptions, Connection, ErrorKind, Payload, Provenance, SharedBytes, Transport};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use support::{Base, Child, DEADLINE, ROLE, Role, data, roles, trials};

/// The transports of which a child can inherit an end.
const INHERITED: [Transport; 3] = [Transport::Unix, Transport::Packet, Transport::Shm];

const ROLES: &[Role] = &[
    Role { name: "inherit-and-echo", play: inherit_and_echo },
    Role { name: "inherit-and-look", play: inherit_and_look },
    Role { name: "inherit-twice", play: inherit_twice },
    Role { name: "inherit-small-rings", play: inherit_small_rings },
    Role { name: "inherit-as-task", play: inherit_as_task },
    Role { name: "tell-errors", play: tell_errors },
];

trials! {
    a_pair_of_fifos_is_not_inherited,
    a_program_that_does_not_exist_is_an_error_and_leaves_nothing,
    without_the_variable_the_error_says_how_to_start_the_program,
    a_malformed_variable_is_named,
    a_descriptor_that_is_no_end_of_a_pair_is_refused_and_left_as_it_is,
    a_descriptor_that_another_process_was_given_is_refused,
    a_parent_of_another_user_than_the_expected_one_is_refused,
    an_announced_transport_that_the_socket_does_not_have_is_refused,
    memory_that_the_parent_did_not_send_is_an_error_and_the_socket_stays,
    a_ring_that_is_too_large_for_the_child_is_refused_and_can_be_taken_with_other_options,
    the_memory_of_the_child_can_be_written_by_nobody_else,
    what_the_parent_sends_at_once_waits_for_the_child,
    outside_of_a_runtime_no_child_is_started_and_no_connection_taken,
    a_program_in_python_uses_the_descriptor_itself unless no_python();

    for transport in INHERITED =>
        tasks_are_at_both_ends,
        messages_of_every_length_pass_each_way,
        a_program_that_is_started_otherwise_takes_its_end,
        the_end_of_either_process_is_the_end_of_the_stream,
        each_end_knows_its_peer,
        descriptors_pass_if_the_receiver_allows_them,
        a_wrapper_passes_the_connection_on,
        the_child_takes_the_connection_once,
        what_the_child_starts_inherits_nothing,
        programs_that_other_threads_start_inherit_nothing;
}

fn main() -> ExitCode {
    support::run(ROLES, &[trials])
}

fn no_python() -> Option<String> {
    let status = Command::new("python3").args(["-c", "import socket"]).stdout(Stdio::null()).status();
    (!status.is_ok_and(|status| status.success())).then(|| "python3 is not installed".to_owned())
}

/// `inherit-and-echo`: echoes what its parent sends, up to the end.
fn inherit_and_echo(_: &[String]) {
    roles::echo(ConnectOptions::new().fds_max(4).from_env().unwrap());
}

/// `inherit-small-rings`: takes the connection with rings of at most 64 KiB, then with the defaults, and sends the
/// error of the first attempt.
fn inherit_small_rings(_: &[String]) {
    let error = ConnectOptions::new().peer_ring_max(64 * 1024).from_env().unwrap_err();
    support::assert_tells(&error);
    let mut parent = Connection::from_env().unwrap();
    parent.send(&error.to_string()).unwrap();
    assert_eq!(parent.recv().unwrap(), None);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// `inherit-as-task`: echoes what its parent sends, up to the end, after an attempt outside of a runtime.
fn inherit_as_task(_: &[String]) {
    let error = parlour::tokio::Connection::from_env().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    support::assert_tells(&error);
    runtime().block_on(async {
        let mut parent = parlour::tokio::Connection::from_env().unwrap();
        while let Some(message) = parent.recv().await.unwrap() {
            parent.send(&message).await.unwrap();
        }
    });
}

/// `inherit-and-look`: takes the connection, and sends the descriptors of a program that it starts.
fn inherit_and_look(_: &[String]) {
    let mut parent = Connection::from_env().unwrap();
    parent.send(&descriptors_of_a_program()).unwrap();
}

/// `inherit-twice`: takes the connection, and sends the error of taking it again, in two threads and after its end.
fn inherit_twice(_: &[String]) {
    let mut parent = Connection::from_env().unwrap();
    let errors: Vec<String> = thread::scope(|scope| {
        let again = || Connection::from_env().unwrap_err().to_string();
        let threads = [scope.spawn(again), scope.spawn(again)];
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(errors[0], errors[1]);
    parent.send(&errors[0]).unwrap();
    assert_eq!(parent.recv().unwrap(), None);
    drop(parent);
    assert_eq!(Connection::from_env().unwrap_err().to_string(), errors[0]);
}

/// `tell-errors [UID]`: prints the kind and the text of the error, twice, and what the descriptor 0 is in the end.
fn tell_errors(arguments: &[String]) {
    let mut options = ConnectOptions::new();
    if let Some(uid) = arguments.first() {
        options = options.server_uid(uid.parse().unwrap());
    }
    for _ in 0..2 {
        let error = options.from_env().unwrap_err();
        support::assert_tells(&error);
        println!("{:?} {error}", error.kind());
    }
    println!("{}", rustix::fs::fstat(std::io::stdin()).unwrap().st_ino);
}

/// Returns the open descriptors of a program that this process starts, one in a line.
fn descriptors_of_a_program() -> String {
    let output = Command::new("sh").args(["-c", "ls -l /proc/$$/fd"]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Starts this executable in a role, with one end of a connection.
fn start(role: &str, transport: Transport) -> (Connection, std::process::Child) {
    ConnectOptions::new().fds_max(4).spawn(Child::command::<&str>(role, &[]), transport).unwrap()
}

fn finish(mut child: std::process::Child) {
    let mut status = None;
    support::eventually("the end of the child", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success(), "{status:?}");
}

fn messages_of_every_length_pass_each_way(transport: Transport) {
    let (mut connection, child) = start("inherit-and-echo", transport);
    for (seed, length) in [0, 1, 5, 4095, 65_536, 300_000, 5 << 20].into_iter().enumerate() {
        let message = data::message(seed, length);
        connection.send(message).unwrap();
        assert!(connection.recv_timeout(DEADLINE).unwrap().unwrap() == *message, "{length} bytes");
    }
    connection.close().unwrap();
    finish(child);
}

fn a_program_that_is_started_otherwise_takes_its_end(transport: Transport) {
    let (mut connection, end) = ConnectOptions::new().fds_max(4).child_end(transport).unwrap();
    assert_eq!((connection.peer().pid(), connection.peer().uid()), (None, None));
    let mut command = Child::command::<&str>("inherit-and-echo", &[]);
    // The standard input is a descriptor that a child inherits without unsafe code.
    let socket = end.as_fd().try_clone_to_owned().unwrap();
    command.envs(end.env()).env("PARLOUR_FD", "0").stdin(Stdio::from(socket));
    let child = command.spawn().unwrap();
    drop((command, end));
    connection.send("hello").unwrap();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    connection.finish().unwrap();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap(), None);
    finish(child);
}

fn the_end_of_either_process_is_the_end_of_the_stream(transport: Transport) {
    let (mut connection, mut child) = start("inherit-and-echo", transport);
    connection.send("hello").unwrap();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap(), None, "no other process holds the child's end");
    let error = connection.send("hello").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    support::assert_tells(&error);

    let (connection, child) = start("inherit-and-echo", transport);
    drop(connection);
    finish(child);
}

fn each_end_knows_its_peer(transport: Transport) {
    let (mut connection, child) = start("inherit-and-echo", transport);
    let peer = connection.peer();
    assert_eq!((peer.pid(), peer.pid_provenance()), (Some(child.id()), Provenance::Verified));
    assert_eq!((peer.uid(), peer.gid()), (None, None));
    assert_eq!(connection.peer_pidfd().unwrap_err().kind(), std::io::ErrorKind::Unsupported);
    connection.finish().unwrap();
    let error = connection.send("x").unwrap_err().to_string();
    assert!(error.starts_with("cannot send to the child '/"), "{error}");
    assert!(error.contains(&format!("' (pid {}): ", child.id())), "{error}");
    assert_eq!(connection.recv().unwrap(), None);
    finish(child);
}

fn descriptors_pass_if_the_receiver_allows_them(transport: Transport) {
    let (file, block) = (File::open("/dev/null").unwrap(), SharedBytes::new(b"block").unwrap());
    // `shm` carries blocks alone.
    let send = |connection: &mut Connection| match transport {
        Transport::Shm => connection.send(Payload::new(b"a file").shared(&[&block])),
        _ => connection.send(Payload::new(b"a file").fds(&[file.as_fd()])),
    };
    let (mut connection, child) = start("inherit-and-echo", transport);
    send(&mut connection).unwrap();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"a file");
    connection.close().unwrap();
    finish(child);

    let (mut connection, child) = start("inherit-twice", transport);
    connection.recv_timeout(DEADLINE).unwrap().unwrap();
    match send(&mut connection) {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Refused),
        Ok(()) => assert!(!support::kernel_refuses_descriptors()),
    }
    connection.close().unwrap();
    if support::kernel_refuses_descriptors() {
        finish(child);
    } else {
        let mut child = child;
        child.wait().unwrap();
    }
}

fn a_wrapper_passes_the_connection_on(transport: Transport) {
    let mut wrapper = Command::new("sh");
    wrapper.args(["-c", "\"$0\"; exit $?"]).arg(std::env::current_exe().unwrap()).env(ROLE, "inherit-and-echo");
    let (mut connection, child) = Connection::spawn(wrapper, transport).unwrap();
    connection.send("hello").unwrap();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    connection.close().unwrap();
    finish(child);
}

fn the_child_takes_the_connection_once(transport: Transport) {
    let (mut connection, child) = start("inherit-twice", transport);
    let error = connection.recv_timeout(DEADLINE).unwrap().unwrap();
    let expected = "cannot take the connection of $PARLOUR_FD: this process has taken the connection already; take it \
                    once and pass the connection on";
    assert_eq!(std::str::from_utf8(&error).unwrap(), expected);
    connection.close().unwrap();
    finish(child);
}

fn what_the_child_starts_inherits_nothing(transport: Transport) {
    let (mut connection, child) = start("inherit-and-look", transport);
    let listed = connection.recv_timeout(DEADLINE).unwrap().unwrap();
    let listed = std::str::from_utf8(&listed).unwrap();
    assert!(!listed.contains("socket:"), "{listed}");
    finish(child);
}

fn programs_that_other_threads_start_inherit_nothing(transport: Transport) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut programs = 0;
            while !is_over.load(Ordering::Relaxed) || programs < 20 {
                let listed = descriptors_of_a_program();
                assert!(!listed.contains("socket:"), "{listed}");
                programs += 1;
            }
        });
        for _ in 0..20 {
            let (connection, child) = start("inherit-and-echo", transport);
            connection.close().unwrap();
            finish(child);
        }
        is_over.store(true, Ordering::Relaxed);
        looking.join().unwrap();
    });
}

fn a_pair_of_fifos_is_not_inherited() {
    let error = Connection::spawn(Command::new("true"), Transport::Fifo).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    support::assert_tells(&error);
    let error = ConnectOptions::new().child_end(Transport::Fifo).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    support::assert_tells(&error);
}

fn tasks_are_at_both_ends(transport: Transport) {
    runtime().block_on(async {
        let command = Child::command::<&str>("inherit-as-task", &[]);
        let (mut connection, child) = parlour::tokio::Connection::spawn(command, transport).unwrap();
        assert_eq!(connection.peer().pid(), Some(child.id()));
        let talk = async {
            for (seed, length) in [0, 1, 70_000, 5 << 20].into_iter().enumerate() {
                let message = data::message(seed, length);
                connection.send(message).await.unwrap();
                assert!(connection.recv().await.unwrap().unwrap() == *message, "{length} bytes");
            }
            connection.finish().await.unwrap();
            assert_eq!(connection.recv().await.unwrap(), None);
        };
        tokio::time::timeout(DEADLINE, talk).await.unwrap();
        finish(child);
    });
}

fn outside_of_a_runtime_no_child_is_started_and_no_connection_taken() {
    let marker = Base::with_foreign_files();
    let mut command = Command::new("touch");
    command.arg(marker.path().join("started"));
    let error = parlour::tokio::Connection::spawn(command, Transport::Unix).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    support::assert_tells(&error);
    assert!(!marker.path().join("started").exists());
}

fn what_the_parent_sends_at_once_waits_for_the_child() {
    // The child has not started yet, or is about to. The ring takes everything.
    for transport in INHERITED {
        let options = ConnectOptions::new().ring_size(1 << 20);
        let (mut connection, child) =
            options.spawn(Child::command::<&str>("inherit-and-echo", &[]), transport).unwrap();
        for number in 0..20 {
            connection.send_timeout(data::message(number, 1000), DEADLINE).unwrap();
        }
        connection.finish().unwrap();
        for number in 0..20 {
            assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), data::message(number, 1000));
        }
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap(), None);
        finish(child);
    }
}

fn an_announced_transport_that_the_socket_does_not_have_is_refused() {
    let sockets =
        |socket_type| rustix::net::socketpair(AddressFamily::UNIX, socket_type, SocketFlags::CLOEXEC, None).unwrap();
    let cases = [
        (SocketType::STREAM, "packet", "another type than the announced transport has;"),
        (SocketType::STREAM, "shm", "another type than the announced transport has;"),
        (SocketType::SEQPACKET, "unix", "another type than the announced transport has;"),
        (SocketType::SEQPACKET, "fifo", "$PARLOUR_FD_TRANSPORT is not unix, packet or shm;"),
        (SocketType::SEQPACKET, "", "$PARLOUR_FD_TRANSPORT is not unix, packet or shm;"),
    ];
    for (socket_type, announced, told) in cases {
        let (one, _other) = sockets(socket_type);
        let error = error_of(one, &[("PARLOUR_FD", "0"), ("PARLOUR_FD_TRANSPORT", announced)], &[]);
        assert!(error.starts_with("InvalidOption ") && error.contains(told), "{announced}: {error}");
    }
}

fn memory_that_the_parent_did_not_send_is_an_error_and_the_socket_stays() {
    let variables = [("PARLOUR_FD", "0"), ("PARLOUR_FD_TRANSPORT", "shm")];
    let case = |datagrams: &[&[u8]], told: &str| {
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        for datagram in datagrams {
            rustix::io::write(&other, datagram).unwrap();
        }
        // `error_of` asserts that a second call finds the same.
        let error = error_of(one, &variables, &[]);
        assert!(error.starts_with("Protocol cannot take the connection of $PARLOUR_FD: "), "{error}");
        assert!(error.contains(told), "{error}");
    };
    case(&[], "the parent has sent no greeting;");
    case(&[b"junk"], "the greeting of the peer is malformed");
    let hello = b"parlour1\x01\0\0\x01\0\0\0\0\0\0\0\0\0\x10\0\0";
    case(&[hello], "a wrong number of descriptors (0)");
}

fn a_ring_that_is_too_large_for_the_child_is_refused_and_can_be_taken_with_other_options() {
    let options = ConnectOptions::new().ring_size(1 << 20);
    let command = Child::command::<&str>("inherit-small-rings", &[]);
    let (mut connection, child) = options.spawn(command, Transport::Shm).unwrap();
    let error = connection.recv_timeout(DEADLINE).unwrap().unwrap();
    let error = std::str::from_utf8(&error).unwrap();
    assert!(
        error.contains("the ring of the peer has 1048576 bytes; 65536 are allowed (option peer_ring_max);"),
        "{error}"
    );
    connection.close().unwrap();
    finish(child);
}

/// The memory of each side is sealed against further writers, also that which the parent has made for the child.
fn the_memory_of_the_child_can_be_written_by_nobody_else() {
    let (mut connection, child) = start("inherit-and-echo", Transport::Shm);
    connection.send("hello").unwrap();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    let writable_in = |pid: u32| {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let of_rings = maps.lines().filter(|line| line.contains("memfd:parlour-shm"));
        let modes: Vec<String> = of_rings.map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect();
        assert_eq!(modes.len(), 2, "{maps}");
        modes.iter().filter(|mode| mode.contains('w')).count()
    };
    assert_eq!((writable_in(std::process::id()), writable_in(child.id())), (1, 1));
    // No process has a descriptor of the memory any more.
    for pid in [std::process::id(), child.id()] {
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
            let target = std::fs::read_link(entry.unwrap().path());
            assert!(!target.is_ok_and(|target| target.to_string_lossy().contains("memfd:")), "in process {pid}");
        }
    }
    connection.close().unwrap();
    finish(child);
}

fn a_program_that_does_not_exist_is_an_error_and_leaves_nothing() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    let error = Connection::spawn(Command::new("/no/such\n/program"), Transport::Unix).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    support::assert_tells(&error);
    assert!(error.to_string().starts_with("cannot start /no/such\\n/program: No such file"), "{error}");
    assert_eq!(open(), before);
    assert!(std::env::var_os("PARLOUR_FD").is_none(), "the environment of this process is as before");
}

/// Starts `tell-errors` with this descriptor 0 and these variables. Returns its kind and text, and asserts that the
/// descriptor stays.
fn error_of(stdin: OwnedFd, variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let inode = rustix::fs::fstat(&stdin).unwrap().st_ino;
    let mut command = Child::command("tell-errors", arguments);
    command.stdin(stdin).stdout(Stdio::piped()).env(ROLE, "tell-errors").envs(variables.iter().copied());
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert_eq!(lines[0], lines[1], "the second call finds the same");
    assert_eq!(lines[2], inode.to_string(), "the descriptor is as it was");
    lines[0].to_owned()
}

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

fn without_the_variable_the_error_says_how_to_start_the_program() {
    for variables in [&[][..], &[("PARLOUR_FD", "")], &[("PARLOUR_FD_INODE", "7")]] {
        let error = error_of(null(), variables, &[]);
        let expected = "Unsupported cannot take the connection of $PARLOUR_FD: it is not set: no parent passed a \
                        connection to this process; start the program with Connection::spawn, or connect to a name";
        assert_eq!(error, expected);
    }
}

fn a_malformed_variable_is_named() {
    for bad in ["x", "-1", "+0", "0 ", "0:unix", "4294967296"] {
        let error = error_of(null(), &[("PARLOUR_FD", bad)], &[]);
        assert!(error.starts_with("InvalidOption ") && error.contains("$PARLOUR_FD is not a number;"), "{error}");
    }
    let error = error_of(null(), &[("PARLOUR_FD", "0"), ("PARLOUR_FD_INODE", "x")], &[]);
    assert!(error.contains("$PARLOUR_FD_INODE is not a number;"), "{error}");
}

fn a_descriptor_that_is_no_end_of_a_pair_is_refused_and_left_as_it_is() {
    let base = Base::with_foreign_files();
    let unbound = |socket_type| socket_with(AddressFamily::UNIX, socket_type, SocketFlags::CLOEXEC, None).unwrap();
    let (reader, _writer) = rustix::pipe::pipe().unwrap();
    let cases: [(OwnedFd, &str); 7] = [
        (null(), "descriptor 0 is not a socket;"),
        (reader, "descriptor 0 is not a socket;"),
        (UdpSocket::bind("127.0.0.1:0").unwrap().into(), "descriptor 0 is not a UNIX socket;"),
        (UnixDatagram::pair().unwrap().0.into(), "another type than SOCK_STREAM and SOCK_SEQPACKET;"),
        (UnixListener::bind(base.path().join("socket")).unwrap().into(), "descriptor 0 is a listening socket;"),
        (unbound(SocketType::STREAM), "descriptor 0 is a socket that is not connected;"),
        (unbound(SocketType::SEQPACKET), "descriptor 0 is a socket that is not connected;"),
    ];
    for (stdin, told) in cases {
        let error = error_of(stdin, &[("PARLOUR_FD", "0")], &[]);
        assert!(error.starts_with("InvalidOption cannot take the connection of $PARLOUR_FD: "), "{error}");
        assert!(error.contains(told), "{error}");
    }
    let error = error_of(null(), &[("PARLOUR_FD", "999")], &[]);
    assert!(error.contains(": descriptor 999 is not open; "), "{error}");
}

fn a_descriptor_that_another_process_was_given_is_refused() {
    let (one, _other) = UnixStream::pair().unwrap();
    let error = error_of(one.into(), &[("PARLOUR_FD", "0"), ("PARLOUR_FD_INODE", "1")], &[]);
    assert!(error.contains(": descriptor 0 is not the one that was passed to this process"), "{error}");
}

fn a_parent_of_another_user_than_the_expected_one_is_refused() {
    let (one, _other) = UnixStream::pair().unwrap();
    let error = error_of(one.into(), &[("PARLOUR_FD", "0")], &["54321"]);
    let uid = File::open("/proc/self/stat").unwrap().metadata().unwrap().uid();
    assert!(error.starts_with("Denied "), "{error}");
    assert!(error.contains(&format!("the process that made the connection belongs to uid {uid};")), "{error}");
}

fn a_program_in_python_uses_the_descriptor_itself() {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/children/echo.py"));
    let (mut connection, child) = Connection::spawn(command, Transport::Unix).unwrap();
    for (seed, length) in [0, 1, 70_000, 1 << 20].into_iter().enumerate() {
        let message = data::message(seed, length);
        connection.send(message).unwrap();
        assert!(connection.recv_timeout(DEADLINE).unwrap().unwrap() == *message, "{length} bytes");
    }
    connection.close().unwrap();
    finish(child);
}
