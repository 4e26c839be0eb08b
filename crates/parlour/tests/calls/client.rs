//! A caller, with a server that is written by hand.

use std::thread;
use std::time::Duration;

use parlour::{Caller, Connection, ErrorKind, Server, Transport, TryRecvError};

use super::scene::by_hand;
use crate::call_bytes::{CANCEL, END, ERROR, ITEM, PUSH, REPLY, SERVER_GREETING};
use crate::support::wait::Sleeper;
use crate::support::{Base, DEADLINE, assert_tells, data, trials};

/// Passes while a call of the test waits.
const SHORT: Duration = Duration::from_millis(20);

trials! {
    for transport in Transport::ALL =>
        a_late_answer_is_not_taken_for_that_of_the_next_call,
        answers_out_of_order_reach_their_calls,
        an_answer_is_without_its_header_in_each_form,
        a_call_that_has_timed_out_is_cancelled,
        a_call_that_fails_returns_the_text_of_the_server,
        a_text_of_the_server_is_escaped_where_it_is_printed,
        several_answers_to_a_call_for_one_are_an_error,
        pushed_messages_are_received_beside_calls,
        the_end_of_the_server_ends_every_call,
        a_plain_server_gets_no_request_and_is_an_error,
        a_server_that_returns_what_it_receives_is_an_error,
        a_server_that_never_greets_gets_no_request,
        a_long_answer_and_a_long_request_do_not_block_each_other,
        a_request_that_is_too_long_is_an_error_and_the_next_call_works,
        a_long_request_gives_up_at_its_deadline_and_is_not_torn;
}

fn a_late_answer_is_not_taken_for_that_of_the_next_call(transport: Transport) {
    let (caller, mut server, _base) = by_hand(transport);
    let timed_out = caller.call_timeout("A", SHORT).unwrap_err();
    assert_eq!(timed_out.kind(), ErrorKind::TimedOut);
    assert_tells(&timed_out);
    let (a, request) = server.request();
    assert_eq!(request, b"A");
    assert_eq!(server.recv(), (CANCEL, a, Vec::new()));
    thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call_timeout("B", DEADLINE).unwrap());
        let (b, request) = server.request();
        assert_eq!(request, b"B");
        server.send(REPLY, a, b"answer to A");
        server.send(REPLY, b, b"answer to B");
        assert_eq!(calling.join().unwrap(), b"answer to B");
    });
    let stats = caller.stats();
    assert_eq!((stats.late_answers, stats.open), (1, 0));
}

fn an_answer_is_without_its_header_in_each_form(transport: Transport) {
    let (caller, mut server, _base) = by_hand(transport);
    let mut call = || {
        thread::scope(|scope| {
            let calling = scope.spawn(|| caller.call_timeout("A", DEADLINE).unwrap());
            let (id, _) = server.request();
            server.send(REPLY, id, b"an answer");
            calling.join().unwrap()
        })
    };
    let mut answer = call();
    assert_eq!((answer.len(), answer.as_ref()), (9, &b"an answer"[..]));
    assert!(format!("{answer:?}").contains("(9 bytes, \"an answer\""), "{answer:?}");
    assert_eq!(answer, call());
    assert_eq!(call().into_vec(), b"an answer");
    assert_eq!(Vec::from(call()), b"an answer");
    // Its memory takes another message whole.
    let (mut one, mut other) = Connection::pair(transport).unwrap();
    one.send("another message").unwrap();
    while other.try_recv_over(&mut answer).is_err_and(|error| matches!(error, TryRecvError::Empty)) {}
    assert_eq!(answer, b"another message");
}

fn answers_out_of_order_reach_their_calls(transport: Transport) {
    let (caller, mut server, _base) = by_hand(transport);
    thread::scope(|scope| {
        for number in 0..8u8 {
            let caller = &caller;
            scope.spawn(move || assert_eq!(caller.call_timeout(&[number], DEADLINE).unwrap(), &[number, number]));
        }
        let mut requests: Vec<_> = (0..8).map(|_| server.request()).collect();
        requests.sort_by_key(|(_, request)| request[0] * 5 % 8);
        for (id, request) in requests {
            server.send(REPLY, id, &[request[0], request[0]]);
        }
    });
    assert_eq!(caller.stats().late_answers, 0);
}

