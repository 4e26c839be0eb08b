//! The listeners of a hand-over: those that move, those that the next server replaces, and clients in between.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::thread;
use std::time::Duration;

use parlour::{ConnectOptions, Connection, ErrorKind, Server, ServerOptions, Transport, TryRecvError};

use super::moving::{replace, successor};
use crate::by_hand::FifoClient;
use crate::by_hand::candidate::{ACK, Candidate};
use crate::support::base::leaves_files;
use crate::support::{Base, DEADLINE, trials};

trials! {
    transports_that_the_next_server_does_not_offer_go_away,
    transports_that_only_the_next_server_offers_appear,
    a_socket_of_another_mode_is_replaced_and_its_clients_are_accepted,
    a_client_in_its_fifo_handshake_is_accepted_by_its_server,
    half_a_request_is_read_on_by_the_next_server,
    a_shutdown_during_a_hand_over_follows_it,
    releasing_a_server_during_a_hand_over_leaves_the_name_to_the_candidate;

    for transport in Transport::ALL =>
        an_inherited_point_of_contact_is_the_same_file,
        each_side_may_have_other_limits;
}

fn file_of(server: &Server, transport: Transport) -> fs::Metadata {
    fs::symlink_metadata(server.path().join(transport.to_string())).unwrap()
}

fn offering(transports: &[Transport]) -> ServerOptions {
    ServerOptions::new().transports(transports.iter().copied())
}

fn an_inherited_point_of_contact_is_the_same_file(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "name");
    let old = Server::bind(&address).unwrap();
    let before = file_of(&old, transport).ino();
    let (new, ..) = replace(old, &successor(), &address);
    assert_eq!(file_of(&new, transport).ino(), before);
}

fn each_side_may_have_other_limits(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "name");
    let old = ServerOptions::new().message_max(10).backlog(1).bind(&address).unwrap();
    let (new, ..) = replace(old, &successor().message_max(1000), &address);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut client = ConnectOptions::new().timeout(DEADLINE).connect(&address).unwrap();
            client.send(&[7; 500]).unwrap();
            assert_eq!(client.recv_timeout(DEADLINE).unwrap(), None);
        });
        let mut connection = new.accept_timeout(DEADLINE).unwrap();
        assert_eq!(*connection.recv_timeout(DEADLINE).unwrap().unwrap(), [7; 500]);
        drop(connection);
        client.join().unwrap();
    });
}

