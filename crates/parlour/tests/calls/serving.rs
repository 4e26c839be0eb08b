//! A server of calls with callers of the library.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use parlour::calls::Call;
use parlour::{Caller, Connection, ErrorKind, Server, Transport};

use super::scene::{Serving, echo};
use crate::call_bytes::{CANCEL, ERROR, HandCaller, REPLY, REQUEST};
use crate::support::{Base, DEADLINE, assert_tells, data, trials};

trials! {
    for transport in Transport::ALL =>
        each_request_is_answered,
        long_requests_and_answers_arrive,
        a_call_can_be_answered_later_and_from_another_thread,
        a_call_that_is_dropped_fails_at_its_caller,
        a_call_that_fails_has_the_text_of_the_handler,
        a_call_learns_that_it_was_cancelled,
        a_caller_with_too_many_open_calls_is_told,
        a_caller_whose_open_requests_have_too_many_bytes_is_told,
        an_answer_that_is_too_long_fails_at_its_caller,
        pushed_messages_reach_one_client_or_all,
        a_plain_client_gets_an_error_and_no_answer,
        a_client_that_only_sends_is_answered_before_the_end,
        a_shutdown_waits_for_the_calls_that_are_open,
        a_shutdown_does_not_wait_beyond_its_grace,
        calls_of_a_client_that_has_gone_are_cancelled,
        a_thread_that_waits_for_a_cancellation_gives_up_at_its_deadline,
        the_end_of_the_server_wakes_those_who_wait_for_a_cancellation;
}

fn each_request_is_answered(transport: Transport) {
    let serving = Serving::new(transport, echo);
    let caller = serving.caller();
    for number in 0..100 {
        let request = data::message(number, number);
        assert_eq!(caller.call_timeout(request, DEADLINE).unwrap(), request);
    }
    assert_eq!(caller.transport(), transport);
    assert_eq!(caller.stats(), parlour::calls::CallerStats::default());
}

fn long_requests_and_answers_arrive(transport: Transport) {
    let serving = Serving::new(transport, echo);
    let caller = serving.caller();
    for length in [60_000, 70_000, 1 << 20, (16 << 20) - 8] {
        let request = data::message(length, length);
        data::check(&caller.call_timeout(request, DEADLINE).unwrap(), length, length);
    }
}

fn a_call_can_be_answered_later_and_from_another_thread(transport: Transport) {
    let mut held: Vec<Call> = Vec::new();
    let serving = Serving::new(transport, move |call| {
        held.push(call);
        if held.len() == 4 {
            let calls = std::mem::take(&mut held);
            thread::spawn(move || calls.into_iter().rev().for_each(echo));
        }
    });
    let caller = serving.caller();
    thread::scope(|scope| {
        for number in 0..8u8 {
            let caller = &caller;
            scope.spawn(move || assert_eq!(caller.call_timeout(&[number], DEADLINE).unwrap(), &[number]));
        }
    });
}

fn a_call_that_is_dropped_fails_at_its_caller(transport: Transport) {
    let serving = Serving::new(transport, drop);
    let error = serving.caller().call_timeout("work", DEADLINE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CallFailed);
    assert_tells(&error);
}

fn a_call_that_fails_has_the_text_of_the_handler(transport: Transport) {
    let serving = Serving::new(transport, |call: Call| call.fail("no such note").unwrap());
    let error = serving.caller().call_timeout("work", DEADLINE).unwrap_err();
    assert_eq!((error.kind(), error.failure()), (ErrorKind::CallFailed, Some("no such note")));
}

