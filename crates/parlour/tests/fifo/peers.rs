//! The identity of the peer, and what vouches for it.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use parlour::{Connection, ErrorKind, Provenance, Server, Transport};

use crate::by_hand::{Driver, FifoClient, Id};
use crate::support::{Base, Child, Role, trials};

trials! {
    a_client_that_holds_its_fifo_is_verified,
    the_pid_of_a_client_that_names_another_process_is_only_a_claim,
    the_pid_of_a_client_that_names_the_server_is_only_a_claim,
    a_client_sees_the_owner_and_the_claimed_pid_of_the_server,
    a_client_that_finds_the_servers_fifo_with_another_mode_is_told_to_restart_the_server,
}

/// `claim PATH PID`: connects with this process id in its request, prints `in`, and stays.
pub const CLAIM: Role = Role { name: "claim", play: claim };

fn claim(arguments: &[String]) {
    let mut client = FifoClient::with_id(arguments[0].as_ref(), Id::of(arguments[1].parse().unwrap()));
    client.make_s2c();
    client.make_c2s();
    client.open_s2c();
    client.ask();
    client.expect_hello();
    client.open_c2s();
    client.acknowledge();
    println!("in");
    let _ = std::io::stdin().read(&mut [0]);
}

fn a_client_that_holds_its_fifo_is_verified() {
    let base = Base::new();
    let address = base.address(Transport::Fifo, "who");
    let driver = Driver::new(Server::bind(&address).unwrap());
    let mut client = Child::spawn("client", &[address]);
    assert!(client.ask("connect").starts_with("connected"));
    let connection = driver.client();
    let peer = connection.peer();
    assert_eq!((peer.pid(), peer.pid_provenance()), (Some(client.pid()), Provenance::Verified));
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!((peer.uid(), peer.uid_provenance()), (Some(uid), Provenance::FileOwner));
    assert_eq!((peer.gid(), peer.gid_provenance()), (None, Provenance::Unknown));
}

fn the_pid_of_a_client_that_names_another_process_is_only_a_claim() {
    claims(1);
}

fn the_pid_of_a_client_that_names_the_server_is_only_a_claim() {
    claims(std::process::id());
}

fn claims(pid: u32) {
    let base = Base::new();
    let driver = Driver::new(Server::bind(base.address(Transport::Fifo, "who")).unwrap());
    let path = driver.server.path().display().to_string();
    let mut client = Child::spawn("claim", &[path, pid.to_string()]);
    client.expect("in");
    let connection = driver.client();
    let peer = connection.peer();
    assert_eq!((peer.pid(), peer.pid_provenance()), (Some(pid), Provenance::Claim), "{peer}");
}

fn a_client_sees_the_owner_and_the_claimed_pid_of_the_server() {
    let base = Base::new();
    let address = base.address(Transport::Fifo, "who");
    let mut server = Child::spawn("echo-server", std::slice::from_ref(&address));
    server.expect("ready");
    let connection = Connection::connect(&address).unwrap();
    let peer = connection.peer();
    assert_eq!((peer.pid(), peer.pid_provenance()), (Some(server.pid()), Provenance::Claim));
    assert_eq!((peer.uid(), peer.uid_provenance()), (Some(rustix::process::geteuid().as_raw()), Provenance::FileOwner));
    let capabilities = connection.capabilities();
    assert!(!capabilities.credentials && !capabilities.descriptors && !capabilities.boundaries);
}

/// The error once advised to offer `unix`, as for a server of another user.
fn a_client_that_finds_the_servers_fifo_with_another_mode_is_told_to_restart_the_server() {
    let base = Base::new();
    let address = base.address(Transport::Fifo, "who");
    let server = Server::bind(&address).unwrap();
    fs::set_permissions(server.path().join("fifo"), Permissions::from_mode(0o644)).unwrap();
    let error = Connection::connect(&address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let text = error.to_string();
    assert!(text.contains("it has mode 0644, not 0600") && text.contains("restart the server"), "{text}");
}
