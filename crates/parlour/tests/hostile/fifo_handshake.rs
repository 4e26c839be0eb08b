//! Tests of the FIFO handshake, one step at a time.

use std::fs;
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Connection, ErrorKind, Result, Server, ServerOptions, Transport};

use crate::by_hand::fifo_server::line;
use crate::by_hand::line::frame;
use crate::by_hand::place::{client_files, mode};
use crate::by_hand::watch::Watch;
use crate::by_hand::{Driver, FifoClient, FifoServer, Id};
use crate::support::{Base, DEADLINE, SOON, trials};

trials! {
    the_pair_exists_before_the_request,
    the_client_removes_the_pair_before_it_acknowledges,
    the_pair_is_gone_after_the_handshake,
    the_server_removes_the_pair_that_a_client_has_not_removed,
    the_server_opens_the_fifo_to_the_client_before_the_one_from_it,
    a_client_whose_second_fifo_is_missing_is_dropped,
    an_acknowledgement_may_come_byte_by_byte,
    an_acknowledgement_and_the_first_messages_may_come_in_one_write,
    messages_that_follow_the_acknowledgement_in_any_pieces_arrive_whole,
    an_acknowledgement_with_a_wrong_nonce_is_refused,
    an_acknowledgement_that_is_junk_is_refused,
    each_client_gets_its_own_channel,
    a_client_that_the_policy_rejects_gets_an_immediate_refusal,
    an_answer_that_is_wrong_is_an_error(wrong in ANSWERS),
}

fn connect(server: &FifoServer) -> JoinHandle<Result<Connection>> {
    connect_within(server, DEADLINE)
}

fn connect_within(server: &FifoServer, timeout: Duration) -> JoinHandle<Result<Connection>> {
    let address = format!("fifo:{}", server.path().display());
    thread::spawn(move || ConnectOptions::new().timeout(timeout).connect(address))
}

fn write(fd: &OwnedFd, bytes: &[u8]) {
    assert_eq!(rustix::io::write(fd, bytes), Ok(bytes.len()));
}

fn serve(base: &Base) -> Driver {
    Driver::new(Server::bind(base.address(Transport::Fifo, "hand")).unwrap())
}

/// Returns a hand-made client that has been greeted and has not acknowledged yet.
fn ready(driver: &Driver) -> FifoClient {
    let mut client = FifoClient::greeted(driver.server.path());
    client.open_c2s();
    client.unlink();
    client
}

fn the_pair_exists_before_the_request() {
    let base = Base::new();
    let server = FifoServer::new(&base, "hand");
    let connecting = connect(&server);
    let id = server.request();
    assert_eq!(id.pid, std::process::id());
    assert_eq!(client_files(server.path()), [id.c2s(), id.s2c()]);
    for file in [id.s2c(), id.c2s()] {
        let path = server.place.clients().join(file);
        assert!(std::os::unix::fs::FileTypeExt::is_fifo(&fs::symlink_metadata(&path).unwrap().file_type()));
        assert_eq!(mode(&path), 0o600);
    }
    // The client has opened one FIFO for reading, so opening it for writing succeeds. It opens the other for writing
    // only when it has been greeted.
    let to_client = server.open_s2c(&id);
    let from_client = server.open_c2s(&id);
    assert_eq!(rustix::io::read(&from_client, &mut [0; 1]), Ok(0), "no process has it open for writing");
    write(&to_client, id.hello().as_bytes());
    assert_eq!(format!("{}\n", line(&from_client)), id.ack());
    let mut connection = connecting.join().unwrap().unwrap();

    connection.send(b"from the client").unwrap();
    let mut bytes = [0; 100];
    let count = rustix::io::read(&from_client, &mut bytes).unwrap();
    assert_eq!(bytes[..count], frame(b"from the client"));
    write(&to_client, &frame(b"from the server"));
    assert_eq!(connection.recv().unwrap().unwrap(), b"from the server");
    drop(to_client);
    assert_eq!(connection.recv().unwrap(), None);
}

