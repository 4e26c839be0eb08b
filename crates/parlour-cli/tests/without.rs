//! Tests of the program in systems that lack something.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]
// A filter for system calls has to be installed between fork(2) and execve(2).
#![allow(unsafe_code)]

mod common;

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{Home, TEXT, TRANSPORTS, text};

/// Makes the program of this command run with a filter, seccomp(2), in which a system call fails with `ENOSYS`.
fn without(call: libc::c_long, command: &mut Command) {
    let line = |code: u32, jf, k| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let lines = [
        // The number of the system call.
        line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, call as u32),
        line(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        line(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: lines.len() as u16, filter: lines.as_ptr().cast_mut() };
        let filter = libc::SECCOMP_MODE_FILTER;
        // SAFETY: this option takes only numbers.
        let allowed = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        // SAFETY: the kernel reads the program, which lives through the call.
        let installed = unsafe { libc::prctl(libc::PR_SET_SECCOMP, filter, &raw const program) };
        if allowed == 0 && installed == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: `install` makes only system calls.
    unsafe { command.pre_exec(install) };
}

/// Prints why the test is skipped if seccomp(2) does not work here.
fn can_filter() -> bool {
    let mut command = Command::new("true");
    without(libc::SYS_pidfd_open, &mut command);
    let works = command.status().is_ok_and(|status| status.success());
    if !works {
        println!("skipped: seccomp(2) does not work here");
    }
    works
}

#[test]
fn a_program_serves_each_client_without_pidfd_open() {
    if !can_filter() {
        return;
    }
    for transport in TRANSPORTS {
        let home = Home::new();
        let mut command = home.command(&["serve", "cat", "--on", transport, "--", "cat"]);
        without(libc::SYS_pidfd_open, &mut command);
        let _server = home.serve_with(command);
        for _ in 0..3 {
            assert_eq!(home.stdout(&["connect", "cat"], TEXT.as_bytes()), format!("{TEXT}\n"), "{transport}");
        }
        // The end of the program ends the connection, as with a pidfd.
        let mut command = home.command(&["serve", "short", "--on", transport, "--", "true"]);
        without(libc::SYS_pidfd_open, &mut command);
        let _server = home.serve_with(command);
        let output = home.run(&["connect", "short"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
}

#[test]
fn a_server_of_every_transport_goes_on_without_memfd_create() {
    if !can_filter() {
        return;
    }
    let home = Home::new();
    let mut command = home.command(&["serve", "every", "--on", "all", "--echo"]);
    without(libc::SYS_memfd_create, &mut command);
    let server = home.serve_with(command);
    assert!(server.ready.starts_with("ready every packet,unix,fifo "), "{}", server.ready);
    assert_eq!(home.stdout(&["call", "every", "hello"], b""), "hello\n");
}

/// Runs the program with an empty directory in the place of `/proc`. Returns `None` where that is not possible.
fn without_proc(home: &Home, args: &[&str]) -> Option<Output> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh"]);
    let possible = Command::new(command.get_program()).args(command.get_args()).arg("true").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        println!("skipped: no mount namespace can be created here");
        return None;
    }
    command.arg(env!("CARGO_BIN_EXE_parlour")).args(args).env("PARLOUR_DIR", home.path());
    Some(command.env_remove("XDG_RUNTIME_DIR").env_remove("PARLOUR_LOG").output().unwrap())
}

#[test]
fn the_doctor_says_at_once_what_depends_on_proc() {
    let home = Home::new();
    let started = Instant::now();
    let Some(output) = without_proc(&home, &["doctor", "--json"]) else { return };
    assert!(started.elapsed() < Duration::from_secs(10), "the doctor took {:?}", started.elapsed());
    let checks: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let found = |part: &str| checks.iter().find(|check| check["check"].as_str().unwrap().contains(part)).unwrap();
    assert_eq!(found("/proc")["verdict"], "note");
    let mend = found("/proc")["mend"].as_str().unwrap();
    assert!(mend.contains("65534") && mend.contains("100 bytes"), "{mend}");
    for transport in TRANSPORTS {
        assert_eq!(found(&format!("over {transport}"))["verdict"], "ok", "{checks:#?}");
    }
}

#[test]
fn the_doctor_tries_whether_pidfds_of_clients_work() {
    if !can_filter() {
        return;
    }
    let home = Home::new();
    let mut command = home.command(&["doctor", "--json"]);
    without(libc::SYS_getsockopt, &mut command);
    let output = command.output().unwrap();
    let checks: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let check = checks.iter().find(|check| check["check"] == "SO_PEERPIDFD").unwrap();
    assert_eq!(check["verdict"], "note", "{check}");
}