fn a_call_that_has_timed_out_is_cancelled(transport: Transport) {
    let (caller, mut server, _base) = by_hand(transport);
    for _ in 0..3 {
        assert_eq!(caller.call_timeout("work", SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
        let (id, _) = server.request();
        assert_eq!(server.recv(), (CANCEL, id, Vec::new()));
    }
    assert_eq!(caller.stats().open, 0);
}

fn a_call_that_fails_returns_the_text_of_the_server(transport: Transport) {
    let (caller, mut server, _base) = by_hand(transport);
    let fail = |server: &mut crate::call_bytes::HandServer, payload: &[u8]| {
        thread::scope(|scope| {
            let calling = scope.spawn(|| caller.call_timeout("work", DEADLINE).unwrap_err());
            let (id, _) = server.request();
            server.send(ERROR, id, payload);
            calling.join().unwrap()
        })
    };
    let error = fail(&mut server, b"\0no such note");
    assert_eq!((error.kind(), error.failure()), (ErrorKind::CallFailed, Some("no such note")));
    assert!(error.to_string().ends_with(": no such note"), "{error}");
    assert_eq!(fail(&mut server, b"\x01").kind(), ErrorKind::Busy);
    for unanswered in [&b"\x02"[..], b"\x77"] {
        let error = fail(&mut server, unanswered);
        assert_eq!(error.kind(), ErrorKind::CallFailed);
        assert_tells(&error);
    }
}

fn a_text_of_the_server_is_escaped_where_it_is_printed(transport: Transport) {
    let (caller, mut server, _base) = by_hand(transport);
    let text = "\u{1b}[31mred\nfake: line";
    thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call_timeout("work", DEADLINE).unwrap_err());
        let (id, _) = server.request();
        server.send(ERROR, id, &[b"\0", text.as_bytes()].concat());
        let error = calling.join().unwrap();
        assert_tells(&error);
        assert!(error.to_string().contains(r"\x1b[31mred\nfake: line"), "{error}");
        assert_eq!(error.failure(), Some(text));
    });
}

fn several_answers_to_a_call_for_one_are_an_error(transport: Transport) {
    let (caller, mut server, _base) = by_hand(transport);
    thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call_timeout("list", DEADLINE).unwrap_err());
        let (id, _) = server.request();
        server.send(ITEM, id, b"one");
        let error = calling.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_tells(&error);
        assert_eq!(server.recv(), (CANCEL, id, Vec::new()));
        server.send(END, id, b"");
        let calling = scope.spawn(|| caller.call_timeout("again", DEADLINE).unwrap());
        let (id, _) = server.request();
        server.send(REPLY, id, b"one");
        assert_eq!(calling.join().unwrap(), b"one");
    });
}

fn pushed_messages_are_received_beside_calls(transport: Transport) {
    let (caller, mut server, _base) = by_hand(transport);
    assert!(matches!(caller.try_next_push(), Err(TryRecvError::Empty)));
    assert_eq!(caller.next_push_timeout(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
    thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call_timeout("work", DEADLINE).unwrap());
        let (id, _) = server.request();
        server.send(PUSH, 0, b"first");
        server.send(REPLY, id, b"done");
        server.send(PUSH, 0, b"second");
        assert_eq!(calling.join().unwrap(), b"done");
    });
    for expected in [&b"first"[..], b"second"] {
        assert_eq!(caller.next_push_timeout(DEADLINE).unwrap().unwrap(), expected);
    }
    drop(server);
    assert_eq!(caller.next_push().unwrap(), None);
}

fn the_end_of_the_server_ends_every_call(transport: Transport) {
    let (caller, mut server, _base) = by_hand(transport);
    thread::scope(|scope| {
        let calls: Vec<_> = (0..3).map(|_| scope.spawn(|| caller.call("work").unwrap_err())).collect();
        let pushes = scope.spawn(|| caller.next_push());
        for _ in 0..3 {
            server.request();
        }
        drop(server);
        for call in calls {
            let error = call.join().unwrap();
            assert!(matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::Truncated), "{error}");
        }
        assert_eq!(pushes.join().unwrap().unwrap(), None);
    });
    assert_eq!(caller.call("work").unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(caller.stats().open, 0);
}