fn the_client_removes_the_pair_before_it_acknowledges() {
    let base = Base::new();
    let server = FifoServer::new(&base, "hand");
    let connecting = connect(&server);
    let id = server.request();
    let (to_client, from_client) = (server.open_s2c(&id), server.open_c2s(&id));
    write(&to_client, id.hello().as_bytes());
    assert_eq!(format!("{}\n", line(&from_client)), id.ack());
    assert_eq!(client_files(server.path()), [""; 0]);
    connecting.join().unwrap().unwrap();
}

fn the_pair_is_gone_after_the_handshake() {
    let base = Base::new();
    let driver = serve(&base);
    for _ in 0..20 {
        let _connection = Connection::connect(base.address(Transport::Fifo, "hand")).unwrap();
        assert_eq!(client_files(driver.server.path()), [""; 0]);
        driver.client();
        assert_eq!(client_files(driver.server.path()), [""; 0]);
    }
    assert_eq!(base.files(), ["hand/", "hand/c/", "hand/control", "hand/fifo", "hand/lock"]);
}

fn the_server_removes_the_pair_that_a_client_has_not_removed() {
    let base = Base::new();
    let driver = serve(&base);
    let mut client = FifoClient::greeted(driver.server.path());
    client.open_c2s();
    client.acknowledge();
    driver.client();
    assert!(!client.has_files());
}

fn the_server_opens_the_fifo_to_the_client_before_the_one_from_it() {
    let base = Base::new();
    let driver = serve(&base);
    // No process reads the FIFO to the client, so opening it tells the server that the client has disconnected.
    let client = FifoClient::new(driver.server.path());
    client.make_s2c();
    client.make_c2s();
    let opened = Watch::of_opening(&client.c2s());
    client.ask();
    let reason = driver.refused(1);
    assert!(reason.contains(&format!("pid {}", std::process::id())) && reason.contains("disconnected"), "{reason}");
    assert_eq!(opened.drain(), 0, "the FIFO from the client was opened although the one to the client cannot be");
    assert!(!client.has_files(), "the server removes the pair of a client that has disconnected");
}

fn a_client_whose_second_fifo_is_missing_is_dropped() {
    let base = Base::new();
    let driver = serve(&base);
    let mut client = FifoClient::new(driver.server.path());
    client.make_s2c();
    client.open_s2c();
    client.ask();
    client.assert_dropped();
    driver.refused(1);
    assert!(!client.has_files());
}

fn an_acknowledgement_may_come_byte_by_byte() {
    let base = Base::new();
    let driver = serve(&base);
    let client = ready(&driver);
    for byte in client.id.ack().into_bytes() {
        assert!(driver.is_idle());
        client.write(&[byte]);
    }
    client.write(&frame(b"after it"));
    assert_eq!(driver.client().recv().unwrap().unwrap(), b"after it");
}

fn an_acknowledgement_and_the_first_messages_may_come_in_one_write() {
    let base = Base::new();
    let driver = serve(&base);
    let client = ready(&driver);
    client.write(&[client.id.ack().as_bytes(), &frame(b"one"), &frame(b""), &frame(b"three")].concat());
    let mut connection = driver.client();
    for expected in [&b"one"[..], b"", b"three"] {
        assert_eq!(connection.recv().unwrap().unwrap(), expected);
    }
    drop(client);
    assert_eq!(connection.recv().unwrap(), None);
}

fn messages_that_follow_the_acknowledgement_in_any_pieces_arrive_whole() {
    let base = Base::new();
    let driver = serve(&base);
    let messages = [&b"one"[..], b"", b"three"];
    let frames: Vec<u8> = messages.iter().flat_map(|message| frame(message)).collect();
    let stream_len = Id::new().ack().len() + frames.len();
    for at in 1..stream_len {
        let client = ready(&driver);
        let stream = [client.id.ack().as_bytes(), &frames].concat();
        client.write(&stream[..at]);
        client.write(&stream[at..]);
        let mut connection = driver.client();
        for expected in messages {
            assert_eq!(connection.recv().unwrap().unwrap(), expected, "in pieces of {at} and the rest");
        }
    }
    assert_eq!(driver.server.stats().refused, 0);
}