fn a_call_learns_that_it_was_cancelled(transport: Transport) {
    let (give, given) = mpsc::channel();
    let serving = Serving::new(transport, move |call: Call| give.send(call).unwrap());
    let caller = serving.caller();
    let mut stream = caller.call_stream("work").unwrap();
    let call = given.recv_timeout(DEADLINE).unwrap();
    assert_eq!(stream.next_timeout(Duration::from_millis(20)).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(!call.is_cancelled());
    drop(stream);
    call.wait_cancelled_timeout(DEADLINE).unwrap();
    call.wait_cancelled().unwrap();
    assert!(call.is_cancelled());
    let error = call.reply("late").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert_eq!(caller.stats().late_answers, 0);
}

fn a_caller_with_too_many_open_calls_is_told(transport: Transport) {
    let (give, given) = mpsc::channel();
    let serving = Serving::with(transport, |server| server.calls_max(2), move |call| give.send(call).unwrap());
    let mut caller = HandCaller::connect(&serving.address);
    for id in 1..4 {
        caller.send(REQUEST, id, b"work");
    }
    assert_eq!(caller.recv(), (ERROR, 3, vec![1]));
    // A call that was cancelled counts until the handler ends it.
    caller.send(CANCEL, 1, b"");
    caller.send(REQUEST, 4, b"work");
    assert_eq!(caller.recv(), (ERROR, 4, vec![1]));
    let first: Call = given.recv_timeout(DEADLINE).unwrap();
    assert_eq!(first.reply("late").unwrap_err().kind(), ErrorKind::Disconnected);
    caller.send(REQUEST, 5, b"work");
    let calls = [given.recv_timeout(DEADLINE).unwrap(), given.recv_timeout(DEADLINE).unwrap()];
    for (id, call) in [2, 5].into_iter().zip(calls) {
        call.reply("done").unwrap();
        assert_eq!(caller.recv(), (REPLY, id, b"done".to_vec()));
    }
}

fn a_caller_whose_open_requests_have_too_many_bytes_is_told(transport: Transport) {
    let (give, given) = mpsc::channel();
    let serving =
        Serving::with(transport, |server| server.request_bytes_max(1000), move |call| give.send(call).unwrap());
    let caller = serving.caller();
    thread::scope(|scope| {
        // The only request may have any length.
        let calling = scope.spawn(|| caller.call_timeout(&[1; 100_000], DEADLINE).unwrap());
        let first: Call = given.recv_timeout(DEADLINE).unwrap();
        let error = caller.call_timeout("x", DEADLINE).unwrap_err();
        assert_eq!((error.kind(), error.failure()), (ErrorKind::Busy, None));
        assert!(error.to_string().contains("too many bytes"), "{error}");
        assert_tells(&error);
        first.reply("first").unwrap();
        assert_eq!(calling.join().unwrap(), b"first");

        let calling = scope.spawn(|| caller.call_timeout(&[2; 600], DEADLINE).unwrap());
        let second: Call = given.recv_timeout(DEADLINE).unwrap();
        assert_eq!(caller.call_timeout(&[3; 401], DEADLINE).unwrap_err().kind(), ErrorKind::Busy);
        let other = scope.spawn(|| caller.call_timeout(&[4; 400], DEADLINE).unwrap());
        given.recv_timeout(DEADLINE).unwrap().reply("third").unwrap();
        assert_eq!(other.join().unwrap(), b"third");
        second.reply("second").unwrap();
        assert_eq!(calling.join().unwrap(), b"second");
    });
}

fn an_answer_that_is_too_long_fails_at_its_caller(transport: Transport) {
    let serving = Serving::new(transport, |call: Call| {
        let error = call.reply(&vec![0; 16 << 20]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MessageTooLong);
        assert_tells(&error);
    });
    let error = serving.caller().call_timeout("work", DEADLINE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CallFailed);
    assert!(error.failure().unwrap().contains("longer than a message"), "{error}");
}

fn pushed_messages_reach_one_client_or_all(transport: Transport) {
    let serving = Serving::new(transport, |call: Call| {
        let number = call.client().to_be_bytes();
        call.reply(&number).unwrap();
    });
    let callers = [serving.caller(), serving.caller()];
    let numbers = [0, 1].map(|at| {
        let number: &[u8] = &callers[at as usize].call_timeout("who", DEADLINE).unwrap();
        u64::from_be_bytes(number.try_into().unwrap())
    });
    serving.pusher.push(numbers[1], "to the second").unwrap();
    serving.pusher.push_all("to all").unwrap();
    serving.pusher.push(77, "to nobody").unwrap();
    assert_eq!(callers[0].next_push_timeout(DEADLINE).unwrap().unwrap(), b"to all");
    for expected in [&b"to the second"[..], b"to all"] {
        assert_eq!(callers[1].next_push_timeout(DEADLINE).unwrap().unwrap(), expected);
    }
}

fn a_plain_client_gets_an_error_and_no_answer(transport: Transport) {
    let serving = Serving::new(transport, echo);
    let mut plain = Connection::connect(&serving.address).unwrap();
    plain.send("hello").unwrap();
    let error = plain.recv_timeout(DEADLINE).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Truncated | ErrorKind::Disconnected), "{error}");
    assert_eq!(serving.caller().call_timeout("hello", DEADLINE).unwrap(), b"hello");
}