fn a_plain_server_gets_no_request_and_is_an_error(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "plain");
    let server = Server::bind(&address).unwrap();
    let serving = thread::spawn(move || {
        let mut client = server.accept_timeout(DEADLINE).unwrap();
        let greeting = client.recv_timeout(DEADLINE).unwrap().unwrap();
        client.send("hello").unwrap();
        (greeting.len(), client.recv_timeout(DEADLINE))
    });
    let caller = Caller::connect(&address).unwrap();
    for _ in 0..2 {
        let error = caller.call_timeout("rm everything", DEADLINE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert_tells(&error);
    }
    drop(caller);
    let (greeting_len, next) = serving.join().unwrap();
    assert_eq!(greeting_len, 8);
    assert!(!matches!(next, Ok(Some(_))), "{next:?}");
}

fn a_server_that_returns_what_it_receives_is_an_error(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "echo");
    let server = Server::bind(&address).unwrap();
    let serving = thread::spawn(move || {
        let mut client = server.accept_timeout(DEADLINE).unwrap();
        while let Ok(Some(message)) = client.recv_timeout(DEADLINE) {
            if client.send(&message).is_err() {
                break;
            }
        }
    });
    let caller = Caller::connect(&address).unwrap();
    let error = caller.call_timeout("hello", DEADLINE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_tells(&error);
    drop(caller);
    serving.join().unwrap();
}

fn a_server_that_never_greets_gets_no_request(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "mute");
    let server = Server::bind(&address).unwrap();
    let accepting = thread::spawn(move || server.accept_timeout(DEADLINE).unwrap());
    let caller = Caller::connect(&address).unwrap();
    let mut client = accepting.join().unwrap();
    let error = caller.call_timeout("hello", SHORT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_tells(&error);
    assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap().len(), 8);
    assert!(matches!(client.try_recv(), Err(TryRecvError::Empty)));
    // From the greeting on, calls work.
    let calling = Sleeper::start(move || (caller.call_timeout("hello", DEADLINE).unwrap(), caller));
    client.send(SERVER_GREETING).unwrap();
    let request = client.recv_timeout(DEADLINE).unwrap().unwrap();
    client.send(&[&[0xc1, REPLY, 0, 0][..], &request[4..8], b"there"].concat()).unwrap();
    assert_eq!(calling.result().0.0, b"there");
}

fn a_long_answer_and_a_long_request_do_not_block_each_other(transport: Transport) {
    const LENGTH: usize = 4 << 20;
    let (caller, mut server, _base) = by_hand(transport);
    assert_eq!(caller.call_timeout("late", SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
    let (late, _) = server.request();
    assert_eq!(server.recv().0, CANCEL);
    thread::scope(|scope| {
        scope.spawn(|| {
            // The server does not receive before its long answer is sent.
            server.send(REPLY, late, data::message(1, LENGTH));
            let (id, request) = server.request();
            data::check(&request, 2, LENGTH);
            server.send(REPLY, id, b"taken");
        });
        let request = data::message(2, LENGTH);
        assert_eq!(caller.call_timeout(request, DEADLINE).unwrap(), b"taken");
    });
    assert_eq!(caller.stats().late_answers, 1);
}

fn a_request_that_is_too_long_is_an_error_and_the_next_call_works(transport: Transport) {
    let (caller, mut server, _base) = by_hand(transport);
    let error = caller.call(&vec![0; 16 << 20]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MessageTooLong);
    assert_tells(&error);
    thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call_timeout("short", DEADLINE).unwrap());
        let (id, _) = server.request();
        server.send(REPLY, id, b"enough");
        assert_eq!(calling.join().unwrap(), b"enough");
    });
    assert_eq!(caller.stats().open, 0);
}

fn a_long_request_gives_up_at_its_deadline_and_is_not_torn(transport: Transport) {
    const LENGTH: usize = 4 << 20;
    let (caller, mut server, _base) = by_hand(transport);
    // The channel is full from the first request on.
    for number in 0..3 {
        let error = caller.call_timeout(data::message(number, LENGTH), SHORT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
    thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call_timeout("last", DEADLINE).unwrap());
        loop {
            match server.recv() {
                (CANCEL, ..) => {}
                (_, id, request) if request == b"last" => break server.send(REPLY, id, b"done"),
                (_, _, request) => data::check(&request, 0, LENGTH),
            }
        }
        assert_eq!(calling.join().unwrap(), b"done");
    });
}

#[allow(dead_code, reason = "checks at compile time that threads can share a caller")]
fn a_caller_is_shared_by_threads(caller: Caller) -> impl Send + Sync + use<> {
    caller
}