fn refused_acknowledgement(acknowledgement: impl Fn(&Id) -> Vec<u8>) {
    let base = Base::new();
    let driver = serve(&base);
    let client = ready(&driver);
    client.write(&acknowledgement(&client.id));
    client.assert_dropped();
    let reason = driver.refused(1);
    assert!(reason.contains("acknowledgement"), "{reason}");
    assert!(driver.is_idle());
    Connection::connect(base.address(Transport::Fifo, "hand")).unwrap();
    driver.client();
}

fn an_acknowledgement_with_a_wrong_nonce_is_refused() {
    refused_acknowledgement(|_| Id::new().ack().into_bytes());
    refused_acknowledgement(|id| Id { nonce: id.nonce[..31].to_owned() + "g", ..id.clone() }.ack().into_bytes());
}

fn an_acknowledgement_that_is_junk_is_refused() {
    refused_acknowledgement(|_| vec![b'x'; 100]);
    refused_acknowledgement(|_| frame(&[0; 64]));
    refused_acknowledgement(|id| id.ack().replace("ack", "ACK").into_bytes());
    refused_acknowledgement(|id| id.ack().replace('\n', "\0").into_bytes());
}

fn each_client_gets_its_own_channel() {
    let base = Base::new();
    let driver = serve(&base);
    let address = base.address(Transport::Fifo, "hand");
    let mut pairs: Vec<_> = (0..10)
        .map(|_| {
            let theirs = Connection::connect(&address).unwrap();
            (theirs, driver.client())
        })
        .collect();
    for (number, (theirs, ours)) in pairs.iter_mut().enumerate() {
        theirs.send(&[number as u8]).unwrap();
        ours.send(&[100 + number as u8]).unwrap();
    }
    for (number, (theirs, ours)) in pairs.iter_mut().enumerate().rev() {
        assert_eq!(theirs.recv().unwrap().unwrap()[..], [100 + number as u8]);
        assert_eq!(ours.recv().unwrap().unwrap()[..], [number as u8]);
    }
}

fn a_client_that_the_policy_rejects_gets_an_immediate_refusal() {
    let base = Base::new();
    let address = base.address(Transport::Fifo, "hand");
    let driver = Driver::new(ServerOptions::new().allow(|_| false).bind(&address).unwrap());
    let begin = Instant::now();
    let error = Connection::connect(&address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(begin.elapsed() < SOON, "a refused client does not try again");
    let reason = driver.refused(1);
    assert!(reason.contains("policy does not admit"), "{reason}");
    assert_eq!(client_files(driver.server.path()), [""; 0]);
}

/// A test name, the answer to a request, and the kind of error that the client returns.
type Answer = (&'static str, fn(&Id) -> Vec<u8>, ErrorKind);
const ANSWERS: &[Answer] = &[
    ("for_another_nonce", |_| Id::new().hello().into_bytes(), ErrorKind::Protocol),
    ("junk", |_| b"hello there\n".to_vec(), ErrorKind::Protocol),
    ("longer_than_any", |_| vec![b'x'; 200], ErrorKind::Protocol),
    ("followed_by_more", |id| [id.hello().as_bytes(), &frame(b"early")].concat(), ErrorKind::Protocol),
    ("of_a_later_version", |id| id.hello().replace("parlour1", "parlour2").into_bytes(), ErrorKind::Protocol),
    ("denied", |id| id.refused("denied").into_bytes(), ErrorKind::Refused),
    ("busy", |id| id.refused("busy").into_bytes(), ErrorKind::Busy),
    ("an_unknown_refusal", |id| id.refused("tuesday").into_bytes(), ErrorKind::Protocol),
];

fn an_answer_that_is_wrong_is_an_error((_, answer, kind): Answer) {
    let base = Base::new();
    let server = FifoServer::new(&base, "hand");
    let begin = Instant::now();
    let connecting = connect_within(&server, Duration::from_millis(500));
    // The client tries again after the answers that permit it.
    while !connecting.is_finished() {
        if crate::support::wait::readable_within(&server.requests, Duration::from_millis(10)) {
            let id = server.request();
            let to_client = server.open_s2c(&id);
            write(&to_client, &answer(&id));
        }
    }
    let error = connecting.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert_eq!(client_files(server.path()), [""; 0]);
}
