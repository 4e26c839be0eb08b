use std::thread;
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, ErrorKind, ServerOptions};

use super::NO_SERVER;
use super::api::{Setting, TryRecvError, settings};
use super::link::{self, connect_pair, each_way};
use crate::support::{Base, DEADLINE, SOON, data, trials};

trials! {
    for setting in settings() =>
        receiving_gives_up_at_its_deadline,
        accepting_gives_up_at_its_deadline_and_loses_no_client unless setting.is_a_pair(NO_SERVER),
        the_part_of_a_message_that_came_before_the_deadline_is_kept,
        a_deadline_of_one_half_does_not_affect_the_other,
        a_server_that_never_accepts_delays_no_client_past_its_deadline unless setting.is_a_pair(NO_SERVER);
}

const SHORT: Duration = Duration::from_millis(50);

fn receiving_gives_up_at_its_deadline(setting: Setting) {
    each_way(setting, |mut first, mut second| {
        gives_up_in_time(|| first.recv_timeout(SHORT).unwrap_err().kind());
        assert!(matches!(first.try_recv(), Err(TryRecvError::Empty)));
        assert_eq!(first.recv_timeout(Duration::ZERO).unwrap_err().kind(), ErrorKind::TimedOut);

        second.send(b"in time").unwrap();
        assert_eq!(first.recv_timeout(Duration::MAX).unwrap().expect("a message"), b"in time");
        second.send(b"immediately").unwrap();
        assert_eq!(first.recv_timeout(Duration::ZERO).unwrap().expect("a message"), b"immediately");
        drop(second);
        assert_eq!(first.recv_timeout(DEADLINE).unwrap(), None);
        assert_eq!(first.recv_timeout(Duration::ZERO).unwrap(), None);

        let (_sender, mut receiver) = first.split();
        assert_eq!(receiver.recv_timeout(Duration::ZERO).unwrap(), None);
    });
}

fn accepting_gives_up_at_its_deadline_and_loses_no_client(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    let server = setting.bind(&address).unwrap();
    gives_up_in_time(|| server.accept_timeout(SHORT).unwrap_err().kind());
    assert_eq!(server.accept_timeout(Duration::ZERO).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(server.try_accept().unwrap_err().is_empty());

    let (_client, _served) = connect_pair(setting, &server, &address, &Default::default());
    let (_client, _served) = thread::scope(|scope| {
        let client = scope.spawn(|| setting.connect(&address).unwrap());
        // However short the timeouts are, the client is accepted in the end.
        let deadline = Instant::now() + DEADLINE;
        let served = loop {
            match server.accept_timeout(Duration::from_micros(10)) {
                Ok(served) => break served,
                Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
            }
            assert!(Instant::now() < deadline, "the client was not accepted");
        };
        (client.join().unwrap(), served)
    });
}

fn gives_up_in_time(call: impl FnOnce() -> ErrorKind) {
    let before = Instant::now();
    assert_eq!(call(), ErrorKind::TimedOut);
    let took = before.elapsed();
    assert!((SHORT..SOON).contains(&took), "the call timed out after {took:?}");
}

fn the_part_of_a_message_that_came_before_the_deadline_is_kept(setting: Setting) {
    let length = 4 << 20;
    each_way(setting, |mut sender, mut receiver| {
        // Writes as much as the channel takes and buffers the rest.
        let sent = sender.try_send(data::message(1, length)).is_ok();
        if sender.try_flush().is_ok() {
            return;
        }
        assert!(sent);
        for _ in 0..3 {
            assert_eq!(receiver.recv_timeout(Duration::from_millis(5)).unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
            assert!(!receiver.has_message());
        }
        thread::scope(|scope| {
            scope.spawn(|| sender.flush().unwrap());
            // Any number of timeouts may occur before the message is complete.
            let deadline = Instant::now() + DEADLINE;
            let message = loop {
                match receiver.recv_timeout(Duration::from_micros(100)) {
                    Ok(message) => break message,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
                }
                assert!(Instant::now() < deadline, "the message did not arrive");
            };
            data::check(&message.expect("a message"), 1, length);
        });
    });
}

/// One thread waits for a message that does not arrive while another thread sends without a deadline.
fn a_deadline_of_one_half_does_not_affect_the_other(setting: Setting) {
    let (client, served) = link::ends(setting);
    let (mut to_server, mut from_server) = client.split();
    let (_to_client, mut from_client) = served.split();
    thread::scope(|scope| {
        scope.spawn(move || gives_up_in_time(|| from_server.recv_timeout(SHORT).unwrap_err().kind()));
        for number in 0..1000 {
            to_server.send(data::message(number, 100)).unwrap();
            data::check(&from_client.recv().unwrap().expect("a message"), number, 100);
        }
    });
}

/// The deadline holds whether or not the client fits into the queue.
fn a_server_that_never_accepts_delays_no_client_past_its_deadline(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    let server = setting.bind_with(&ServerOptions::new().backlog(1), &address).unwrap();
    let mut queued = Vec::new();
    for _ in 0..4 {
        let before = Instant::now();
        match setting.connect_with(&ConnectOptions::new().timeout(SHORT), &address) {
            Ok(mut connection) => {
                assert_eq!(connection.recv_timeout(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
                queued.push(connection);
            }
            Err(error) => assert!(matches!(error.kind(), ErrorKind::Busy | ErrorKind::TimedOut), "{error}"),
        }
        assert!((SHORT..SOON).contains(&before.elapsed()), "the client returned after {:?}", before.elapsed());
    }
    drop(server);
    assert_eq!(base.files(), [""; 0]);
}
