//! Tests of peers in other user and PID namespaces, whose user and process ids mean nothing in the namespace of this
//! process, and of the reverse.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;

use parlour::{ServerOptions, Transport};

use crate::by_hand::options::Words;
use crate::by_hand::place::chmod;
use crate::by_hand::user::{chown, directory_of, new_uid, no_namespaces_for_users, no_other_users};
use crate::support::roles::until_end_of_input;
use crate::support::{Base, Child, ROLE, Role, trials};

trials! {
    for transport in Transport::ALL =>
        a_server_and_a_client_in_a_namespace_of_only_their_user_find_each_other unless no_namespaces_for_users(),
        a_namespace_of_only_one_user_separates_nobody_from_the_servers_of_that_user
            unless no_namespaces_for_users();

    a_base_of_a_user_whom_the_namespace_does_not_map_is_refused unless no_namespaces_for_users(),
    a_directory_that_anybody_may_have_created_is_refused_if_its_owner_is_not_mapped
        unless no_namespaces_for_users(),
    a_user_with_the_id_of_unknown_users_is_refused unless no_namespaces_for_users();

    for transport in [Transport::Shm, Transport::Packet, Transport::Unix] =>
        a_client_whose_user_the_servers_namespace_does_not_map_is_unknown_and_not_nobody
            unless why_not("--user").or_else(no_other_users),
        a_server_whose_user_the_clients_namespace_does_not_map_is_refused
            unless why_not("--user").or_else(no_other_users),
        a_client_in_a_pid_namespace_of_its_own_is_let_in unless why_not("--pid"),
        a_server_in_a_pid_namespace_of_its_own_lets_its_clients_in unless why_not("--pid");
}

