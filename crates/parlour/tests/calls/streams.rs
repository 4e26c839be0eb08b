//! Calls with several answers.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use parlour::calls::{Call, CallerOptions};
use parlour::{Connection, ErrorKind, Transport};

use super::scene::{Serving, by_hand};
use crate::call_bytes::{CANCEL, END, ERROR, ITEM, REPLY};
use crate::support::{DEADLINE, assert_tells, data, trials};

trials! {
    for transport in Transport::ALL =>
        the_items_of_a_stream_arrive_in_order_and_end,
        a_stream_that_is_dropped_is_cancelled_without_blocking,
        a_stream_ends_with_the_error_of_the_server,
        the_deadline_of_a_stream_keeps_the_stream,
        items_that_nobody_takes_end_their_call_alone,
        a_server_that_sends_faster_than_its_caller_takes_is_delayed,
        an_item_that_is_not_taken_before_the_deadline_is_not_sent;
}

fn the_items_of_a_stream_arrive_in_order_and_end(transport: Transport) {
    let serving = Serving::new(transport, |call: Call| {
        let count: usize = std::str::from_utf8(&call).unwrap().parse().unwrap();
        for number in 0..count {
            call.item(data::message(number, number)).unwrap();
        }
        call.end().unwrap();
    });
    let caller = serving.caller();
    for count in [0, 1, 100] {
        let mut stream = caller.call_stream(&count.to_string()).unwrap();
        for number in 0..count {
            data::check(&stream.next_timeout(DEADLINE).unwrap().unwrap(), number, number);
        }
        assert!(stream.next().is_none() && stream.next().is_none());
    }
    assert_eq!(caller.stats().open, 0);
}

fn a_stream_that_is_dropped_is_cancelled_without_blocking(transport: Transport) {
    let (tell, told) = mpsc::channel();
    let serving = Serving::new(transport, move |call: Call| {
        let tell = tell.clone();
        thread::spawn(move || {
            let error = loop {
                if let Err(error) = call.item(&[0; 1000]) {
                    break error;
                }
            };
            tell.send((error.kind(), call.is_cancelled())).unwrap();
        });
    });
    let caller = serving.caller();
    for _ in 0..3 {
        let mut stream = caller.call_stream("endless").unwrap();
        for _ in 0..10 {
            assert_eq!(stream.next().unwrap().unwrap().len(), 1000);
        }
        drop(stream);
        // The cancellation is in the channel, or is written with the next call.
        let _ = caller.try_next_push();
        assert_eq!(told.recv_timeout(DEADLINE).unwrap(), (ErrorKind::Disconnected, true));
    }
    assert_eq!(caller.stats().open, 0);
}

fn a_stream_ends_with_the_error_of_the_server(transport: Transport) {
    let (caller, mut server, _base) = by_hand(transport);
    thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call_stream("list").unwrap().collect::<Vec<_>>());
        let (id, _) = server.request();
        server.send(ITEM, id, b"one");
        server.send(ERROR, id, b"\0no more");
        let items = calling.join().unwrap();
        assert_eq!(items.len(), 2);
        assert_eq!(**items[0].as_ref().unwrap(), *b"one");
        assert_eq!(items[1].as_ref().unwrap_err().failure(), Some("no more"));
    });
}

fn the_deadline_of_a_stream_keeps_the_stream(transport: Transport) {
    let (caller, mut server, _base) = by_hand(transport);
    let greeted = thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call_stream("list").unwrap());
        let (id, _) = server.request();
        (calling.join().unwrap(), id)
    });
    let (mut stream, id) = greeted;
    let error = stream.next_timeout(Duration::from_millis(10)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_tells(&error);
    server.send(REPLY, id, b"the only one");
    assert_eq!(stream.next_timeout(DEADLINE).unwrap().unwrap(), b"the only one");
    assert_eq!(stream.next_timeout(DEADLINE).unwrap(), None);
}

fn items_that_nobody_takes_end_their_call_alone(transport: Transport) {
    let base = crate::support::Base::new();
    let address = base.address(transport, "calls");
    let server = parlour::Server::bind(&address).unwrap();
    let accepting = thread::spawn(move || server.accept_timeout(DEADLINE).unwrap());
    let options = CallerOptions::new().stream_buffer_max(10_000);
    let caller = options.caller(Connection::connect(&address).unwrap()).unwrap();
    let mut server = crate::call_bytes::HandServer::greet(accepting.join().unwrap());
    thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call_stream("list").unwrap());
        let (stream_id, _) = server.request();
        let stream = calling.join().unwrap();
        let other = scope.spawn(|| caller.call_timeout("other", DEADLINE).unwrap());
        let (other_id, _) = server.request();
        for _ in 0..100 {
            server.send(ITEM, stream_id, &[0; 936]);
        }
        assert_eq!(server.recv(), (CANCEL, stream_id, Vec::new()));
        server.send(END, stream_id, b"");
        server.send(REPLY, other_id, b"done");
        assert_eq!(other.join().unwrap(), b"done");
        let items: Vec<_> = stream.collect();
        assert_eq!(items.iter().filter(|item| item.is_ok()).count(), 10);
        let error = items.last().unwrap().as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert_tells(error);
    });
}

fn a_server_that_sends_faster_than_its_caller_takes_is_delayed(transport: Transport) {
    const COUNT: usize = 500;
    const LENGTH: usize = 64 * 1024;
    let serving = Serving::new(transport, |call: Call| {
        if *call == *b"echo" {
            return call.reply("echo").unwrap();
        }
        thread::spawn(move || {
            for number in 0..COUNT {
                call.item(data::message(number, LENGTH)).unwrap();
            }
            call.end().unwrap();
        });
    });
    let (slow, other) = (serving.caller(), serving.caller());
    let mut stream = slow.call_stream("list").unwrap();
    for number in 0..COUNT {
        data::check(&stream.next_timeout(DEADLINE).unwrap().unwrap(), number, LENGTH);
        if number % 50 == 0 {
            assert_eq!(other.call_timeout("echo", DEADLINE).unwrap(), b"echo");
        }
    }
    assert!(stream.next().is_none());
}

fn an_item_that_is_not_taken_before_the_deadline_is_not_sent(transport: Transport) {
    let (tell, told) = std::sync::mpsc::channel();
    let serving = Serving::new(transport, move |call: Call| {
        let tell = tell.clone();
        thread::spawn(move || {
            let mut sent = 0;
            let error = loop {
                match call.item_timeout(data::message(sent, 64 * 1024), Duration::from_millis(1)) {
                    Ok(()) => sent += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert_tells(&error);
            tell.send(sent).unwrap();
            call.end().unwrap();
        });
    });
    let caller = serving.caller();
    let stream = caller.call_stream("list").unwrap();
    let sent = told.recv_timeout(DEADLINE).unwrap();
    let mut received = 0;
    for item in stream {
        data::check(&item.unwrap(), received, 64 * 1024);
        received += 1;
    }
    assert_eq!(received, sent);
}
