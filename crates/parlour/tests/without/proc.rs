//! Without `/proc`, or with one that does not show the descriptors of this thread.
#![allow(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use parlour::{Connection, Server, Transport};

use super::containers::{talk, why_not};
use crate::support::{Base, Child, DEADLINE, ROLE, trials};

const SOCKETS: [Transport; 3] = [Transport::Shm, Transport::Packet, Transport::Unix];

trials! {
    for transport in Transport::ALL =>
        without_proc_a_client_and_a_server_talk unless why_not("--mount"),
        without_proc_a_client_finds_a_server_that_has_it unless why_not("--mount"),
        a_thread_with_descriptors_of_its_own_connects;

    for transport in SOCKETS =>
        without_proc_a_path_that_is_too_long_is_an_error_that_says_so unless why_not("--mount"),
        without_proc_a_client_whose_file_has_too_long_a_path_connects_without_it unless why_not("--mount");
}

/// Starts a role that sees an empty directory in the place of `/proc`.
fn without_proc(role: &str, address: &str) -> Child {
    let command = Child::command(role, &[address]);
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh"]);
    unshare.arg(command.get_program()).args(command.get_args()).env(ROLE, role);
    Child::start(&mut unshare)
}

fn without_proc_a_client_and_a_server_talk(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "bare");
    let mut server = without_proc("server", &address);
    server.expect("ready");
    talk(&mut server, &mut without_proc("client", &address));
}

fn without_proc_a_client_finds_a_server_that_has_it(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "bare");
    let mut server = Child::spawn("server", &[&address]);
    server.expect("ready");
    talk(&mut server, &mut without_proc("client", &address));
    drop(server);
    let mut server = without_proc("server", &address);
    server.expect("ready");
    talk(&mut server, &mut Child::spawn("client", &[&address]));
}

/// Returns the directory of a name whose path has exactly this length.
fn long_name(base: &Base, length: usize) -> PathBuf {
    // The name itself has eight bytes, because names are short.
    let left = length - "/".len() - "/contacts".len() - base.path().as_os_str().len();
    let above = base.path().join("d".repeat(left));
    fs::create_dir(&above).unwrap();
    above.join("contacts")
}

fn without_proc_a_path_that_is_too_long_is_an_error_that_says_so(transport: Transport) {
    let base = Base::new();
    let name = long_name(&base, 120);
    let address = format!("{transport}:{}", name.display());
    let _server = Server::bind(&address).unwrap();
    let mut client = without_proc("client", &address);
    let said = client.ask("connect");
    assert!(said.starts_with("error unsupported") && said.contains("mount /proc"), "{said}");
    assert!(said.contains("more than 107 bytes"), "{said}");
    // The same for a server. The role ends with the error.
    let name = name.with_file_name("others");
    let mut server = without_proc("serve", &format!("address={transport}:{}", name.display()));
    let said = server.line();
    assert!(said.starts_with("error unsupported") && said.contains("mount /proc"), "{said}");
}

/// The path of the server's socket fits, and the path of the client's file, which is longer, does not.
fn without_proc_a_client_whose_file_has_too_long_a_path_connects_without_it(transport: Transport) {
    let base = Base::new();
    let address = format!("{transport}:{}", long_name(&base, 90).display());
    let mut server = Child::spawn("server", &[&address]);
    server.expect("ready");
    talk(&mut server, &mut without_proc("client", &address));
}

/// `/proc/self/fd` shows the descriptors of the main thread, where the number may be in use for another file.
fn a_thread_with_descriptors_of_its_own_connects(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "alone");
    let server = Server::bind(&address).unwrap();
    let connecting = thread::spawn({
        let address = address.clone();
        move || {
            // SAFETY: the new table has the descriptors of the old one, and this thread closes none of them.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
            let mut connection = Connection::connect(&address)?;
            connection.send(b"hello")?;
            connection.recv_timeout(DEADLINE)
        }
    });
    let mut served = server.accept_timeout(DEADLINE).unwrap();
    assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    served.send(b"hello yourself").unwrap();
    assert_eq!(connecting.join().unwrap().unwrap().unwrap(), b"hello yourself");
    assert_eq!(server.stats().refused, 0);
}
