//! Tests of sending to a peer that has disconnected: no signal is raised, and the first broken pipe is final.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use parlour::{Connection, Error, ErrorKind, Payload, Server, Transport, TrySendError};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::by_hand::fifo_server::line;
use crate::by_hand::sigpipe::{is_sigpipe_pending, make_sigpipe_pending, signals_of_this_thread};
use crate::by_hand::{Driver, FifoClient, FifoServer};
use crate::support::{Base, Child, DEADLINE, Role, data, signals, trials};

trials! {
    a_servers_first_broken_pipe_is_final,
    a_clients_first_broken_pipe_is_final,
    the_rest_of_a_message_does_not_go_to_a_later_reader_of_the_fifo,
    a_fifo_at_its_end_stays_there_when_it_is_opened_for_writing_again;

    for transport in Transport::ALL =>
        a_side_whose_peer_has_gone_gets_an_error_where_sigpipe_is_host(
            side in ["client", "server"],
            host in ["default", "pending"],
        );
}

/// `gone-peer ADDRESS SIDE HOST`: sends to a disconnected peer in every way, and prints `alive` if every attempt
/// returned an error and no signal state has changed.
pub const GONE_PEER: Role = Role { name: "gone-peer", play: play_gone_peer };

fn play_gone_peer(arguments: &[String]) {
    let [address, side, host] = arguments else { panic!("gone-peer ADDRESS SIDE HOST") };
    let pair = || {
        let server = Server::bind(address).unwrap();
        thread::scope(|scope| {
            let connecting = scope.spawn(|| Connection::connect(address).unwrap());
            let ours = server.accept_timeout(DEADLINE).unwrap();
            (connecting.join().unwrap(), ours)
        })
    };
    // The C library reserves a signal when the first thread is created.
    drop(pair());
    type Send = fn(&mut Connection) -> Result<(), Error>;
    let ways: [Send; 6] = [
        |connection| connection.send(b"x"),
        |connection| connection.send(Payload::vectored(&[IoSlice::new(b"x"), IoSlice::new(b"y")])),
        |connection| connection.send_timeout(b"x", DEADLINE),
        |connection| match connection.try_send(data::message(0, 100_000)) {
            Err(TrySendError::Failed(error)) => Err(error),
            other => panic!("{:?}", other.map_err(|error| error.to_string())),
        },
        |connection| {
            connection.feed(b"x").unwrap();
            connection.flush()
        },
        |connection| {
            connection.feed(b"x").unwrap();
            connection.finish()
        },
    ];
    match host.as_str() {
        "pending" => make_sigpipe_pending(),
        _ => signals::let_sigpipe_kill(),
    }
    let before = signals_of_this_thread();
    for (number, send) in ways.into_iter().enumerate() {
        let (theirs, ours) = pair();
        let (mut left, gone) = if side == "client" { (theirs, ours) } else { (ours, theirs) };
        drop(gone);
        for _ in 0..2 {
            let error = send(&mut left).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Disconnected, "way {number}: {error}");
            if number >= 4 {
                break;
            }
        }
        assert_eq!(signals_of_this_thread(), before, "way {number}");
    }
    // Data is still buffered when the connection is dropped, and when it is closed.
    for close in [false, true] {
        let (theirs, ours) = pair();
        let (mut left, gone) = if side == "client" { (theirs, ours) } else { (ours, theirs) };
        left.feed(b"lost").unwrap();
        drop(gone);
        match close {
            true => assert_eq!(left.close().unwrap_err().kind(), ErrorKind::Disconnected),
            false => drop(left),
        }
    }
    assert_eq!(signals_of_this_thread(), before);
    assert!(signals::sigpipe_kills());
    assert_eq!(is_sigpipe_pending(), host == "pending");
    println!("alive");
}

fn a_side_whose_peer_has_gone_gets_an_error_where_sigpipe_is_host(transport: Transport, side: &str, host: &str) {
    let base = Base::new();
    let arguments = [base.address(transport, "host"), side.to_owned(), host.to_owned()];
    let mut child = Child::spawn("gone-peer", &arguments);
    child.expect("alive");
    child.finish();
}

