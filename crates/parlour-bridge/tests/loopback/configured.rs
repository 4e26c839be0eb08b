//! Configurations and certificates that are read again while the bridges run.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use parlour::{ConnectOptions, Connection};
use parlour_bridge::files::config::TlsFiles;
use parlour_bridge::files::tls::{self, Tls};
use parlour_bridge::identity::{Host, Instance};
use parlour_bridge::status::{HostState, ImportState, Status};
use parlour_bridge::wire::CONTROL;
use parlour_bridge::wire::control::{Endpoint, Frame, Hello};
use rustls::{ClientConnection, StreamOwned};

use crate::hosts::{Hosts, own_address, wait_for};
use crate::{PATIENCE, assert_echo};

const READ: &str = "the configuration and the certificates were read again";

/// Returns hosts with an open conversation.
fn start() -> (Hosts, Connection) {
    let hosts = Hosts::start(&["a"]);
    let mut client = hosts.client();
    assert_echo(&mut client);
    // By now the bridges take signals.
    (hosts, client)
}

#[test]
fn a_mistake_keeps_the_former_configuration_and_is_told() {
    let (hosts, mut client) = start();
    hosts.reconfigure("a", "[\"b.example\"]", "[\"B\"]");
    hosts.wait_for_line("a", "[[export]] wc: to: the name of a host must not contain 'B'");
    hosts.wait_for_line("a", "the former configuration and certificates stay");
    assert_echo(&mut client);
    assert_echo(&mut hosts.client());
    hosts.reconfigure("a", "[\"B\"]", "[\"b.example\"]");
    hosts.wait_for_line("a", READ);
    fs::write(hosts.path("realm").join("a.example.key"), "no key").unwrap();
    hosts.read_again("a");
    hosts.wait_for_line("a", "a.example.key: contains no private key");
    assert_echo(&mut client);
    assert_echo(&mut hosts.client());
    hosts.reconfigure("b", "lease = \"30s\"", "lease = \"20s\"");
    hosts.wait_for_line("b", "lease: changes from 30s to 20s, which a bridge cannot do while it runs; restart");
    assert_echo(&mut hosts.client());
}

#[test]
fn a_host_that_is_not_exported_to_any_more_loses_the_name_and_keeps_its_conversations() {
    let (hosts, mut client) = start();
    hosts.reconfigure("a", "[\"b.example\"]", "[\"c.example\"]");
    hosts.wait_until_nobody_holds_the_name();
    assert_echo(&mut client);
    hosts.reconfigure("a", "[\"c.example\"]", "[\"b.example\"]");
    assert_echo(&mut hosts.client());
    assert_echo(&mut client);
}

#[test]
fn a_host_that_is_not_imported_from_any_more_loses_its_link_after_its_conversations() {
    let (hosts, mut client) = start();
    let peer = "from = [\"a.example\"]";
    hosts.reconfigure("b", peer, "from = [\"c.example\"]\n[peers.\"c.example\"]");
    hosts.wait_for_line("b", "the former configuration and certificates stay");
    hosts.reconfigure("b", "from = [\"c.example\"]\n[peers.\"c.example\"]", "from = [\"c.example\"]");
    hosts.wait_for_line("b", "the address of c.example is not known");
    hosts.reconfigure("b", "[peers]", "[peers]\n\"c.example\" = \"127.0.0.1:1\"");
    hosts.wait_until_nobody_holds_the_name();
    assert_echo(&mut client);
    let state = |status: &parlour_bridge::status::Status| status.hosts[0].state;
    assert_eq!(state(&hosts.wait_for_status("a", |_| true)), HostState::Up);
    drop(client);
    let status = hosts.wait_for_status("a", |status| state(status) == HostState::Down);
    assert_eq!(status.counts.links_lost, 0);
    hosts.wait_for_line("a", "b.example is lost: the bridge there has ended the link in order");
    hosts.reconfigure("b", "from = [\"c.example\"]", peer);
    assert_echo(&mut hosts.client());
}

#[test]
fn a_host_that_is_removed_and_added_again_keeps_its_link() {
    let (hosts, mut client) = start();
    let (here, gone) = ("from = [\"a.example\"]", "from = [\"c.example\"]");
    hosts.reconfigure_stopped("b", "[peers]", "[peers]\n\"c.example\" = \"127.0.0.1:1\"");
    for _ in 0..3 {
        hosts.reconfigure("b", here, gone);
        hosts.wait_until_nobody_holds_the_name();
        hosts.reconfigure("b", gone, here);
        assert_echo(&mut hosts.client());
    }
    assert_echo(&mut client);
    for host in ["a", "b"] {
        let status = hosts.wait_for_status(host, |status| status.hosts[0].state == HostState::Up);
        assert_eq!(status.counts.links_lost, 0);
    }
}

