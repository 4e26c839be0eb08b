//! One test for each bug that was found and fits no other suite. Each failed before the bug was fixed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod support;

use std::os::unix::fs::FileTypeExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

use parlour::{Connection, Server, ServerOptions, Transport};
use support::{Base, Child, eventually, trials};

trials! {
    a_client_that_waited_for_a_busy_server_is_accepted,
    a_server_that_cannot_check_its_files_keeps_its_name unless why_not_injected();

    for transport in [Transport::Shm, Transport::Packet, Transport::Unix] =>
        a_client_with_a_read_only_base_connects_without_a_file unless why_not_unshared("--mount");

    for transport in Transport::ALL =>
        the_longest_handshake_timeout_is_no_timeout,
        a_shortage_of_memory_in_the_kernel_that_passes_is_not_noticed unless why_not_injected();

    for transport in [Transport::Packet, Transport::Unix, Transport::Fifo] =>
        a_write_that_fails_in_the_middle_of_a_message_does_not_tear_the_next unless why_not_injected();
}

fn main() -> ExitCode {
    support::run(&[], &[trials])
}

/// Every stat(2) of the lock fails with `ENOMEM`. A server checks its files when a client connects, at most once a
/// second.
fn a_server_that_cannot_check_its_files_keeps_its_name() {
    let base = Base::new();
    let address = base.address(Transport::Unix, "kept");
    let role = Child::command("server", &[&address]);
    let mut traced = Command::new("strace");
    let lock = base.path().join("kept/lock");
    traced.args(["-f", "-o"]).arg(base.path().join("calls")).arg("-P").arg(lock);
    traced.args(["-e", "trace=newfstatat,statx", "-e", "inject=newfstatat,statx:error=ENOMEM"]);
    traced.arg(role.get_program()).args(role.get_args()).env(support::ROLE, "server");
    let mut server = Child::start(&mut traced);
    server.expect("ready");
    let calls = || std::fs::read_to_string(base.path().join("calls")).unwrap();
    let mut clients = Vec::new();
    eventually("a check has failed", || {
        clients.push(Connection::connect(&address).unwrap());
        assert!(server.ask("accept").starts_with("accepted "), "{}", calls());
        calls().contains("ENOMEM")
    });
    let mut client = Connection::connect(&address).unwrap();
    assert!(server.ask("accept").starts_with("accepted "), "{}", calls());
    client.send(b"still here").unwrap();
    assert!(server.ask("recv").contains("10"));
}