/// Returns the reason why no namespace of this kind can be created here, if there is one.
fn why_not(kind: &str) -> Option<String> {
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

/// Starts a role in namespaces of its own.
fn inside(unshare: &[&str], role: &str, arguments: &[String]) -> Child {
    let role_command = Child::command(role, arguments);
    let mut command = Command::new("unshare");
    command.args(unshare).arg(role_command.get_program()).args(role_command.get_args()).env(ROLE, role);
    Child::start(&mut command)
}

pub const TELL_UIDS: Role = Role { name: "tell-uids", play: tell_uids };

/// The overflow user id: the kernel reports it for a user that a namespace does not map. On most systems the user
/// `nobody` has the same id.
const NOBODY: u32 = 65534;

/// `tell-uids address=A mode=M allow=all|nobody`: prints `ready`, then `uid X` or `unknown` for each client, and `in`
/// for each client that it admits.
fn tell_uids(arguments: &[String]) {
    let words = Words(arguments);
    let mut options = words.server_options();
    let all = words.find("allow") == Some("all");
    options = options.allow(move |peer| {
        println!("{}", peer.uid().map_or("unknown".to_owned(), |uid| format!("uid {uid}")));
        all || peer.uid() == Some(NOBODY)
    });
    let server = options.bind(words.address()).unwrap();
    println!("ready");
    std::thread::spawn(move || {
        for connection in server.incoming() {
            let connection = connection.unwrap();
            println!("in");
            std::thread::spawn(move || crate::support::roles::echo(connection));
        }
    });
    until_end_of_input();
    std::process::exit(0);
}

/// Inside the namespace only root is mapped. Every other user has the overflow id there.
fn a_client_whose_user_the_servers_namespace_does_not_map_is_unknown_and_not_nobody(transport: Transport) {
    let base = Base::new();
    chmod(base.path(), 0o755);
    for allow in ["nobody", "all"] {
        let address = base.address(transport, allow);
        let arguments = [format!("address={address}"), "mode=666".to_owned(), format!("allow={allow}")];
        let mut server = inside(&["--user", "--map-root-user"], "tell-uids", &arguments);
        server.expect("ready");
        let uid = new_uid();
        let arguments = [format!("address={address}"), format!("uid={uid}"), "timeout_ms=1000".to_owned()];
        let mut client = Child::spawn("reach", &arguments);
        let said = client.line();
        server.expect("unknown");
        match allow {
            "all" => {
                server.expect("in");
                assert!(said.starts_with("connected"), "{said}");
                assert_eq!(client.ask("hello"), "hello");
            }
            _ => {
                // The client is not admitted as the user nobody, although it has that id in the namespace.
                let said = if said.starts_with("connected") { client.ask("hello") } else { said };
                assert!(
                    said == "end" || said.starts_with("error disconnected") || said.starts_with("error refused"),
                    "{said}"
                );
            }
        }
    }
}

/// Inside the namespace, the server and its files belong to an unknown user.
fn a_server_whose_user_the_clients_namespace_does_not_map_is_refused(transport: Transport) {
    let top = Base::new();
    chmod(top.path(), 0o755);
    let home = top.path().join("home");
    let uid = new_uid();
    std::fs::create_dir(&home).unwrap();
    chown(&home, uid);
    let address = format!("{transport}:{}", home.join("open").display());
    let words = [format!("address={address}"), format!("uid={uid}"), "mode=666".to_owned(), format!("on={transport}")];
    let mut server = Child::spawn("serve", &words);
    let said = server.line();
    assert!(said.starts_with("ready"), "{said}");
    for expected in [None, Some(NOBODY)] {
        let mut arguments = vec![format!("address={address}"), "timeout_ms=1000".to_owned()];
        arguments.extend(expected.map(|uid: u32| format!("server_uid={uid}")));
        let mut client = inside(&["--user", "--map-root-user"], "reach", &arguments);
        let said = client.line();
        assert!(said.starts_with("error unsafe directory") || said.starts_with("error denied"), "{expected:?}: {said}");
    }
    // The server can be reached from outside the namespace.
    let mut client = Child::spawn("reach", &[format!("address={address}"), format!("server_uid={uid}")]);
    let said = client.line();
    assert!(said.starts_with("connected"), "{said}");
}

/// A client in its own PID namespace puts its process id in that namespace into the name of its file. The kernel
/// reports a different id to the server.
fn a_client_in_a_pid_namespace_of_its_own_is_let_in(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "contained");
    let mut server = Child::spawn("server", &[&address]);
    server.expect("ready");
    let arguments = std::slice::from_ref(&address);
    let mut client = inside(&["--pid", "--fork", "--kill-child"], "client", arguments);
    assert_eq!(client.ask("pid"), "1", "the first process of its namespace");
    client.say("connect");
    let accepted = server.ask("accept");
    assert!(accepted.starts_with("accepted pid ") && !accepted.starts_with("accepted pid 1 "), "{accepted}");
    assert!(client.line().starts_with("connected "));
    client.say("send 100 7");
    assert!(client.line().starts_with("sent"));
    assert!(server.ask("recv").starts_with("message 100 "));
}

fn a_server_in_a_pid_namespace_of_its_own_lets_its_clients_in(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "contained");
    let mut server = inside(&["--pid", "--fork", "--kill-child"], "server", std::slice::from_ref(&address));
    server.expect("ready");
    assert_eq!(server.ask("pid"), "1", "the first process of its namespace");
    let mut client = Child::spawn("client", std::slice::from_ref(&address));
    server.say("accept");
    let connected = client.ask("connect");
    assert!(connected.starts_with("connected pid ") && !connected.starts_with("connected pid 1 "), "{connected}");
    // The kernel has no process id in the server's namespace for a client outside of it, so none is reported.
    let accepted = server.line();
    assert!(accepted.starts_with("accepted ") && !accepted.contains(&format!("pid {}", client.pid())), "{accepted}");
    client.say("send 100 7");
    assert!(client.line().starts_with("sent"));
    assert!(server.ask("recv").starts_with("message 100 "));
    // The owner's record says 1, which identifies no process of parlour here. The name is held nevertheless.
    let error = ServerOptions::new().bind(&address).unwrap_err();
    assert_eq!(error.kind(), parlour::ErrorKind::NameInUse, "{error}");
}

/// A user, and a base directory of that user in /tmp. In a namespace of only that user, `/` and `/tmp` belong to
/// nobody.
fn user_with_base() -> (u32, Base) {
    let (uid, base) = (new_uid(), Base::new());
    chown(base.path(), uid);
    (uid, base)
}

fn words(address: &str, uid: u32, namespace: Option<u32>) -> Vec<String> {
    let namespace = namespace.map(|inside| format!("namespace={inside}"));
    [format!("address={address}"), format!("uid={uid}")].into_iter().chain(namespace).collect()
}