#[test]
fn a_name_that_is_exported_instead_of_imported_is_announced_with_the_server_that_it_has() {
    let mut hosts = Hosts::start(&["a"]);
    assert_echo(&mut hosts.client());
    hosts.terminate("bridge b");
    hosts.reconfigure_stopped("b", "[tls]", &format!("listen = \"{}\"\n[tls]", own_address()));
    hosts.start_bridge("b");
    assert_echo(&mut hosts.client());
    hosts.start_server("b");
    hosts.wait_for_status("b", |status| status.imports[0].state == ImportState::Local);
    // The bridge watches it because of its server.
    wait_for(|| (hosts.watches("b").1 > 0).then_some(()));
    let import = "[[import]]\nname = \"wc\"\nfrom = [\"a.example\"]";
    hosts.reconfigure("b", import, "[[export]]\nname = \"wc\"\nto = [\"a.example\"]");
    hosts.wait_for_status("b", |status| status.exports.iter().any(|export| export.has_server));
}

#[test]
fn a_new_mode_lets_other_users_connect_to_an_imported_name() {
    let (hosts, mut client) = start();
    let mode =
        || fs::metadata(hosts.path("b").join("wc").join("unix")).map_or(0, |file| file.permissions().mode() & 0o777);
    assert_eq!(mode(), 0o600);
    hosts.reconfigure("b", "from = [\"a.example\"]", "from = [\"a.example\"]\nmode = \"0666\"");
    hosts.wait_for_line("b", READ);
    assert_echo(&mut hosts.client());
    assert_eq!(mode(), 0o666);
    assert_echo(&mut client);
}

/// A user that the machine does not have.
const OTHER: u32 = 54_321;

/// Starts two hosts, and removes the server of host `a` with its directory, so that a test of root can create a
/// directory of another user.
fn start_for_another_user() -> Option<Hosts> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give a directory to another user");
        return None;
    }
    let (mut hosts, client) = start();
    drop(client);
    hosts.kill("server a");
    hosts.wait_until_nobody_holds_the_name();
    fs::remove_dir_all(hosts.path("a").join("wc")).unwrap();
    Some(hosts)
}

