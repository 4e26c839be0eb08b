use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Connection, ErrorKind, Message, Server, TryRecvError, TrySendError};
use rustix::event::PollFlags;

use super::NO_SERVER;
use super::api::{Setting, settings};
use super::link;
use crate::support::{Base, DEADLINE, data, trials, wait};

const A_LOOP: &str = "poll loops over descriptors are tested with the blocking API";

trials! {
    for setting in settings() =>
        a_loop_with_try_recv_misses_no_message_and_does_not_spin unless setting.is_not_blocking(A_LOOP),
        a_descriptor_is_quiet_when_there_is_nothing_to_receive unless setting.is_not_blocking(A_LOOP),
        has_message_reports_messages_that_recv_fd_does_not_show unless setting.is_not_blocking(A_LOOP),
        a_loop_with_try_send_gets_everything_through unless setting.is_not_blocking(A_LOOP),
        send_fd_shows_that_the_peer_no_longer_receives unless setting.is_not_blocking(A_LOOP),
        a_finished_connection_has_no_send_fd unless setting.is_not_blocking(A_LOOP),
        spin_recv_receives_what_has_arrived_and_does_not_block unless setting.is_not_blocking(A_LOOP),
        a_message_is_received_over_an_old_one unless setting.is_not_blocking(A_LOOP),
        a_client_connects_in_a_poll_loop_and_waits_there_for_its_server
            unless setting.is_not_blocking(A_LOOP).or(setting.is_a_pair(NO_SERVER)),
        a_server_in_a_poll_loop_misses_no_client_and_does_not_spin
            unless setting.is_not_blocking(A_LOOP).or(setting.is_a_pair(NO_SERVER));
}

const QUIET: Duration = Duration::from_millis(50);
const MESSAGES: usize = 5000;

fn length_of(number: usize) -> usize {
    match number % 1000 {
        999 => 150_000,
        _ => (number * 7) % 900,
    }
}

fn each_way(setting: Setting, scene: impl Fn(Connection, Connection)) {
    link::each_way(setting, |first, second| scene(first.into_blocking(), second.into_blocking()));
}

/// A loop that sleeps in poll(2), and receives all messages when it wakes up.
fn a_loop_with_try_recv_misses_no_message_and_does_not_spin(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    let message = data::message(number, length_of(number));
                    // Bursts of all sizes, so that one read returns many messages, one message, or part of one.
                    match (number * number) % 11 {
                        0..7 => sender.feed(message).unwrap(),
                        _ => sender.send(message).unwrap(),
                    }
                }
                sender.close().unwrap();
            });
            let (mut number, mut wakes) = (0, 0);
            'receiving: loop {
                loop {
                    let had_message = receiver.has_message();
                    match receiver.try_recv() {
                        Ok(Some(message)) => {
                            data::check(&message, number, length_of(number));
                            number += 1;
                        }
                        Ok(None) => break 'receiving,
                        Err(TryRecvError::Empty) => {
                            assert!(!had_message, "has_message was true, but try_recv would block");
                            break;
                        }
                        Err(TryRecvError::Failed(error)) => panic!("{error}"),
                    }
                }
                assert!(wait::readable(receiver.recv_fd()), "message {number} was missed");
                wakes += 1;
            }
            assert_eq!(number, MESSAGES);
            // Each part of a long message may cost a wake-up.
            assert!(wakes < 2 * MESSAGES, "{wakes} wake-ups for {MESSAGES} messages");
        });
    });
}

fn a_descriptor_is_quiet_when_there_is_nothing_to_receive(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        let is_quiet = |receiver: &mut Connection| {
            assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
            assert!(!receiver.has_message());
            !wait::readable_within(receiver.recv_fd(), QUIET)
        };
        assert!(is_quiet(&mut receiver));
        sender.send(b"one").unwrap();
        assert!(wait::readable(receiver.recv_fd()));
        assert_eq!(receiver.recv().unwrap().expect("a message"), b"one");
        assert!(is_quiet(&mut receiver));

        // After part of a message was read, the descriptor must be quiet.
        sender.try_send(data::message(1, 4 << 20)).unwrap();
        if sender.try_flush().is_err() {
            while matches!(receiver.try_recv(), Err(TryRecvError::Empty))
                && wait::readable_within(receiver.recv_fd(), QUIET)
            {}
            assert!(is_quiet(&mut receiver));
        }
    });
}

