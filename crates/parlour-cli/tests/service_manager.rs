//! Tests of `parlour serve` under a service manager: socket activation and notifications.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

mod common;
#[path = "common/manager.rs"]
mod manager;

use std::collections::BTreeSet;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Home, Running, text, wait_until_readable};
use manager::Manager;
use rustix::process::Signal;

fn serve_activated(home: &Home, manager: &Manager, args: &[&str]) -> Running {
    home.serve_with(manager.hand_over(&home.command(&[&["serve", "--activated"], args].concat())))
}

#[test]
fn clients_wait_in_the_sockets_of_the_manager_until_the_next_start() {
    let home = Home::new();
    let manager = Manager::of_name(&home.name("room"), &["unix", "packet"]);
    for transport in ["unix", "packet"] {
        let mut early = home.start(&["connect", &format!("{transport}:room")]);
        early.write(b"hello\n");
        let mut server = serve_activated(&home, &manager, &["--grace", "1000s", "--", "cat"]);
        assert_eq!(server.ready, format!("ready room packet,unix {}", home.name("room").display()));
        assert_eq!(early.line(), "hello");
        server.signal(Signal::TERM);
        server.wait_for_stderr("stopping; open connections: 1;");
        // This client connects after the server has stopped accepting and before the next start.
        let mut late = home.start(&["connect", &format!("{transport}:room")]);
        late.write(b"me too\n");
        early.close_stdin();
        assert_eq!(early.wait().code(), Some(0));
        assert_eq!(server.wait().code(), Some(0));
        let _server = serve_activated(&home, &manager, &["--echo"]);
        assert_eq!(late.line(), "me too");
    }
}

#[test]
fn a_descriptor_name_selects_the_sockets_to_serve() {
    let home = Home::new();
    let mut manager = Manager::default();
    manager.add_name(&home.name("one"), &["unix"], "first");
    manager.add_name(&home.name("two"), &["unix"], "second");
    let server = serve_activated(&home, &manager, &["--fd-name", "second", "--echo"]);
    assert!(server.ready.starts_with("ready two unix "), "{}", server.ready);
    assert_eq!(home.stdout(&["call", "two", "hello"], b""), "hello\n");
}

#[test]
fn a_name_with_sockets_of_the_manager_is_listed_as_waiting_and_left_unchanged() {
    let home = Home::new();
    let _manager = Manager::of_name(&home.name("room"), &["unix"]);
    assert_eq!(home.listed("room")["state"], "waiting");
    let second = home.run(&["serve", "room", "--echo"]);
    assert_eq!(second.status.code(), Some(4), "{}", text(&second.stderr));
    assert!(text(&second.stderr).contains("a service manager"), "{}", text(&second.stderr));
    let cleaned = home.run(&["clean", "room"]);
    assert_eq!(cleaned.status.code(), Some(4), "{}", text(&cleaned.stderr));
    home.stdout(&["clean"], b"");
    assert!(home.name("room").join("unix").exists());
}