fn transports_that_the_next_server_does_not_offer_go_away() {
    let base = Base::new();
    let address = base.name("name").display().to_string();
    let old = offering(Transport::ALL).bind(&address).unwrap();
    let (new, old, _) = replace(old, &successor().transports([Transport::Packet]), &address);
    assert_eq!(base.files(), ["name/", "name/c/", "name/control", "name/lock", "name/packet"]);
    old.close().unwrap();
    let mut client = Connection::connect(&address).unwrap();
    assert_eq!(client.transport(), Transport::Packet);
    client.send("hello").unwrap();
    assert_eq!(new.accept_timeout(DEADLINE).unwrap().recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
}

fn transports_that_only_the_next_server_offers_appear() {
    let base = Base::new();
    let address = base.name("name").display().to_string();
    let old = offering(&[Transport::Unix]).bind(&address).unwrap();
    let before = file_of(&old, Transport::Unix).ino();
    let (new, ..) = replace(old, &successor().transports(Transport::ALL.iter().copied()), &address);
    assert_eq!(file_of(&new, Transport::Unix).ino(), before);
    for transport in Transport::ALL {
        thread::scope(|scope| {
            let client = scope.spawn(|| Connection::connect(base.address(*transport, "name")).unwrap());
            assert_eq!(new.accept_timeout(DEADLINE).unwrap().transport(), *transport);
            client.join().unwrap();
        });
    }
    new.close().unwrap();
    assert_eq!(base.files(), [""; 0]);
}

fn a_socket_of_another_mode_is_replaced_and_its_clients_are_accepted() {
    let base = Base::new();
    let address = base.name("name").display().to_string();
    let old = Server::bind(&address).unwrap();
    let before = file_of(&old, Transport::Unix).ino();
    // This client is in the queue of a socket that does not move.
    let mut client = Connection::connect(&address).unwrap();
    client.send("hello").unwrap();
    let candidate = successor().mode(0o660);
    let (new, _old, mut accepted) = replace(old, &candidate, &address);
    let file = file_of(&new, Transport::Unix);
    assert_ne!(file.ino(), before);
    assert_eq!(file.permissions().mode() & 0o777, 0o660);
    assert_eq!(fs::metadata(new.path()).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0].recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    assert!(matches!(new.try_accept(), Err(TryRecvError::Empty)));
}

/// The client has its server's answer when the name moves, and the next server knows nothing of it.
fn a_client_in_its_fifo_handshake_is_accepted_by_its_server() {
    let base = Base::new();
    let address = base.address(Transport::Fifo, "name");
    let old = Server::bind(&address).unwrap();
    let path = old.path().to_owned();
    let mut client = thread::scope(|scope| {
        let client = scope.spawn(|| FifoClient::greeted(&path));
        // The server answers only while `accept` runs, so it must run until the client has the answer.
        while !client.is_finished() {
            let error = old.accept_timeout(Duration::from_millis(10)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
        client.join().unwrap()
    });
    let (new, accepted) = thread::scope(|scope| {
        let leaving = scope.spawn(|| old.accept_timeout(DEADLINE));
        let new = successor().bind(&address).unwrap();
        client.open_c2s();
        client.unlink();
        client.acknowledge();
        (new, leaving.join().unwrap().unwrap())
    });
    assert_eq!(old.accept_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::HandedOver);
    client.write(b"\0\0\0\x02me");
    let mut accepted = accepted;
    assert_eq!(accepted.recv_timeout(DEADLINE).unwrap().unwrap(), b"me");
    assert!(matches!(new.try_accept(), Err(TryRecvError::Empty)));
}

fn half_a_request_is_read_on_by_the_next_server() {
    let base = Base::new();
    let address = base.address(Transport::Fifo, "name");
    let old = Server::bind(&address).unwrap();
    let path = old.path().to_owned();
    let mut client = FifoClient::new(&path);
    client.make_s2c();
    client.make_c2s();
    client.open_s2c();
    let request = client.id.request();
    let (begin, end) = request.split_at(20);
    let fifo = || fs::File::options().write(true).open(path.join("fifo")).unwrap();
    std::io::Write::write_all(&mut fifo(), begin).unwrap();
    let error = old.accept_timeout(Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let (new, ..) = replace(old, &successor(), &address);
    std::io::Write::write_all(&mut fifo(), end).unwrap();
    thread::scope(|scope| {
        let accepting = scope.spawn(|| new.accept_timeout(DEADLINE));
        client.expect_hello();
        client.open_c2s();
        client.unlink();
        client.acknowledge();
        accepting.join().unwrap().unwrap();
    });
}

fn a_shutdown_during_a_hand_over_follows_it() {
    for is_taken in [true, false] {
        let base = Base::new();
        let address = base.name("name").display().to_string();
        let server = Server::bind(&address).unwrap();
        let path = server.path().to_owned();
        thread::scope(|scope| {
            let accepting = scope.spawn(|| server.accept_timeout(DEADLINE).unwrap_err().kind());
            let candidate = Candidate::connect(&path).unwrap();
            let granted = candidate.take_grant(&path);
            server.shutdown_handle().shutdown();
            assert!(path.join("unix").exists(), "the files may belong to the candidate");
            if is_taken {
                candidate.send(ACK, None);
                assert_eq!(accepting.join().unwrap(), ErrorKind::HandedOver);
            } else {
                drop((candidate, granted));
                assert_eq!(accepting.join().unwrap(), ErrorKind::Shutdown);
                assert!(!path.join("unix").exists());
            }
        });
        drop(server);
        assert_eq!(base.path().join("name").exists(), is_taken);
        leaves_files();
    }
}

fn releasing_a_server_during_a_hand_over_leaves_the_name_to_the_candidate() {
    let base = Base::new();
    let address = base.name("name").display().to_string();
    let server = Server::bind(&address).unwrap();
    let path = server.path().to_owned();
    thread::scope(|scope| {
        let accepting = scope.spawn(|| server.accept_timeout(DEADLINE).unwrap_err().kind());
        let candidate = Candidate::connect(&path).unwrap();
        let (_, descriptors) = candidate.take_grant(&path);
        server.release().unwrap();
        assert_eq!(accepting.join().unwrap(), ErrorKind::Shutdown);
        assert!(path.join("unix").exists() && path.join("lock").exists());
        // The candidate has the only descriptors of the lock.
        assert_eq!(Server::bind(&address).unwrap_err().kind(), ErrorKind::NameInUse);
        drop(descriptors);
        drop(Server::bind(&address).unwrap());
    });
    leaves_files();
}