fn has_message_reports_messages_that_recv_fd_does_not_show(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        for number in 0..3 {
            sender.feed(data::message(number, 10)).unwrap();
        }
        sender.flush().unwrap();
        data::check(&receiver.recv().unwrap().expect("a message"), 0, 10);
        for number in 1..3 {
            let announced = wait::readable_within(receiver.recv_fd(), Duration::ZERO);
            assert!(receiver.has_message() || announced, "poll would not return for message {number}");
            data::check(&receiver.recv().unwrap().expect("a message"), number, 10);
        }
        assert!(!receiver.has_message());
    });
}

/// A loop that sleeps in poll(2) until the channel has space.
fn a_loop_with_try_send_gets_everything_through(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    data::check(&receiver.recv().unwrap().expect("a message"), number, length_of(number));
                }
                assert_eq!(receiver.recv().unwrap(), None);
            });
            let (mut number, mut wakes) = (0, 0);
            while number < MESSAGES || sender.try_flush().is_err() {
                if number < MESSAGES {
                    match sender.try_send(data::message(number, length_of(number))) {
                        Ok(()) => {
                            number += 1;
                            continue;
                        }
                        Err(TrySendError::Full(_)) => {}
                        Err(TrySendError::Failed(error)) => panic!("{error}"),
                    }
                }
                let writable = sender.send_fd().expect("the connection is not finished");
                assert!(wait::ready(writable, PollFlags::OUT, DEADLINE), "stuck at message {number}");
                wakes += 1;
            }
            assert!(wakes < 2 * MESSAGES, "{wakes} wake-ups for {MESSAGES} messages");
            drop(sender);
        });
    });
}

fn send_fd_shows_that_the_peer_no_longer_receives(setting: Setting) {
    each_way(setting, |sender, receiver| {
        let gone = PollFlags::ERR | PollFlags::HUP;
        let fd = sender.send_fd().expect("the connection is not finished");
        assert!(!wait::ready(fd, PollFlags::empty(), QUIET), "the peer is connected");
        drop(receiver);
        assert!(wait::ready(fd, gone, DEADLINE));
    });
}

fn a_finished_connection_has_no_send_fd(setting: Setting) {
    each_way(setting, |mut first, _second| {
        first.finish().unwrap();
        assert!(first.send_fd().is_none(), "a finished connection has no descriptor to wait for");
    });
}

fn spin_recv_receives_what_has_arrived_and_does_not_block(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        assert!(receiver.spin_recv().unwrap_err().is_empty());
        sender.send(b"one").unwrap();
        assert!(wait::readable(receiver.recv_fd()), "an empty spin_recv prepares for waiting");
        assert_eq!(receiver.spin_recv().unwrap().expect("a message"), b"one");
        // It spins only after an answer may be on its way, and must not lose its place by that.
        receiver.send(b"two").unwrap();
        assert!(receiver.spin_recv().unwrap_err().is_empty());
        drop(sender);
        assert!(wait::readable(receiver.recv_fd()));
        // The other end did not read "two", which some transports report.
        match receiver.spin_recv() {
            Ok(message) => assert_eq!(message, None),
            Err(TryRecvError::Failed(error)) => assert_eq!(error.kind(), ErrorKind::Disconnected),
            Err(TryRecvError::Empty) => panic!("the end is readable and not received"),
        }
    });
}

