//! Peer credentials from the kernel.

use std::sync::{Arc, Mutex};

use parlour::{ConnectOptions, Connection, ErrorKind, Provenance, Server, ServerOptions, Transport};

use crate::by_hand::place::chmod;
use crate::by_hand::user::{new_uid, no_other_users};
use crate::by_hand::{Driver, unix};
use crate::support::wait::readable_within;
use crate::support::{Base, Child, DEADLINE, trials};

trials! {
    both_sides_get_peer_credentials_from_the_kernel,
    a_pidfd_shows_that_the_peer_has_exited,
    the_policy_is_called_with_the_credentials_of_the_kernel,
    a_policy_that_returns_false_ends_the_connection,
    an_unbound_client_of_another_user_is_accepted_where_the_mode_allows_it unless no_other_users(),
    a_policy_decides_about_other_users_and_about_the_own_user unless no_other_users(),
    a_required_file_excludes_other_users unless no_other_users(),
}

fn own() -> (Option<u32>, Option<u32>) {
    (Some(rustix::process::geteuid().as_raw()), Some(rustix::process::getegid().as_raw()))
}

fn both_sides_get_peer_credentials_from_the_kernel() {
    let base = Base::new();
    let address = base.address(Transport::Unix, "who");
    let mut server = Child::spawn("server", std::slice::from_ref(&address));
    server.expect("ready");
    let connection = Connection::connect(&address).unwrap();
    let peer = connection.peer();
    assert_eq!((peer.pid(), (peer.uid(), peer.gid())), (Some(server.pid()), own()));
    assert_eq!([peer.pid_provenance(), peer.uid_provenance(), peer.gid_provenance()], [Provenance::Kernel; 3]);
    let (uid, gid) = own();
    let this =
        format!("pid {} (kernel), uid {} (kernel), gid {} (kernel)", std::process::id(), uid.unwrap(), gid.unwrap());
    assert_eq!(server.ask("accept"), format!("accepted {this}"));
    assert!(connection.capabilities().credentials);
}

fn a_pidfd_shows_that_the_peer_has_exited() {
    let base = Base::new();
    let address = base.address(Transport::Unix, "who");
    let driver = Driver::new(Server::bind(&address).unwrap());
    let mut client = Child::spawn("client", &[address]);
    assert!(client.ask("connect").starts_with("connected"));
    let connection = driver.client();
    let pidfd = match connection.peer_pidfd() {
        Ok(pidfd) => pidfd,
        // The option needs Linux 6.5.
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => return,
        Err(error) => panic!("{error}"),
    };
    assert!(!readable_within(&pidfd, std::time::Duration::ZERO));
    client.kill();
    assert!(readable_within(&pidfd, DEADLINE));
}

fn the_policy_is_called_with_the_credentials_of_the_kernel() {
    let base = Base::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let options = ServerOptions::new().allow({
        let seen = Arc::clone(&seen);
        move |peer| {
            seen.lock().unwrap().push(peer.clone());
            true
        }
    });
    let driver = Driver::new(options.bind(base.address(Transport::Unix, "who")).unwrap());
    let _stream = unix::dial(driver.server.path());
    let connection = driver.client();
    assert_eq!(*seen.lock().unwrap(), [connection.peer().clone()]);
    assert_eq!(connection.peer().pid(), Some(std::process::id()));
}

fn a_policy_that_returns_false_ends_the_connection() {
    let base = Base::new();
    let address = base.address(Transport::Unix, "who");
    let driver = Driver::new(ServerOptions::new().allow(|_| false).bind(&address).unwrap());
    unix::assert_ended(&unix::dial(driver.server.path()));
    let reason = driver.refused(1);
    assert!(reason.contains("policy does not admit") && reason.contains("(kernel)"), "{reason}");
    let outcome = Connection::connect(&address).and_then(|mut connection| connection.recv_timeout(DEADLINE));
    match outcome {
        Ok(None) => {}
        Err(error) => assert!(matches!(error.kind(), ErrorKind::Refused | ErrorKind::Disconnected), "{error}"),
        Ok(Some(message)) => panic!("{message:?}"),
    }
    driver.refused(2);
}

fn open_base() -> Base {
    let base = Base::new();
    chmod(base.path(), 0o755);
    base
}

fn foreigner(base: &Base, uid: u32) -> Child {
    Child::spawn("reach", &[format!("address={}", base.name("open").display()), format!("uid={uid}")])
}

fn an_unbound_client_of_another_user_is_accepted_where_the_mode_allows_it() {
    let base = open_base();
    let driver = Driver::new(ServerOptions::new().mode(0o666).bind(base.name("open").to_str().unwrap()).unwrap());
    let uid = new_uid();
    let mut client = foreigner(&base, uid);
    assert!(client.line().starts_with("connected"));
    let mut connection = driver.client();
    let peer = connection.peer();
    assert_eq!((peer.pid(), peer.uid(), peer.gid()), (Some(client.pid()), Some(uid), Some(uid)));
    client.say("hello");
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    connection.send(b"welcome").unwrap();
    client.expect("welcome");
    assert_eq!(driver.server.stats().refused, 0);
}

fn a_policy_decides_about_other_users_and_about_the_own_user() {
    let base = open_base();
    let (friend, stranger) = (new_uid(), new_uid());
    let options = ServerOptions::new().mode(0o666).allow(move |peer| peer.uid() == Some(friend));
    let driver = Driver::new(options.bind(base.name("open").to_str().unwrap()).unwrap());
    let mut client = foreigner(&base, stranger);
    assert!(client.line().starts_with("connected"), "over this transport connecting does not involve the server");
    let said = client.ask("hello");
    assert!(said.starts_with("error refused"), "{said}");
    let reason = driver.refused(1);
    assert!(reason.contains(&format!("uid {stranger} (kernel)")), "{reason}");
    let mut client = foreigner(&base, friend);
    assert!(client.line().starts_with("connected"));
    assert_eq!(driver.client().peer().uid(), Some(friend));
    // A policy replaces the default rule, so this process's own user is rejected too.
    let outcome = ConnectOptions::new().connect(base.name("open").to_str().unwrap());
    drop(outcome);
    driver.refused(2);
}

fn a_required_file_excludes_other_users() {
    let base = open_base();
    let options = ServerOptions::new().mode(0o666).client_file(parlour::ClientFilePolicy::Require);
    let driver = Driver::new(options.bind(base.name("open").to_str().unwrap()).unwrap());
    let mut client = foreigner(&base, new_uid());
    assert!(client.line().starts_with("connected"));
    assert!(driver.refused(1).contains("no file of its own"));
    Connection::connect(base.name("open").to_str().unwrap()).unwrap();
    driver.client();
}