#[track_caller]
fn assert_reached(address: &str, uid: u32, namespace: Option<u32>) {
    let mut client = Child::spawn("reach", &words(address, uid, namespace));
    let said = client.line();
    assert!(said.starts_with("connected"), "{namespace:?}: {said}");
    assert_eq!(client.ask("hello"), "hello");
}

fn serve(transport: Transport, address: &str, uid: u32, namespace: Option<u32>) -> Child {
    let mut arguments = words(address, uid, namespace);
    arguments.push(format!("on={transport}"));
    let mut server = Child::spawn("serve", &arguments);
    let said = server.line();
    assert!(said.starts_with("ready"), "{namespace:?}: {said}");
    server
}

/// The user has its own id inside, or that of root.
fn a_server_and_a_client_in_a_namespace_of_only_their_user_find_each_other(transport: Transport) {
    let (uid, base) = user_with_base();
    for inside in [uid, 0] {
        let address = base.address(transport, &format!("as{inside}"));
        // Each process has a namespace of its own. Both map the same user.
        let mut server = serve(transport, &address, uid, Some(inside));
        assert_reached(&address, uid, Some(inside));
        server.finish();
    }
}

fn a_namespace_of_only_one_user_separates_nobody_from_the_servers_of_that_user(transport: Transport) {
    let (uid, base) = user_with_base();
    for (number, (server, client)) in
        [(None, Some(uid)), (Some(uid), None), (None, Some(0)), (Some(0), Some(uid))].into_iter().enumerate()
    {
        let address = base.address(transport, &format!("name{number}"));
        let mut server = serve(transport, &address, uid, server);
        assert_reached(&address, uid, client);
        server.finish();
    }
}

#[track_caller]
fn assert_unsafe(role: &str, arguments: &[String], parts: &[&str]) {
    let said = Child::spawn(role, arguments).line();
    assert!(said.starts_with("error unsafe directory:"), "{role}: {said}");
    for part in parts {
        assert!(said.contains(part), "{role}: {part:?} is missing in {said:?}");
    }
}

fn a_base_of_a_user_whom_the_namespace_does_not_map_is_refused() {
    // The base belongs to root, or to another user.
    for owner in [0, new_uid()] {
        let base = Base::new();
        chown(base.path(), owner);
        chmod(base.path(), 0o755);
        let uid = new_uid();
        for role in ["serve", "reach"] {
            let arguments = words(base.name("wc").to_str().unwrap(), uid, Some(uid));
            let path = base.path().display().to_string();
            assert_unsafe(role, &arguments, &[&path, "without an id in this user namespace", "65534", "0755"]);
        }
        assert_eq!(base.files(), [""; 0]);
    }
}

/// Everybody can create a directory in /tmp, and later rename what is in it.
fn a_directory_that_anybody_may_have_created_is_refused_if_its_owner_is_not_mapped() {
    let (uid, top) = (new_uid(), Base::new());
    chown(top.path(), new_uid());
    chmod(top.path(), 0o755);
    let home = top.path().join("home");
    directory_of(&home, uid, 0o700);
    for role in ["serve", "reach"] {
        let arguments = words(home.join("wc").to_str().unwrap(), uid, Some(uid));
        assert_unsafe(role, &arguments, &[&top.path().display().to_string(), "without an id in this user namespace"]);
        // Outside of the namespace it is refused as well.
        let arguments = words(home.join("wc").to_str().unwrap(), uid, None);
        assert_unsafe(role, &arguments, &[&top.path().display().to_string(), "belongs to another user"]);
    }
    assert_eq!(top.files(), ["home/"]);
}

/// Inside, the user has the id that the kernel also reports for everybody who is not mapped.
fn a_user_with_the_id_of_unknown_users_is_refused() {
    let (uid, base) = user_with_base();
    for role in ["serve", "reach"] {
        let arguments = words(base.name("wc").to_str().unwrap(), uid, Some(NOBODY));
        assert_unsafe(role, &arguments, &["cannot be told from theirs", "unshare --map-current-user"]);
    }
    assert_eq!(base.files(), [""; 0]);
}