fn a_message_is_received_over_an_old_one(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        const LENGTHS: [usize; 8] = [5, 300_000, 300_000, 0, 20_000, 20_000, 3_000_000, 1];
        thread::scope(|scope| {
            scope.spawn(move || {
                for (number, length) in LENGTHS.into_iter().enumerate() {
                    sender.send(data::message(number, length)).unwrap();
                }
                sender.close().unwrap();
            });
            let mut message = Message::default();
            for (number, length) in LENGTHS.into_iter().enumerate() {
                let spins = number % 2 == 0;
                loop {
                    match if spins {
                        receiver.spin_recv_over(&mut message)
                    } else {
                        receiver.try_recv_over(&mut message)
                    } {
                        Ok(received) => break assert!(received),
                        Err(error) => assert!(error.is_empty(), "{error}"),
                    }
                    assert!(receiver.has_message() || wait::readable(receiver.recv_fd()));
                }
                data::check(&message, number, length);
            }
            loop {
                match receiver.try_recv_over(&mut message) {
                    Ok(received) => break assert!(!received),
                    Err(error) => assert!(error.is_empty(), "{error}"),
                }
                assert!(wait::readable(receiver.recv_fd()));
            }
        });
    });
}

/// The descriptor covers the wait for the server, the handshake and the deadline.
fn a_client_connects_in_a_poll_loop_and_waits_there_for_its_server(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    let options = ConnectOptions::new().wait_for_server(DEADLINE);
    let mut pending = options.begin(&address).unwrap();
    assert!(wait::readable(&pending), "the first step is due at once");
    assert!(pending.try_finish().unwrap().is_none(), "there is no server");
    let mut server = None;
    let mut served = None;
    let mut wakes = 0;
    let mut client = loop {
        if let Some(connection) = pending.try_finish().unwrap() {
            break connection;
        }
        if server.is_none() {
            server = Some(Server::bind(&address).unwrap());
        }
        let server = server.as_ref().unwrap();
        assert!(wait::any_readable([pending.as_fd(), server.as_fd()].into_iter()));
        served = served.or(server.try_accept().ok());
        wakes += 1;
        assert!(wakes < 1000, "the loop spins");
    };
    let mut served = served.unwrap_or_else(|| server.unwrap().accept().unwrap());
    client.send(b"hello").unwrap();
    assert_eq!(served.recv().unwrap().expect("a message"), b"hello");

    let options = ConnectOptions::new().wait_for_server(QUIET);
    let mut pending = options.begin(setting.address(&base, "nobody")).unwrap();
    let error = loop {
        match pending.try_finish() {
            Ok(connection) => assert!(connection.is_none()),
            Err(error) => break error,
        }
        assert!(wait::readable(&pending), "the deadline makes the descriptor readable");
    };
    assert_eq!(error.kind(), ErrorKind::NoServer);
}

/// One thread serves all clients and sleeps only in poll(2).
fn a_server_in_a_poll_loop_misses_no_client_and_does_not_spin(setting: Setting) {
    const CLIENTS: usize = 20;
    let base = Base::new();
    let address = setting.address(&base, "room");
    let server = Server::bind(&address).unwrap();
    assert!(!wait::readable_within(&server, QUIET), "no client has connected");
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let address = &address;
            scope.spawn(move || {
                let mut connection = Connection::connect(address).unwrap();
                connection.send(data::message(number, 100)).unwrap();
                data::check(&connection.recv().unwrap().expect("a reply"), number, 100);
                assert_eq!(connection.recv().unwrap(), None);
            });
        }
        let deadline = Instant::now() + DEADLINE;
        let (mut clients, mut served, mut wakes) = (Vec::new(), 0, 0);
        while served < CLIENTS {
            assert!(Instant::now() < deadline, "{served} clients were served, {} are connected", clients.len());
            while let Ok(client) = server.try_accept() {
                clients.push(client);
            }
            clients.retain_mut(|client: &mut Connection| match client.try_recv() {
                Ok(message) => {
                    client.send(&message.expect("a message")).unwrap();
                    served += 1;
                    false
                }
                Err(TryRecvError::Empty) => true,
                Err(TryRecvError::Failed(error)) => panic!("{error}"),
            });
            if served < CLIENTS {
                let fds = std::iter::once(server.as_fd()).chain(clients.iter().map(|client| client.recv_fd()));
                assert!(wait::any_readable(fds), "{served} clients were served, {} are connected", clients.len());
                wakes += 1;
            }
        }
        assert!(wakes < 20 * CLIENTS, "{wakes} wake-ups for {CLIENTS} clients");
    });
    assert!(server.try_accept().unwrap_err().is_empty());
    assert!(!wait::readable_within(&server, QUIET), "no client is left");
}
