//! Peers that speak the protocol of calls, and send anything.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use parlour::calls::{Call, CallServer};
use parlour::{Caller, Connection, ErrorKind, Server, ShutdownHandle, Transport, TrySendError};

use crate::call_bytes::{
    CALLER_GREETING, CANCEL, END, ERROR, HandCaller, HandServer, ITEM, PUSH, REPLY, REQUEST, SERVER_GREETING, message,
};
use crate::support::{Base, DEADLINE, assert_tells, eventually, trials};

trials! {
    for transport in Transport::ALL =>
        a_server_that_answers_what_was_never_asked_harms_no_call,
        a_server_that_answers_twice_harms_no_call,
        a_server_that_sends_garbage_ends_the_calls_of_its_connection_with_an_error,
        a_server_that_floods_its_caller_with_pushed_messages_costs_bounded_memory,
        a_server_that_never_answers_delays_no_other_call,
        a_client_that_violates_the_protocol_of_calls_is_disconnected_and_another_is_served,
        a_client_that_sends_requests_and_takes_no_answer_is_held_up_alone,
        a_client_that_takes_no_items_holds_up_only_its_own_call,
        a_client_with_many_long_requests_is_refused_before_they_cost_much_memory;
}

fn by_hand(transport: Transport) -> (Caller, HandServer, Base) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let server = Server::bind(&address).unwrap();
    let accepting = thread::spawn(move || server.accept_timeout(DEADLINE).unwrap());
    let caller = Caller::connect(&address).unwrap();
    (caller, HandServer::greet(accepting.join().unwrap()), base)
}

/// Makes a call during which the server sends these messages before the reply. Returns the number of late answers.
fn call_among(transport: Transport, messages: &[(u8, u32, &[u8])]) -> u64 {
    let (caller, mut server, _base) = by_hand(transport);
    thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call_timeout("work", DEADLINE).unwrap());
        let (id, _) = server.request();
        for &(kind, other, payload) in messages {
            server.send(kind, if other == 0 { 0 } else { id.wrapping_add(other) }, payload);
        }
        server.send(REPLY, id, b"done");
        assert_eq!(calling.join().unwrap(), b"done");
    });
    assert_eq!(caller.stats().open, 0);
    caller.stats().late_answers
}

fn a_server_that_answers_what_was_never_asked_harms_no_call(transport: Transport) {
    let others = [1, 2, 1000, u32::MAX / 2];
    let messages: Vec<(u8, u32, &[u8])> = others
        .into_iter()
        .flat_map(|other| [(REPLY, other, &b"x"[..]), (ITEM, other, b"x"), (END, other, b""), (ERROR, other, b"\0x")])
        .collect();
    assert_eq!(call_among(transport, &messages), 16);
}

fn a_server_that_answers_twice_harms_no_call(transport: Transport) {
    let (caller, mut server, _base) = by_hand(transport);
    thread::scope(|scope| {
        for round in 0..3u8 {
            let calling = scope.spawn(|| caller.call_timeout("work", DEADLINE).unwrap());
            let (id, _) = server.request();
            for _ in 0..3 {
                server.send(REPLY, id, &[round]);
            }
            server.send(ERROR, id, b"\0no");
            assert_eq!(calling.join().unwrap(), &[round]);
        }
        // The answers to the last call are read with the next messages.
        server.send(PUSH, 0, b"end");
    });
    assert_eq!(caller.next_push_timeout(DEADLINE).unwrap().unwrap(), b"end");
    assert_eq!(caller.stats().late_answers, 9);
}

fn a_server_that_sends_garbage_ends_the_calls_of_its_connection_with_an_error(transport: Transport) {
    let garbage = [
        b"".to_vec(),
        b"hello, world".to_vec(),
        vec![0xc1],
        vec![0xff; 8],
        SERVER_GREETING.to_vec(),
        CALLER_GREETING.to_vec(),
        message(REQUEST, 1, b"x"),
        message(CANCEL, 1, b""),
        message(REPLY, 0, b"x"),
        message(PUSH, 1, b"x"),
        message(END, 1, b"x"),
        message(ERROR, 1, b""),
        message(8, 1, b"x"),
        [&[0xc1, REPLY, 1, 0][..], &[0, 0, 0, 1], b"x"].concat(),
    ];
    for garbage in garbage {
        let (caller, mut server, _base) = by_hand(transport);
        thread::scope(|scope| {
            let callers: Vec<_> = (0..2).map(|_| scope.spawn(|| caller.call_timeout("work", DEADLINE))).collect();
            for _ in 0..2 {
                server.request();
            }
            server.0.send(&garbage).unwrap();
            for calling in callers {
                let error = calling.join().unwrap().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Protocol, "{garbage:?}");
                assert_tells(&error);
            }
        });
        assert_eq!(caller.call("again").unwrap_err().kind(), ErrorKind::Protocol);
        assert_eq!(caller.next_push().unwrap_err().kind(), ErrorKind::Protocol);
    }
}