#[test]
fn activated_without_a_manager_is_an_error() {
    let home = Home::new();
    let output = home.run(&["serve", "--activated", "--echo"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the environment announces none"), "{}", text(&output.stderr));
    for args in [
        &["serve", "room", "--activated", "--echo"][..],
        &["serve", "--echo"],
        &["serve", "room", "--fd-name", "x", "--echo"],
    ] {
        assert_eq!(home.run(args).status.code(), Some(2), "{args:?}");
    }
}

/// Returns the next notification that the server sends to the manager.
fn said(socket: &UnixDatagram) -> String {
    wait_until_readable(socket);
    let mut message = [0; 4096];
    let length = socket.recv(&mut message).unwrap();
    text(&message[..length])
}

#[test]
fn the_manager_is_notified_when_the_server_is_ready_and_when_it_stops() {
    let home = Home::new();
    let path = home.path().join("notify").display().to_string();
    let abstract_name = format!("parlour-test-{}", std::process::id());
    let at_path = UnixDatagram::bind(&path).unwrap();
    let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap();
    for (socket, variable) in [(at_path, path), (by_name, format!("@{abstract_name}"))] {
        let mut command = home.command(&["serve", "room", "--grace", "1000s", "--echo"]);
        let mut server = Running::start(command.env("NOTIFY_SOCKET", variable).stdin(Stdio::null()));
        let status = format!("serving room over unix in {}", home.name("room").display());
        assert_eq!(said(&socket), format!("READY=1\nSTATUS={status}"));
        // The server holds the name before it sends the notification.
        let mut client = home.start(&["connect", "room"]);
        client.write(b"hello\n");
        assert_eq!(client.line(), "hello");
        server.signal(Signal::TERM);
        assert_eq!(said(&socket), "STOPPING=1\nSTATUS=stopping; open connections: 1");
        assert_eq!(home.run(&["call", "room", "hello"]).status.code(), Some(3));
        client.close_stdin();
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn the_server_runs_although_the_manager_cannot_be_notified() {
    let home = Home::new();
    for nowhere in ["nowhere", "/nowhere/at/all", "vsock:2:1234"] {
        let mut command = home.command(&["serve", "room", "--echo"]);
        let mut server = home.serve_with({
            command.env("NOTIFY_SOCKET", nowhere);
            command
        });
        assert_eq!(home.stdout(&["call", "room", "hello"], b""), "hello\n");
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        assert!(server.stderr().contains("service manager"), "{nowhere}");
    }
}

#[test]
fn programs_do_not_inherit_the_variables_of_the_manager() {
    let home = Home::new();
    let manager = Manager::of_name(&home.name("room"), &["unix"]);
    let socket = UnixDatagram::bind(home.path().join("notify")).unwrap();
    let mut command = home.command(&["serve", "--activated", "--", "sh", "-c", "env; ls -l /proc/$$/fd; cat"]);
    command.env("NOTIFY_SOCKET", home.path().join("notify"));
    let _server = home.serve_with(manager.hand_over(&command));
    assert!(said(&socket).starts_with("READY=1"));
    let seen = home.stdout(&["connect", "room"], b"");
    assert!(seen.contains("PARLOUR_NAME=room"), "{seen}");
    for variable in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET"] {
        assert!(!seen.contains(variable), "{seen}");
    }
    assert!(!seen.contains(" 3 -> socket:"), "{seen}");
}

/// Returns the descriptors below 10 that a program reports as `ls` shows them. (The parent of the test process may have
/// left higher ones open.)
fn descriptors_of(listing: &str) -> Vec<&str> {
    let numbers = listing.lines().filter_map(|line| line.split_once(" -> ")?.0.rsplit(' ').next());
    numbers.filter(|number| number.len() == 1).collect()
}

#[test]
fn programs_inherit_no_descriptor_of_the_manager() {
    for fd_name in [None, Some("first")] {
        let home = Home::new();
        let mut manager = Manager::default();
        manager.add_name(&home.name("room"), &["unix", "packet"], "first");
        manager.add_listening(&home.path().join("other.sock"), rustix::net::SocketType::STREAM, "other");
        manager.add(fs::File::open("/etc/passwd").unwrap(), "store");
        let mut args: Vec<&str> = fd_name.iter().flat_map(|name| ["--fd-name", name]).collect();
        args.extend(["--", "sh", "-c", "ls -l /proc/$$/fd; cat"]);
        let _server = serve_activated(&home, &manager, &args);
        let seen = home.stdout(&["connect", "room"], b"");
        assert_eq!(descriptors_of(&seen), ["0", "1", "2"], "{seen}");
    }
    // A server that was started by its manager and takes a name itself.
    let home = Home::new();
    let mut manager = Manager::default();
    manager.add_listening(&home.path().join("other.sock"), rustix::net::SocketType::STREAM, "other");
    let server = home.command(&["serve", "room", "--", "sh", "-c", "ls -l /proc/$$/fd; cat"]);
    let _server = home.serve_with(manager.hand_over(&server));
    let seen = home.stdout(&["connect", "room"], b"");
    assert_eq!(descriptors_of(&seen), ["0", "1", "2"], "{seen}");
}

#[test]
fn programs_inherit_a_descriptor_that_the_shell_opened_for_them() {
    let home = Home::new();
    let mut command = Command::new("sh");
    let script = "exec \"$@\" 5>\"$PARLOUR_DIR/log\"";
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_parlour"), "serve", "room"]);
    command.args(["--", "sh", "-c", "echo noted >&5; cat"]).env("PARLOUR_DIR", home.path());
    let _server = home.serve_with(command);
    home.stdout(&["connect", "room"], b"");
    assert_eq!(fs::read_to_string(home.path().join("log")).unwrap(), "noted\n");
}

/// The umask of the tool determines the mode of its socket, which may let other users read. Connecting requires write
/// permission.
#[test]
fn systemd_socket_activate_starts_the_server_for_the_first_client() {
    const TOOL: &str = "systemd-socket-activate";
    if Command::new(TOOL).arg("--version").output().is_err() {
        eprintln!("skipped: {TOOL} is not installed");
        return;
    }
    for (transport, option) in [("unix", None), ("packet", Some("--seqpacket"))] {
        let home = Home::new();
        fs::create_dir(home.name("room")).unwrap();
        fs::set_permissions(home.name("room"), fs::Permissions::from_mode(0o755)).unwrap();
        let mut tool = Command::new(TOOL);
        tool.args(option).arg("-l").arg(home.name("room").join(transport));
        tool.args([env!("CARGO_BIN_EXE_parlour"), "serve", "--activated", "--echo"]);
        let mut server = Running::start(tool.stdin(Stdio::null()));
        assert_eq!(home.stdout(&["call", "room", "hello", "--wait", "20s"], b""), "hello\n");
        assert_eq!(server.line(), format!("ready room {transport} {}", home.name("room").display()));
    }
}

/// The services of the documentation, with the manager that runs each and the path of the program in it.
const SERVICES: [(&str, &str, &str); 2] = [
    ("--system", "parlour-echo.service", "/usr/local/bin/parlour"),
    ("--user", "user/parlour-echo.service", "%h/.cargo/bin/parlour"),
];

fn unit(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/systemd").join(path)).unwrap()
}

/// Returns true if the tool runs with these arguments. Otherwise reports that the test is skipped.
fn runs(tool: &str, args: &[&str]) -> bool {
    let runs = Command::new(tool).args(args).output().is_ok_and(|output| output.status.success());
    if !runs {
        println!("skipped: {tool} {} does not run here", args.join(" "));
    }
    runs
}

/// The units are verified with the path of the program under test.
#[test]
fn systemd_analyze_accepts_the_example_units() {
    if !runs("systemd-analyze", &["--version"]) {
        return;
    }
    for (manager, service, program) in SERVICES {
        let home = Home::new();
        let installed = unit(service).replace(program, env!("CARGO_BIN_EXE_parlour"));
        assert_ne!(installed, unit(service), "{service} starts {program}");
        fs::write(home.path().join("parlour-echo.service"), installed).unwrap();
        fs::write(home.path().join("parlour-echo.socket"), unit("parlour-echo.socket")).unwrap();
        let output = Command::new("systemd-analyze")
            .args(["verify", manager, "--recursive-errors=no", "--man=no"])
            .args(["parlour-echo.socket", "parlour-echo.service"].map(|unit| home.path().join(unit)))
            // The user manager requires a runtime directory.
            .env("XDG_RUNTIME_DIR", home.path())
            .output()
            .unwrap();
        let told = text(&output.stderr);
        assert!(output.status.success() && !told.contains("parlour-echo"), "{manager}: {told}");
    }
}

/// The rating is in tenths: 0 to 100, from safe to unsafe.
#[test]
fn the_unit_for_the_system_is_rated_below_3() {
    if !runs("systemd-analyze", &["security", "--offline=true", "--threshold=100", "--help"]) {
        return;
    }
    let home = Home::new();
    let path = home.path().join("parlour-echo.service");
    fs::write(&path, unit(SERVICES[0].1)).unwrap();
    let rated = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=30", "--no-pager"])
        .arg(path)
        .output()
        .unwrap();
    assert!(rated.status.success(), "{}{}", text(&rated.stdout), text(&rated.stderr));
}

/// Returns the system calls that the lines `SystemCallFilter=` of a unit permit, with those of all sets in them.
fn permitted(unit: &str) -> BTreeSet<String> {
    fn add(name: &str, into: &mut BTreeSet<String>) {
        if !name.starts_with('@') {
            into.insert(name.to_owned());
            return;
        }
        let output = Command::new("systemd-analyze").args(["--no-pager", "syscall-filter", name]).output().unwrap();
        for line in text(&output.stdout).lines().skip(1).map(str::trim).filter(|line| !line.starts_with('#')) {
            add(line, into);
        }
    }
    let mut all = BTreeSet::new();
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let mut names = BTreeSet::new();
        line.trim_start_matches('~').split(' ').for_each(|name| add(name, &mut names));
        match line.starts_with('~') {
            true => all.retain(|name| !names.contains(name)),
            false => all.extend(names),
        }
    }
    all
}

/// strace(1) shows the system calls of a server that is handed all kinds of sockets, and of its programs.
#[test]
fn the_example_units_permit_every_system_call_of_the_server() {
    if !runs("systemd-analyze", &["syscall-filter", "@system-service"])
        || !runs("strace", &["-D", "-o", "/dev/null", "true"])
    {
        return;
    }
    for what in [&["--echo"][..], &["--", "cat"]] {
        let home = Home::new();
        let trace = home.path().join("trace");
        let manager = Manager::of_name(&home.name("echo"), &["unix", "packet", "shm"]);
        let mut traced = Command::new("strace");
        // With -D, the server has the process id that the manager announces.
        traced.args(["-D", "-f", "-q", "-o"]).arg(&trace).arg(env!("CARGO_BIN_EXE_parlour"));
        traced.args(["serve", "--activated", "--on", "all"]).args(what).env("PARLOUR_DIR", home.path());
        let mut server = home.serve_with(manager.hand_over(&traced));
        for address in ["unix:echo", "packet:echo", "shm:echo", "fifo:echo"] {
            assert_eq!(home.stdout(&["call", address, "hello"], b""), "hello\n");
        }
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        // The tracer ends after the server.
        let deadline = std::time::Instant::now() + common::DEADLINE;
        let traced = loop {
            let traced = fs::read_to_string(&trace).unwrap();
            if traced.lines().any(|line| line.starts_with(&format!("{} ", server.pid())) && line.contains("+++ exited"))
            {
                break traced;
            }
            assert!(std::time::Instant::now() < deadline, "strace does not end");
            std::thread::yield_now();
        };
        let called = traced.lines().filter_map(|line| line.split_whitespace().nth(1)?.split_once('('));
        let called: BTreeSet<&str> = called.map(|(name, _)| name).collect();
        assert!(called.contains("execve") && called.contains("accept4"), "{called:?}");
        for (_, service, _) in SERVICES {
            let permitted = permitted(&unit(service));
            let denied: Vec<_> = called.iter().filter(|name| !permitted.contains(**name)).collect();
            assert!(denied.is_empty(), "{service} with {what:?}: {denied:?}");
        }
    }
}

/// The unit for the system takes every privilege of root away.
#[test]
fn the_command_of_the_example_units_starts_a_server_without_privileges() {
    let wrapper = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"];
    let has_setpriv = rustix::process::geteuid().is_root() && runs(wrapper[0], &[&wrapper[1..], &["true"]].concat());
    for (_, service, program) in SERVICES {
        let service = unit(service);
        let command = service.lines().find_map(|line| line.strip_prefix(&format!("ExecStart={program} "))).unwrap();
        let home = Home::new();
        let manager = Manager::of_name(&home.name("echo"), &["unix", "packet"]);
        let mut server = match has_setpriv {
            true => Command::new(wrapper[0]),
            false => Command::new("env"),
        };
        if has_setpriv {
            server.args(&wrapper[1..]);
        }
        server.arg(env!("CARGO_BIN_EXE_parlour")).args(command.split(' ')).env("PARLOUR_DIR", home.path());
        let _server = home.serve_with(manager.hand_over(&server));
        for address in ["unix:echo", "packet:echo"] {
            assert_eq!(home.stdout(&["call", address, "hello"], b""), "hello\n");
        }
    }
}

/// A base that only its owner can enter, because one unit created it, would shut the users of all other units out.
#[test]
fn the_example_unit_creates_directories_that_others_can_enter() {
    assert!(unit("parlour-echo.socket").contains("\nDirectoryMode=0755\n"));
    let home = Home::new();
    let manager = Manager::of_name(&home.name("echo"), &["unix", "packet"]);
    let _server = serve_activated(&home, &manager, &["--echo"]);
    assert_eq!(home.stdout(&["call", "echo", "hello"], b""), "hello\n", "the base is private by its sockets");
}