fn a_client_that_only_sends_is_answered_before_the_end(transport: Transport) {
    let serving = Serving::new(transport, |call| drop(thread::spawn(move || echo(call))));
    let mut caller = HandCaller::connect(&serving.address);
    caller.send(REQUEST, 1, b"work");
    caller.0.finish().unwrap();
    assert_eq!(caller.recv(), (REPLY, 1, b"work".to_vec()));
    assert_eq!(caller.0.recv_timeout(DEADLINE).unwrap(), None);
}

fn a_shutdown_waits_for_the_calls_that_are_open(transport: Transport) {
    let (give, given) = mpsc::channel();
    let mut serving = Serving::new(transport, move |call: Call| give.send(call).unwrap());
    let caller = serving.caller();
    thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call_timeout("work", DEADLINE).unwrap());
        let call = given.recv_timeout(DEADLINE).unwrap();
        serving.shutdown.shutdown();
        scope.spawn(move || call.reply("done").unwrap());
        assert_eq!(calling.join().unwrap(), b"done");
    });
    serving.end().unwrap();
    let error = caller.call_timeout("again", DEADLINE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert_eq!(serving.pusher.push_all("late").unwrap_err().kind(), ErrorKind::Shutdown);
}

fn a_shutdown_does_not_wait_beyond_its_grace(transport: Transport) {
    let (give, given) = mpsc::channel();
    let mut serving = Serving::with(
        transport,
        |server| server.grace(Duration::from_millis(20)),
        move |call: Call| give.send(call).unwrap(),
    );
    let caller = serving.caller();
    thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call_timeout("work", DEADLINE).unwrap_err());
        let call = given.recv_timeout(DEADLINE).unwrap();
        serving.end().unwrap();
        assert!(call.is_cancelled());
        assert!(matches!(call.reply("done").unwrap_err().kind(), ErrorKind::Disconnected | ErrorKind::Shutdown));
        assert_eq!(calling.join().unwrap().kind(), ErrorKind::Disconnected);
    });
}

fn calls_of_a_client_that_has_gone_are_cancelled(transport: Transport) {
    let (give, given) = mpsc::channel();
    let serving = Serving::new(transport, move |call: Call| give.send(call).unwrap());
    let mut caller = HandCaller::connect(&serving.address);
    caller.send(REQUEST, 1, b"work");
    let call: Call = given.recv_timeout(DEADLINE).unwrap();
    thread::scope(|scope| {
        let waiting = [0; 3].map(|_| scope.spawn(|| call.wait_cancelled()));
        drop(caller);
        waiting.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
    });
}

fn a_thread_that_waits_for_a_cancellation_gives_up_at_its_deadline(transport: Transport) {
    let (give, given) = mpsc::channel();
    let serving = Serving::new(transport, move |call: Call| {
        // The thread that serves would never learn of it.
        let error = call.wait_cancelled().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert_tells(&error);
        give.send(call).unwrap();
    });
    let mut caller = HandCaller::connect(&serving.address);
    caller.send(REQUEST, 1, b"work");
    let call: Call = given.recv_timeout(DEADLINE).unwrap();
    let error = call.wait_cancelled_timeout(Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_tells(&error);
    call.reply("done").unwrap();
    assert_eq!(caller.recv(), (REPLY, 1, b"done".to_vec()));
}

fn the_end_of_the_server_wakes_those_who_wait_for_a_cancellation(transport: Transport) {
    let (give, given) = mpsc::channel();
    let mut serving =
        Serving::with(transport, |server| server.grace(Duration::ZERO), move |call: Call| give.send(call).unwrap());
    let mut caller = HandCaller::connect(&serving.address);
    caller.send(REQUEST, 1, b"work");
    let call: Call = given.recv_timeout(DEADLINE).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| call.wait_cancelled());
        serving.end().unwrap();
        waiting.join().unwrap().unwrap();
    });
}

#[allow(dead_code, reason = "checks at compile time that the shortcut takes a server by value")]
fn the_shortcut(base: &Base) -> parlour::Result<()> {
    let _ = Caller::connect("name");
    Server::bind(base.address(Transport::Unix, "short"))?.serve_calls(echo)
}