/// Creates a directory of the other user.
fn create_for_another_user(directory: &Path) {
    fs::create_dir(directory).unwrap();
    std::os::unix::fs::chown(directory, Some(OTHER), Some(OTHER)).unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_server_of_another_user_is_exported_once_that_user_is_named() {
    let Some(mut hosts) = start_for_another_user() else { return };
    let has_server = |status: &Status| status.exports[0].has_server;
    let (base, name) = (hosts.path("a"), hosts.path("a").join("wc"));
    // As a line of tmpfiles.d does.
    create_for_another_user(&name);
    for directory in [base.parent().unwrap(), &base] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
    hosts.start_server_as("a", OTHER);
    let options = ConnectOptions::new().server_uid(OTHER).wait_for_server(PATIENCE);
    assert_echo(&mut options.connect(name.to_str().unwrap()).unwrap());
    let told = hosts.check("a");
    let warning = "is of the user 54321, and is not exported; if this is the service that you mean, write \
                   server_uid = 54321, or run a bridge as that user; otherwise find out why the user 54321 has the name";
    assert!(told.contains("warning: [[export]] wc: ") && told.contains(warning), "{told}");
    assert!(!has_server(&hosts.wait_for_status("a", |_| true)));

    hosts.reconfigure("a", "to = [\"b.example\"]", "to = [\"b.example\"]\nserver_uid = 54321");
    hosts.wait_for_status("a", has_server);
    assert!(!hosts.check("a").contains("54321"), "it is meant now");
    let mut client = hosts.client();
    assert_echo(&mut client);
    client.send("from").unwrap();
    let from = client.recv_timeout(PATIENCE).unwrap().unwrap().to_vec();
    assert!(from.starts_with(b"host b.example"), "{}", String::from_utf8_lossy(&from));
    // The next server of that user is seen without a watch.
    hosts.kill("server a");
    hosts.wait_until_nobody_holds_the_name();
    hosts.start_server_as("a", OTHER);
    assert_echo(&mut hosts.client());
    // That of a third user does not get the name.
    hosts.reconfigure("a", "54321", "54322");
    hosts.wait_for_status("a", |status| !has_server(status));
    hosts.reconfigure("a", "54322", "4294967295");
    hosts.wait_for_line("a", "[[export]] wc: server_uid: 4294967295 is no user; write the number that `id -u USER`");
}

/// A service manager of root listens for the server of another user, which it starts for the first client.
#[test]
fn a_socket_of_root_in_the_directory_of_the_user_that_is_named_is_exported() {
    let Some(hosts) = start_for_another_user() else { return };
    let has_server = |status: &Status| status.exports[0].has_server;
    let name = hosts.path("a").join("wc");
    // As two lines of tmpfiles.d do.
    create_for_another_user(&name);
    create_for_another_user(&name.join("c"));
    let listener = UnixListener::bind(name.join("unix")).unwrap();
    hosts.reconfigure("a", "to = [\"b.example\"]", "to = [\"b.example\"]\nserver_uid = 54321");
    hosts.wait_for_status("a", has_server);
    let echoing = thread::spawn(move || {
        // The frames of both directions are the same.
        let (mut stream, _) = listener.accept().unwrap();
        io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap();
    });
    let mut client = hosts.client();
    assert_echo(&mut client);
    drop(client);
    echoing.join().unwrap();
}

#[test]
fn a_server_of_the_own_user_is_not_exported_while_another_user_is_named() {
    let (hosts, mut client) = start();
    let has_server = |status: &Status| status.exports[0].has_server;
    hosts.reconfigure("a", "to = [\"b.example\"]", "to = [\"b.example\"]\nserver_uid = 54321");
    hosts.wait_for_status("a", |status| !has_server(status));
    hosts.wait_until_nobody_holds_the_name();
    let (told, uid) = (hosts.check("a"), rustix::process::geteuid().as_raw());
    let warning = format!("is of the user {uid}, and is not exported; end that server, or correct server_uid = 54321");
    assert!(told.contains("warning: [[export]] wc: ") && told.contains(&warning), "{told}");
    // The own user can be named, too.
    hosts.reconfigure("a", "54321", &uid.to_string());
    assert_echo(&mut hosts.client());
    hosts.reconfigure("a", &format!("\nserver_uid = {uid}"), "");
    hosts.wait_for_line("a", READ);
    assert_echo(&mut hosts.client());
    assert_echo(&mut client);
}

/// Dials a host with the certificate of host `b`. `authority` is the file of the certificates that are accepted.
fn dial(hosts: &Hosts, host: &str, authority: &str) -> StreamOwned<ClientConnection, TcpStream> {
    let realm = hosts.path("realm");
    let files = TlsFiles {
        authority: realm.join(authority),
        certificate: realm.join("b.example.pem"),
        key: realm.join("b.example.key"),
    };
    let name = tls::server_name(&Host::parse(&format!("{host}.example")).unwrap()).unwrap();
    let client = ClientConnection::new(Tls::read(&files).unwrap().client(), name).unwrap();
    let mut stream = StreamOwned::new(client, TcpStream::connect(hosts.address(host)).unwrap());
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    stream
}

/// Returns the certificate that a host shows.
fn certificate(hosts: &Hosts, host: &str) -> Vec<u8> {
    dial(hosts, host, "ca.pem").conn.peer_certificates().unwrap()[0].to_vec()
}

/// Begins a link with host `a` as host `b`. Returns the first bytes of the answer.
pub(crate) fn say_hello(hosts: &Hosts, authority: &str) -> io::Result<Vec<u8>> {
    let hello = Hello {
        instance: Instance([9; 16]),
        host: Host::parse("b.example").unwrap(),
        endpoint: Endpoint::default(),
        lease: PATIENCE,
    };
    let mut bytes = vec![CONTROL];
    Frame::Hello(hello).encode(&mut bytes);
    let mut stream = dial(hosts, "a", authority);
    stream.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    // The handshake of TLS 1.3 is over before the server has seen the certificate.
    let _ = stream.write_all(&bytes);
    let mut answer = vec![0; 100];
    let count = stream.read(&mut answer)?;
    answer.truncate(count);
    Ok(answer)
}

/// So a host that is not greeted was refused.
#[test]
fn a_host_of_the_realm_is_greeted() {
    let (hosts, _client) = start();
    let answer = say_hello(&hosts, "ca.pem").unwrap();
    assert_eq!(answer[0], b'h');
}

#[test]
fn a_new_certificate_is_shown_to_those_who_connect_from_then_on() {
    let (hosts, mut client) = start();
    let before = certificate(&hosts, "a");
    hosts.renew("a");
    assert_eq!(certificate(&hosts, "a"), before, "nobody has asked for another one");
    hosts.read_again("a");
    hosts.wait_for_line("a", READ);
    assert_ne!(certificate(&hosts, "a"), before);
    assert_echo(&mut client);
    hosts.renew("b");
    hosts.read_again("b");
    hosts.wait_for_line("b", READ);
    assert_echo(&mut hosts.client());
    assert_echo(&mut client);
}