fn a_server_that_floods_its_caller_with_pushed_messages_costs_bounded_memory(transport: Transport) {
    const COUNT: u64 = 20_000;
    let (caller, mut server, _base) = by_hand(transport);
    thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call_timeout("work", DEADLINE).unwrap());
        let (id, _) = server.request();
        for _ in 0..COUNT {
            server.send(PUSH, 0, &[0; 448]);
        }
        server.send(REPLY, id, b"done");
        assert_eq!(calling.join().unwrap(), b"done");
    });
    // 1 MiB of messages that count 512 bytes each.
    assert_eq!(caller.stats().pushes_dropped, COUNT - 2048);
    assert_eq!(std::iter::from_fn(|| caller.try_next_push().ok().flatten()).count(), 2048);
}

fn a_server_that_never_answers_delays_no_other_call(transport: Transport) {
    let (caller, mut server, _base) = by_hand(transport);
    thread::scope(|scope| {
        let begun = Instant::now();
        let waiting: Vec<_> =
            (0..4).map(|_| scope.spawn(|| caller.call_timeout("never", Duration::from_millis(300)))).collect();
        for _ in 0..4 {
            server.request();
        }
        for _ in 0..3 {
            let calling = scope.spawn(|| caller.call_timeout("now", DEADLINE).unwrap());
            let (id, _) = loop {
                let (kind, id, request) = server.recv();
                if kind == REQUEST {
                    break (id, request);
                }
            };
            server.send(REPLY, id, b"done");
            assert_eq!(calling.join().unwrap(), b"done");
        }
        for waiting in waiting {
            assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
        }
        assert!(begun.elapsed() < DEADLINE);
    });
}

/// A server of calls that echoes in its own thread, and the requests that begin with `hold` to the test.
struct Serving {
    address: String,
    held: mpsc::Receiver<Call>,
    shutdown: ShutdownHandle,
    thread: Option<thread::JoinHandle<parlour::Result<()>>>,
    _base: Base,
}

impl Serving {
    fn new(transport: Transport) -> Self {
        let base = Base::new();
        let address = base.address(transport, "calls");
        let server = CallServer::new(Server::bind(&address).unwrap()).unwrap().grace(Duration::ZERO);
        let shutdown = server.shutdown_handle();
        let (hold, held) = mpsc::channel();
        let thread = thread::spawn(move || {
            server.serve(|mut call| {
                if call.starts_with(b"hold") {
                    return hold.send(call).unwrap();
                }
                let request = call.take_request();
                // An error means that the caller has gone.
                let _ = call.reply(&request);
            })
        });
        Self { address, held, shutdown, thread: Some(thread), _base: base }
    }

    fn assert_serves(&self) {
        let caller = Caller::connect(&self.address).unwrap();
        assert_eq!(caller.call_timeout("honest", DEADLINE).unwrap(), b"honest");
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.shutdown.shutdown();
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            // A client that takes nothing loses what is buffered for it at the end.
            let ended = ended.unwrap();
            assert!(ended.is_ok() || ended.unwrap_err().kind() == ErrorKind::TimedOut);
        }
    }
}