/// Opens a FIFO with `O_PATH`, so that it can be reopened after its name has been removed.
fn hold(path: &std::path::Path) -> OwnedFd {
    open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn open_again(held: &OwnedFd, flags: OFlags) -> OwnedFd {
    let path = format!("/proc/self/fd/{}", held.as_raw_fd());
    open(path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn assert_final(connection: &mut Connection) {
    for _ in 0..3 {
        assert_eq!(connection.send(b"after the end").unwrap_err().kind(), ErrorKind::Disconnected);
        match connection.try_send(b"after the end") {
            Err(TrySendError::Failed(error)) => assert_eq!(error.kind(), ErrorKind::Disconnected),
            other => panic!("{other:?}"),
        }
        let error = connection.send_timeout(b"after the end", Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected);
    }
    assert!(connection.send_fd().is_none());
}

/// Returns a server's connection, its hand-made client, and an `O_PATH` descriptor of the FIFO that the client reads.
fn connected(base: &Base) -> (Driver, Connection, FifoClient, OwnedFd) {
    let driver = Driver::new(Server::bind(base.address(Transport::Fifo, "pipe")).unwrap());
    let mut client = FifoClient::greeted(driver.server.path());
    let held = hold(&client.s2c());
    client.open_c2s();
    client.unlink();
    client.acknowledge();
    let ours = driver.client();
    (driver, ours, client, held)
}

fn a_servers_first_broken_pipe_is_final() {
    let base = Base::new();
    let (_driver, mut ours, mut client, held) = connected(&base);
    ours.send(b"for you").unwrap();
    client.from_server = None;
    assert_eq!(ours.send(b"too late").unwrap_err().kind(), ErrorKind::Disconnected);
    let later = open_again(&held, OFlags::RDONLY);
    assert_final(&mut ours);
    // No writer is left, so the read returns end of file. With a writer it would return EAGAIN.
    assert_eq!(rustix::io::read(&later, &mut [0; 100]), Ok(0));
    // The other direction is unaffected.
    client.write(&[0, 0, 0, 1, b'x']);
    assert_eq!(ours.recv_timeout(DEADLINE).unwrap().unwrap(), b"x");
}

fn a_clients_first_broken_pipe_is_final() {
    let base = Base::new();
    let server = FifoServer::new(&base, "pipe");
    let address = format!("fifo:{}", server.path().display());
    let connecting = thread::spawn(|| Connection::connect(address).unwrap());
    let id = server.request();
    let held = hold(&server.place.clients().join(id.c2s()));
    let (to_client, from_client) = (server.open_s2c(&id), server.open_c2s(&id));
    assert!(rustix::io::write(&to_client, id.hello().as_bytes()).is_ok());
    assert_eq!(format!("{}\n", line(&from_client)), id.ack());
    let mut theirs = connecting.join().unwrap();
    drop(from_client);
    assert_eq!(theirs.send(b"too late").unwrap_err().kind(), ErrorKind::Disconnected);
    let later = open_again(&held, OFlags::RDONLY);
    assert_final(&mut theirs);
    assert_eq!(rustix::io::read(&later, &mut [0; 100]), Ok(0));
}

fn the_rest_of_a_message_does_not_go_to_a_later_reader_of_the_fifo() {
    let base = Base::new();
    let (_driver, mut ours, mut client, held) = connected(&base);
    // The message is longer than any FIFO's capacity, so its rest stays buffered.
    ours.try_send(data::message(1, 2 << 20)).unwrap();
    client.from_server = None;
    assert_eq!(ours.flush().unwrap_err().kind(), ErrorKind::Disconnected);
    let later = open_again(&held, OFlags::RDONLY);
    assert_final(&mut ours);
    let _ = ours.try_flush();
    drop(ours);
    match rustix::io::read(&later, &mut [0; 100]) {
        Ok(0) | Err(Errno::AGAIN) => {}
        other => panic!("{other:?}"),
    }
}

fn a_fifo_at_its_end_stays_there_when_it_is_opened_for_writing_again() {
    let base = Base::new();
    let driver = Driver::new(Server::bind(base.address(Transport::Fifo, "pipe")).unwrap());
    let mut client = FifoClient::greeted(driver.server.path());
    let held = hold(&client.c2s());
    client.open_c2s();
    client.unlink();
    client.acknowledge();
    let mut ours = driver.client();
    client.write(&[0, 0, 0, 1, b'x']);
    client.to_server = None;
    assert_eq!(ours.recv_timeout(DEADLINE).unwrap().unwrap(), b"x");
    assert_eq!(ours.recv_timeout(DEADLINE).unwrap(), None);
    let later = open_again(&held, OFlags::WRONLY);
    assert!(rustix::io::write(&later, &[0, 0, 0, 1, b'y']).is_ok());
    assert_eq!(ours.recv_timeout(DEADLINE).unwrap(), None);
    assert!(ours.try_recv().unwrap().is_none());
}
