//! Tests of sockets of another user that look like those of a dead server.

use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use parlour::inspect::{self, NameState, NameStatus};
use parlour::{ErrorKind, Server, ServerOptions, Transport};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

use crate::by_hand::options::Words;
use crate::by_hand::place::chmod;
use crate::by_hand::unix;
use crate::by_hand::user::{directory_of, new_uid, no_other_users};
use crate::support::{Base, Child, Role, trials};

trials! {
    another_users_sockets_that_look_like_a_dead_servers_do_not_keep_its_name unless no_other_users(),
    a_socket_that_listens_elsewhere_under_the_path_of_a_dead_servers_does_not_keep_its_name,
    a_socket_that_a_process_has_way_in_the_directory_of_a_name_keeps_it(way in ["bound", "linked"]),
}

/// `lookalikes uid=UID PATH HOME`: becomes that user, binds sockets that look like those of the name directory PATH in
/// text, prints `ready`, and keeps them until stdin ends. HOME is a directory of the user.
pub const LOOKALIKES: Role = Role { name: "lookalikes", play: lookalikes };

fn lookalikes(arguments: &[String]) {
    let [uid, path, home] = arguments else { panic!("lookalikes uid=UID PATH HOME") };
    Words(std::slice::from_ref(uid)).become_whom_they_say();
    std::env::set_current_dir(home).unwrap();
    let mut sockets = Vec::new();
    for file in ["unix", "packet", "shm"] {
        let path = format!("{path}/{file}");
        for name in [
            path.clone(),
            format!("x {path}"),
            format!("\n0000000000000000: 00000002 00000000 00010000 0001 01 1 {path}"),
            format!("x\n{path}\n"),
            format!("{path}\0"),
        ] {
            let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
            sockets.extend(KINDS.map(|kind| bound(kind, &address)));
        }
        // A relative path that reads like another path behind a blank.
        let relative = PathBuf::from(format!("x {path}"));
        fs::create_dir_all(relative.parent().unwrap()).unwrap();
        sockets.push(bound(SocketType::STREAM, &SocketAddrUnix::new(&relative).unwrap()));
    }
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

const KINDS: [SocketType; 2] = [SocketType::STREAM, SocketType::DGRAM];

/// Binds a socket, and listens where its type can.
fn bound(kind: SocketType, address: &SocketAddrUnix) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, address).unwrap();
    if kind != SocketType::DGRAM {
        listen(&socket, 8).unwrap();
    }
    socket
}

/// Starts and kills a server of this name.
fn dead_name(path: &Path) {
    let mut server = Child::spawn("serve", &[format!("address={}", path.display()), "on=unix,packet,shm".to_owned()]);
    assert!(server.line().starts_with("ready"));
    server.kill();
}

fn look(path: &Path) -> NameStatus {
    inspect::resolve(path.to_str().unwrap()).unwrap().candidates.remove(0).name.unwrap()
}

/// Checks that a name is dead, that it can be taken, and that it can be removed.
fn assert_free(path: &Path) {
    let status = look(path);
    assert!(matches!(status.state, NameState::Dead), "{status:?}");
    let options = ServerOptions::new().transports(Transport::ALL.iter().copied());
    options.bind(path.to_str().unwrap()).unwrap().close().unwrap();
    dead_name(path);
    assert!(inspect::clean(&look(path)).unwrap());
    assert!(!path.exists());
}

fn another_users_sockets_that_look_like_a_dead_servers_do_not_keep_its_name() {
    let base = Base::new();
    chmod(base.path(), 0o755);
    let (uid, path, home) = (new_uid(), base.name("wc"), base.path().join("h"));
    directory_of(&home, uid, 0o755);
    dead_name(&path);
    let arguments = [format!("uid={uid}"), path.display().to_string(), home.display().to_string()];
    let mut other = Child::spawn("lookalikes", &arguments);
    other.expect("ready");
    assert_free(&path);
}

fn a_socket_that_listens_elsewhere_under_the_path_of_a_dead_servers_does_not_keep_its_name() {
    let base = Base::new();
    let (path, elsewhere) = (base.name("wc"), base.path().join("elsewhere"));
    dead_name(&path);
    // The kernel shows a socket with the path that it was bound to, wherever its file is now.
    fs::remove_file(path.join("unix")).unwrap();
    let _listener = unix::listen_on(unix::bound(&path.join("unix"), 0o600), 8);
    fs::rename(path.join("unix"), &elsewhere).unwrap();
    drop(unix::bound(&path.join("unix"), 0o600));
    assert_free(&path);
    assert!(elsewhere.exists());
}

/// A manager may have bound its socket and not listen yet, and it may make it available by a link.
fn a_socket_that_a_process_has_way_in_the_directory_of_a_name_keeps_it(way: &str) {
    let base = Base::new();
    let (path, elsewhere) = (base.name("wc"), base.path().join("elsewhere"));
    dead_name(&path);
    fs::remove_file(path.join("unix")).unwrap();
    let socket = match way {
        "bound" => unix::bound(&path.join("unix"), 0o600),
        _ => {
            let socket = unix::listen_on(unix::bound(&elsewhere, 0o600), 8).into();
            fs::hard_link(&elsewhere, path.join("unix")).unwrap();
            socket
        }
    };
    let status = look(&path);
    assert!(matches!(status.state, NameState::Waiting), "{status:?}");
    assert!(!inspect::clean(&status).unwrap());
    assert_eq!(Server::bind(path.to_str().unwrap()).unwrap_err().kind(), ErrorKind::NameInUse);
    assert!(path.join("unix").exists());
    drop(socket);
    assert_free(&path);
}