/// Connects a client, changes the age of its file, which must be the only one in `c/`, and returns the client.
fn client_with_an_old_file(server: &Server, base: &Base, age: Duration) -> Connection {
    let client = Connection::connect(base.address(Transport::Unix, "busy")).unwrap();
    let files: Vec<_> =
        std::fs::read_dir(server.path().join("c")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = &files[..] else { panic!("one client, so one file: {files:?}") };
    assert!(std::fs::symlink_metadata(file).unwrap().file_type().is_socket());
    let then = SystemTime::now() - age;
    let since = then.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let time = rustix::fs::Timespec { tv_sec: since.as_secs() as i64, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, file, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    client
}

/// The server last checked its queue when it was bound, so a client in it may have waited since then.
fn a_client_that_waited_for_a_busy_server_is_accepted() {
    let base = Base::new();
    let server = Server::bind(base.address(Transport::Unix, "busy")).unwrap();
    let bound_at = std::time::Instant::now();
    let mut client = client_with_an_old_file(&server, &base, Duration::from_secs(8));
    eventually("the server was busy for three seconds", || bound_at.elapsed() > Duration::from_secs(3));
    let mut accepted = server.accept_timeout(support::DEADLINE).unwrap();
    client.send(b"still here").unwrap();
    assert_eq!(accepted.recv().unwrap().unwrap(), b"still here");
    assert_eq!(server.stats().refused, 0, "{:?}", server.stats());
}

/// Returns the reason why unshare(1) cannot create such a namespace here, if there is one.
fn why_not_unshared(kind: &str) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can create namespaces".to_owned());
    }
    match Command::new("unshare").args([kind, "--fork", "true"]).output() {
        Err(error) => Some(format!("start unshare: {error}")),
        Ok(output) if !output.status.success() => {
            Some(format!("this kind of namespace is not available: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Ok(_) => None,
    }
}

/// A container sees the base through a read-only mount. Sockets can be connected nevertheless.
fn a_client_with_a_read_only_base_connects_without_a_file(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "mounted");
    let mut server = Child::spawn("server", &[&address]);
    server.expect("ready");
    let role = Child::command("client", &[&address]);
    let mut inside = Command::new("unshare");
    let script = r#"mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@""#;
    inside.args(["--mount", "sh", "-c", script]).arg(base.path());
    inside.arg(role.get_program()).args(role.get_args()).env(support::ROLE, "client");
    let mut client = Child::start(&mut inside);
    client.say("connect");
    assert!(server.ask("accept").starts_with("accepted "));
    let said = client.line();
    assert!(said.starts_with("connected "), "{said}");
    client.say("send 100 7");
    assert!(client.line().starts_with("sent"));
    assert!(server.ask("recv").starts_with("message 100 "));
}

/// Returns the reason why strace(1) cannot make system calls fail here, if there is one.
fn why_not_injected() -> Option<String> {
    let tried = Command::new("strace").args(["-o", "/dev/null", "-e", "trace=none", "true"]).output();
    match tried {
        Err(error) => Some(format!("start strace: {error}")),
        Ok(output) if !output.status.success() => {
            Some(format!("strace does not work here: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Ok(_) => None,
    }
}

/// The kernel takes part of a message and then fails one call. The next message must not become part of that message.
fn a_write_that_fails_in_the_middle_of_a_message_does_not_tear_the_next(transport: Transport) {
    let (call, which) = match transport {
        Transport::Packet => ("sendmsg", 2),
        Transport::Unix => ("sendto", 1),
        _ => ("pwritev2", 4),
    };
    let base = Base::new();
    let address = base.address(transport, "torn");
    let mut server = Child::spawn("server", &[&address]);
    server.expect("ready");
    let role = Child::command("client", &[&address]);
    let mut traced = Command::new("strace");
    traced.args(["-f", "-o", "/dev/null", "-e", &format!("inject={call}:error=EIO:when={which}")]);
    // Without vmsplice(2), the pages of a long message are written to the FIFO.
    traced.args(["-e", "inject=vmsplice:error=ENOSYS"]);
    traced.arg(role.get_program()).args(role.get_args()).env(support::ROLE, "client");
    let mut client = Child::start(&mut traced);
    client.say("connect");
    assert!(server.ask("accept").starts_with("accepted "));
    assert!(client.line().starts_with("connected "));
    client.say("send 3000000 1");
    assert!(client.line().starts_with("sent"), "the message was partially written, so its rest is buffered");
    client.say("send 10 2");
    server.say("recv");
    assert!(server.line().contains("3000000"), "the first message is whole");
    assert!(client.line().starts_with("sent"));
    assert!(server.ask("recv").contains("10"), "the second message is whole");
}

/// In both processes, every other call that connects, accepts, sends or receives fails for a lack of memory. A message
/// of three megabytes is too long for one datagram.
fn a_shortage_of_memory_in_the_kernel_that_passes_is_not_noticed(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "scarce");
    let short_of_memory = |role: &str| {
        let mut traced = Command::new("strace");
        let sending = "inject=sendto,sendmsg,pwritev2:error=ENOBUFS:when=1+2";
        let others = "inject=socket,connect,accept4,recvfrom,recvmsg:error=ENOMEM:when=1+2";
        traced.args(["-f", "-o", "/dev/null", "-e", sending, "-e", others]);
        // Without vmsplice(2), the pages of a long message are written to the FIFO.
        traced.args(["-e", "inject=vmsplice:error=ENOSYS"]);
        let command = Child::command(role, &[&address]);
        traced.arg(command.get_program()).args(command.get_args()).env(support::ROLE, role);
        Child::start(&mut traced)
    };
    let mut server = short_of_memory("server");
    server.expect("ready");
    let mut client = short_of_memory("client");
    client.say("connect");
    assert!(server.ask("accept").starts_with("accepted "));
    assert!(client.line().starts_with("connected "));
    for length in [10, 3_000_000] {
        for (sender, receiver) in [(0, 1), (1, 0)] {
            let ends = [&mut client, &mut server];
            ends[sender].say(&format!("send {length} 1"));
            let said = ends[receiver].ask("recv");
            assert!(said.starts_with(&format!("message {length} ")), "{said}");
            assert_eq!(ends[sender].line(), "sent");
        }
    }
}

/// The deadline of a handshake was computed with an addition that panics on overflow.
fn the_longest_handshake_timeout_is_no_timeout(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "patient");
    let server = ServerOptions::new().handshake_timeout(Duration::MAX).bind(&address).unwrap();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| Connection::connect(&address).unwrap());
        let mut served = server.accept_timeout(support::DEADLINE).unwrap();
        client.join().unwrap().send(b"hello").unwrap();
        assert_eq!(served.recv_timeout(support::DEADLINE).unwrap().unwrap(), b"hello");
    });
}
