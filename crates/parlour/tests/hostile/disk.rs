//! Tests of file systems that are full, have no free inodes, or are read-only. Each uses a small tmpfs in its own mount
//! namespace.

use std::process::Command;
use std::sync::OnceLock;

use parlour::Transport;

use crate::support::{Base, Child, ROLE, trials};

trials! {
    for transport in Transport::ALL =>
        a_file_system_that_state_is_a_typed_error_and_open_connections_go_on(state in STATES) unless no_mounts();
}

/// The states of the file system, each with the shell script that creates it. The script runs in the mount namespace;
/// `$B` is the base directory.
const STATES: [(&str, &str); 3] = [
    ("is_full", "head -c 10000000 /dev/zero > $B/filler 2>/dev/null; :"),
    ("has_no_inodes_left", "i=0; while touch $B/filler$i 2>/dev/null; do i=$((i+1)); done"),
    ("is_read_only", "mount --bind $B $B && mount -o remount,bind,ro $B"),
];

pub fn no_mounts() -> Option<String> {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    let tried = || {
        if !rustix::process::geteuid().is_root() {
            return Some("mounting requires root".to_owned());
        }
        let tried = Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
        match tried {
            Err(error) => Some(format!("cannot start unshare: {error}")),
            Ok(output) if !output.status.success() => {
                Some(format!("cannot mount here: {}", String::from_utf8_lossy(&output.stderr).trim()))
            }
            Ok(_) => None,
        }
    };
    REASON.get_or_init(tried).clone()
}

/// Starts a child in a role, in the mount namespace of another child.
fn beside(other: &Child, role: &str, arguments: &[String]) -> Child {
    let command = Child::command(role, arguments);
    let mut enter = Command::new("nsenter");
    enter.args([&format!("--mount=/proc/{}/ns/mnt", other.pid())]);
    enter.arg(command.get_program()).args(command.get_args()).env(ROLE, role);
    Child::start(&mut enter)
}

fn shell(other: &Child, base: &Base, script: &str) {
    let mut enter = Command::new("nsenter");
    enter.args([&format!("--mount=/proc/{}/ns/mnt", other.pid()), "sh", "-c", script]).env("B", base.path());
    assert!(enter.status().unwrap().success(), "{script}");
}

fn a_file_system_that_state_is_a_typed_error_and_open_connections_go_on(
    transport: Transport,
    (state, spoil): (&str, &str),
) {
    let base = Base::new();
    let address = base.address(transport, "tight");
    // The server runs in a new mount namespace, on a file system of 64 pages and 24 inodes.
    let role = Child::command("echo-server", &[&address]);
    let mut command = Command::new("unshare");
    let script = r#"mount -t tmpfs -o size=256k,nr_inodes=24,mode=0700 none "$0" && exec "$@""#;
    command.args(["--mount", "sh", "-c", script]).arg(base.path());
    command.arg(role.get_program()).args(role.get_args()).env(ROLE, "echo-server");
    let mut server = Child::start(&mut command);
    server.expect("ready");
    let mut early = beside(&server, "client", std::slice::from_ref(&address));
    let said = early.ask("connect");
    assert!(said.starts_with("connected"), "{said}");

    shell(&server, &base, spoil);
    // A second server cannot take a name there, and returns a typed error.
    let other = base.address(transport, "another");
    let mut second = beside(&server, "serve", &[format!("address={other}")]);
    let said = second.line();
    let typed = said.starts_with("error system error:") || said.starts_with("error denied:");
    // A full file system still has space for an empty file if it has free inodes.
    assert!(typed || (state == "is_full" && said.starts_with("ready")), "{said}");
    drop(second);
    // A new client is admitted, or gets an error.
    let mut late = beside(&server, "client", std::slice::from_ref(&address));
    let said = late.ask("connect");
    assert!(said.starts_with("connected") || said.starts_with("error system error"), "{said}");
    drop(late);
    // Open connections continue.
    for seed in 0..3 {
        assert_eq!(early.ask(&format!("send 100000 {seed}")), "sent");
        let said = early.ask("recv");
        assert!(said.starts_with("message 100000 "), "{said}");
    }
    // Everything works again once there is space.
    shell(&server, &base, "if test -w $B; then rm -f $B/filler*; else umount $B; fi");
    let mut later = beside(&server, "client", std::slice::from_ref(&address));
    let said = later.ask("connect");
    assert!(said.starts_with("connected"), "{said}");
    let mut third = beside(&server, "serve", &[format!("address={other}")]);
    let said = third.line();
    assert!(said.starts_with("ready"), "{said}");
}