fn a_client_that_violates_the_protocol_of_calls_is_disconnected_and_another_is_served(transport: Transport) {
    let serving = Serving::new(transport);
    let greeting = || CALLER_GREETING.to_vec();
    let programs: [&[Vec<u8>]; 12] = [
        &[b"hello".to_vec()],
        &[b"".to_vec()],
        &[SERVER_GREETING.to_vec()],
        &[message(REQUEST, 1, b"no greeting")],
        &[greeting(), greeting()],
        &[greeting(), b"hello".to_vec()],
        &[greeting(), message(9, 1, b"x")],
        &[greeting(), message(REQUEST, 0, b"x")],
        &[greeting(), message(CANCEL, 1, b"x")],
        &[greeting(), message(REPLY, 1, b"x")],
        &[greeting(), message(PUSH, 0, b"x")],
        &[greeting(), message(REQUEST, 1, b"hold"), message(REQUEST, 1, b"twice")],
    ];
    for program in programs {
        let mut client = Connection::connect(&serving.address).unwrap();
        for message in program {
            client.send(message).unwrap();
        }
        let error = loop {
            match client.recv_timeout(DEADLINE) {
                Ok(message) => assert_eq!(message.expect("the server aborts"), SERVER_GREETING),
                Err(error) => break error,
            }
        };
        let is_end = matches!(error.kind(), ErrorKind::Truncated | ErrorKind::Disconnected);
        assert!(is_end, "{program:?}: {error}");
        serving.assert_serves();
    }
    let call = serving.held.recv_timeout(DEADLINE).unwrap();
    eventually("the call of the last client is cancelled", || call.is_cancelled());
}

fn a_client_that_sends_requests_and_takes_no_answer_is_held_up_alone(transport: Transport) {
    let serving = Serving::new(transport);
    let mut client = HandCaller::connect(&serving.address);
    let request = message(REQUEST, 1, &[7; 1000]);
    // Every request is answered before the next one is read, so the id is free again. What the channels and the server
    // buffer is bounded, so at last the client cannot send.
    let mut sent = 0usize;
    let mut full_since = None;
    loop {
        match client.0.try_send(&request) {
            Ok(()) => {
                sent += 1;
                full_since = None;
            }
            Err(TrySendError::Full(_)) => {
                let since: Instant = *full_since.get_or_insert_with(Instant::now);
                if since.elapsed() > Duration::from_millis(200) {
                    break;
                }
                thread::yield_now();
            }
            Err(TrySendError::Failed(error)) => panic!("{error}"),
        }
        assert!(sent < 20_000, "20 MB were taken");
    }
    serving.assert_serves();
    for _ in 0..sent - 1 {
        assert_eq!(client.recv().0, REPLY);
    }
    serving.assert_serves();
}

fn a_client_that_takes_no_items_holds_up_only_its_own_call(transport: Transport) {
    let serving = Serving::new(transport);
    let mut client = HandCaller::connect(&serving.address);
    client.send(REQUEST, 1, b"hold");
    let call = serving.held.recv_timeout(DEADLINE).unwrap();
    let sending = thread::spawn(move || {
        let mut sent = 0u64;
        loop {
            match call.item(&[7; 10_000]) {
                Ok(()) => sent += 10_000,
                Err(error) => return (sent, error.kind()),
            }
            assert!(sent < 50_000_000, "the items of a client that takes none are kept");
        }
    });
    for _ in 0..10 {
        serving.assert_serves();
    }
    // The server still reads from this client.
    client.send(REQUEST, 2, b"hold, too");
    serving.held.recv_timeout(DEADLINE).unwrap();
    client.send(CANCEL, 1, b"");
    let (_, kind) = sending.join().unwrap();
    assert_eq!(kind, ErrorKind::Disconnected);
}

fn a_client_with_many_long_requests_is_refused_before_they_cost_much_memory(transport: Transport) {
    let serving = Serving::new(transport);
    let mut caller = HandCaller::connect(&serving.address);
    let mut request = vec![0; 1 << 20];
    request[..4].copy_from_slice(b"hold");
    for id in 1..=40 {
        caller.send(REQUEST, id, &request);
    }
    // The default bound has room for 16 of them.
    for id in 17..=40 {
        let (kind, refused, payload) = caller.recv();
        assert_eq!((kind, refused, payload[0]), (ERROR, id, 1));
    }
    serving.assert_serves();
    let held: Vec<Call> = serving.held.try_iter().collect();
    assert_eq!(held.len(), 16);
    held.into_iter().for_each(|call| call.reply("done").unwrap());
    for id in 1..=16 {
        assert_eq!(caller.recv(), (REPLY, id, b"done".to_vec()));
    }
}
