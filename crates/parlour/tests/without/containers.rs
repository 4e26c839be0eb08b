//! In namespaces of their own, as in a container.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;

use parlour::Transport;

use crate::by_hand::user::{chown, new_uid, no_other_users};
use crate::support::{Base, Child, ROLE, trials};

trials! {
    for transport in Transport::ALL =>
        the_first_process_of_a_pid_namespace_serves_clients_outside unless why_not("--pid"),
        the_first_process_of_a_pid_namespace_is_let_in unless why_not("--pid"),
        two_first_processes_of_pid_namespaces_talk unless why_not("--pid"),
        a_container_with_its_own_proc_talks_to_the_host unless why_not("--mount"),
        a_user_namespace_that_maps_one_user_has_names_of_its_own unless why_not("--user").or_else(no_other_users);
}

/// Options of unshare(1): the role is the first process of a PID namespace.
pub const PID: [&str; 3] = ["--pid", "--fork", "--kill-child"];

/// In addition with the `/proc` of that namespace.
const CONTAINER: [&str; 5] = ["--pid", "--fork", "--kill-child", "--mount", "--mount-proc"];

/// Returns the reason why no namespace of this kind can be created here, if there is one.
pub fn why_not(kind: &str) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("creating namespaces requires root".to_owned());
    }
    static REASONS: Mutex<BTreeMap<String, Option<String>>> = Mutex::new(BTreeMap::new());
    let tried = || match Command::new("unshare").args([kind, "--fork", "true"]).output() {
        Err(error) => Some(format!("cannot start unshare: {error}")),
        Ok(output) if !output.status.success() => {
            Some(format!("cannot create such a namespace here: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Ok(_) => None,
    };
    REASONS.lock().unwrap().entry(kind.to_owned()).or_insert_with(tried).clone()
}

/// Starts a role in namespaces of its own, or in those of this process if there are no options.
pub fn inside(unshare: &[&str], role: &str, arguments: &[String]) -> Child {
    let role_command = Child::command(role, arguments);
    if unshare.is_empty() {
        return Child::spawn(role, arguments);
    }
    let mut command = Command::new("unshare");
    command.args(unshare).arg(role_command.get_program()).args(role_command.get_args()).env(ROLE, role);
    Child::start(&mut command)
}

/// Fails unless a client talks to a server, each in these namespaces, over this transport.
pub fn lets_in(transport: Transport, server: &[&str], client: &[&str]) {
    let base = Base::new();
    let address = base.address(transport, "contained");
    let mut server = inside(server, "server", std::slice::from_ref(&address));
    server.expect("ready");
    talk(&mut server, &mut inside(client, "client", &[address]));
}

/// Fails unless these roles connect and exchange messages.
pub fn talk(server: &mut Child, client: &mut Child) {
    server.say("accept");
    client.say("connect");
    let (accepted, connected) = (server.line(), client.line());
    assert!(accepted.starts_with("accepted ") && connected.starts_with("connected "), "{accepted}; {connected}");
    client.say("send 100 7");
    assert!(client.line().starts_with("sent"));
    let received = server.ask("recv");
    assert!(received.starts_with("message 100 "), "{received}");
    server.say("send 100 7");
    assert!(server.line().starts_with("sent"));
    assert_eq!(client.ask("recv"), received);
}

fn the_first_process_of_a_pid_namespace_serves_clients_outside(transport: Transport) {
    lets_in(transport, &PID, &[]);
}

fn the_first_process_of_a_pid_namespace_is_let_in(transport: Transport) {
    lets_in(transport, &[], &PID);
}

fn two_first_processes_of_pid_namespaces_talk(transport: Transport) {
    lets_in(transport, &PID, &PID);
}

fn a_container_with_its_own_proc_talks_to_the_host(transport: Transport) {
    lets_in(transport, &[], &CONTAINER);
    lets_in(transport, &CONTAINER, &[]);
    lets_in(transport, &CONTAINER, &CONTAINER);
}

/// The directories above the base belong to users that the namespace does not map.
fn a_user_namespace_that_maps_one_user_has_names_of_its_own(transport: Transport) {
    let base = Base::new();
    let uid = new_uid();
    chown(base.path(), uid);
    let address = base.address(transport, "private");
    // The user makes the namespace, and maps nobody but itself.
    let role = |role: &str| {
        let command = Child::command(role, std::slice::from_ref(&address));
        let mut unshare = Command::new("unshare");
        unshare.args(["--setuid", &uid.to_string(), "--setgid", &uid.to_string()]);
        unshare.args(["unshare", "--user", "--map-current-user"]);
        unshare.arg(command.get_program()).args(command.get_args()).env(ROLE, role);
        Child::start(&mut unshare)
    };
    let mut server = role("server");
    server.expect("ready");
    talk(&mut server, &mut role("client"));
}
