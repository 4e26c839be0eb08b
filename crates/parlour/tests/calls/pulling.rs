//! A server of calls whose program has a loop of its own.

use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use parlour::calls::{Call, CallServer};
use parlour::{Caller, ErrorKind, Server, Transport, TryRecvError};
use rustix::event::{PollFd, PollFlags, poll};

use super::scene::echo;
use crate::call_bytes::{CANCEL, ERROR, HandCaller, LEAVE, REPLY, REQUEST};
use crate::support::wait::Sleeper;
use crate::support::{Base, DEADLINE, assert_tells, data, trials};

/// Passes while nothing happens.
const SHORT: Duration = Duration::from_millis(5);

trials! {
    for transport in Transport::ALL =>
        a_program_takes_each_request_when_it_asks_for_one,
        the_descriptor_reports_requests_and_answers_of_other_threads,
        the_end_waits_for_calls_of_other_threads_up_to_its_timeout,
        the_end_in_steps_keeps_calls_and_answers_until_they_are_sent,
        a_request_that_arrives_after_the_shutdown_is_refused_and_the_open_one_is_answered,
        dropping_the_server_cancels_the_calls_that_are_open,
        a_client_that_sends_without_pause_does_not_hold_up_a_timeout,
        many_items_in_the_thread_that_serves_are_refused,
        a_server_moves_from_one_thread_to_another;
}

fn bind(transport: Transport) -> (CallServer, String, Base) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    (CallServer::new(Server::bind(&address).unwrap()).unwrap(), address, base)
}

/// Serves until a request arrives.
fn next(server: &mut CallServer) -> Call {
    server.next_call_timeout(DEADLINE).unwrap()
}

/// Connects while the server works.
fn connect(server: &mut CallServer, address: &str) -> HandCaller {
    thread::scope(|scope| {
        let connecting = scope.spawn(|| HandCaller::connect(address));
        while !connecting.is_finished() {
            assert_eq!(server.next_call_timeout(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
        }
        connecting.join().unwrap()
    })
}

fn a_program_takes_each_request_when_it_asks_for_one(transport: Transport) {
    let (mut server, address, _base) = bind(transport);
    assert!(matches!(server.try_next_call(), Err(TryRecvError::Empty)));
    let error = server.next_call_timeout(SHORT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_tells(&error);
    let shutdown = server.shutdown_handle();
    let calling = thread::spawn(move || {
        let caller = Caller::connect(&address).unwrap();
        for number in 0..50 {
            let request = data::message(number, number * 100);
            assert_eq!(caller.call_timeout(request, DEADLINE).unwrap(), request);
        }
        shutdown.shutdown();
    });
    for _ in 0..50 {
        echo(server.next_call().unwrap());
    }
    assert_eq!(server.next_call().unwrap_err().kind(), ErrorKind::Shutdown);
    assert_eq!((server.name(), server.stats().accepted), ("calls", 1));
    server.close().unwrap();
    calling.join().unwrap();
}

fn the_descriptor_reports_requests_and_answers_of_other_threads(transport: Transport) {
    let (mut server, address, _base) = bind(transport);
    let shutdown = server.shutdown_handle();
    let calling = thread::spawn(move || {
        let caller = Caller::connect(&address).unwrap();
        for number in 0..50 {
            let request = data::message(number, 1000);
            assert_eq!(caller.call_timeout(request, DEADLINE).unwrap(), request);
        }
        shutdown.shutdown();
    });
    let ended = loop {
        match server.try_next_call() {
            Ok(call) if call[0] % 2 == 0 => echo(call),
            Ok(call) => drop(thread::spawn(move || echo(call))),
            Err(TryRecvError::Empty) => {
                poll(&mut [PollFd::new(&server.as_fd(), PollFlags::IN)], None).unwrap();
            }
            Err(TryRecvError::Failed(error)) => break error,
        }
    };
    assert_eq!(ended.kind(), ErrorKind::Shutdown);
    calling.join().unwrap();
}

fn the_end_waits_for_calls_of_other_threads_up_to_its_timeout(transport: Transport) {
    let (mut server, address, _base) = bind(transport);
    let mut caller = connect(&mut server, &address);
    caller.send(REQUEST, 1, b"work");
    let call = next(&mut server);
    let closing = Sleeper::start(move || server.close_timeout(DEADLINE));
    call.reply("done").unwrap();
    closing.result().0.unwrap();
    assert_eq!(caller.recv(), (LEAVE, 0, vec![]));
    assert_eq!(caller.recv(), (REPLY, 1, b"done".to_vec()));

    let mut server = CallServer::new(Server::bind(&address).unwrap()).unwrap();
    let mut caller = connect(&mut server, &address);
    caller.send(REQUEST, 1, b"work");
    let call = next(&mut server);
    thread::spawn(move || server.close_timeout(SHORT).unwrap()).join().unwrap();
    assert!(call.is_cancelled());
}

fn the_end_in_steps_keeps_calls_and_answers_until_they_are_sent(transport: Transport) {
    let (mut server, address, _base) = bind(transport);
    let (begin, begun) = mpsc::channel();
    thread::scope(|scope| {
        let address = &address;
        let calling = scope.spawn(move || {
            let caller = Caller::connect(address).unwrap();
            let stream = caller.call_stream("work").unwrap();
            begun.recv_timeout(DEADLINE).unwrap();
            stream.map(|item| item.unwrap().len()).collect::<Vec<_>>()
        });
        let call = next(&mut server);
        assert_eq!(server.end_timeout(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(
            matches!(server.try_next_call(), Err(TryRecvError::Failed(error)) if error.kind() == ErrorKind::Shutdown)
        );
        // The name is free.
        drop(Server::bind(address).unwrap());
        // More than the channel takes.
        call.item(&vec![1_u8; 8 << 20]).unwrap();
        call.end().unwrap();
        assert_eq!(server.end_timeout(Duration::ZERO).unwrap_err().kind(), ErrorKind::TimedOut);
        begin.send(()).unwrap();
        while let Err(error) = server.end_timeout(Duration::ZERO) {
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            let timeout = DEADLINE.try_into().unwrap();
            assert!(poll(&mut [PollFd::new(&server.as_fd(), PollFlags::IN)], Some(&timeout)).unwrap() > 0);
        }
        drop(server);
        assert_eq!(calling.join().unwrap(), [8 << 20]);
    });
}

fn a_request_that_arrives_after_the_shutdown_is_refused_and_the_open_one_is_answered(transport: Transport) {
    let (mut server, address, base) = bind(transport);
    let mut caller = connect(&mut server, &address);
    let plain = thread::scope(|scope| {
        let calling = scope.spawn(|| {
            let plain = Caller::connect(&address).unwrap();
            plain.call_timeout("warm", DEADLINE).unwrap();
            plain
        });
        next(&mut server).reply("warm").unwrap();
        while !calling.is_finished() {
            assert_eq!(server.next_call_timeout(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
        }
        calling.join().unwrap()
    });
    caller.send(REQUEST, 1, b"work");
    let call = next(&mut server);
    server.shutdown_handle().shutdown();
    assert_eq!(server.next_call_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::Shutdown);
    // One request is in the channel before the end begins, and two arrive while the server waits for the open call.
    caller.send(REQUEST, 2, b"early");
    let closing = Sleeper::start(move || server.close_timeout(DEADLINE));
    // The name is free at once.
    Server::bind(&address).unwrap().close().unwrap();
    caller.send(REQUEST, 3, b"late");
    let error = plain.call_timeout("late", DEADLINE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(error.to_string().contains("has not begun the call"), "{error}");
    assert_tells(&error);
    assert_eq!(caller.recv(), (LEAVE, 0, vec![]));
    for id in [2, 3] {
        let (kind, refused, text) = caller.recv();
        assert_eq!((kind, refused), (ERROR, id), "{text:?}");
    }
    call.reply("done").unwrap();
    assert_eq!(caller.recv(), (REPLY, 1, b"done".to_vec()));
    closing.result().0.unwrap();
    assert_eq!(caller.0.recv_timeout(DEADLINE).unwrap(), None);
    assert_eq!(base.files(), [""; 0]);
}

fn dropping_the_server_cancels_the_calls_that_are_open(transport: Transport) {
    let (mut server, address, _base) = bind(transport);
    let pusher = server.pusher();
    let mut caller = connect(&mut server, &address);
    caller.send(REQUEST, 1, b"work");
    let call = next(&mut server);
    drop(server);
    call.wait_cancelled_timeout(DEADLINE).unwrap();
    assert_eq!(pusher.push_all("late").unwrap_err().kind(), ErrorKind::Shutdown);
    assert_eq!(call.reply("late").unwrap_err().kind(), ErrorKind::Disconnected);
}

fn a_client_that_sends_without_pause_does_not_hold_up_a_timeout(transport: Transport) {
    let (mut server, address, _base) = bind(transport);
    let mut caller = connect(&mut server, &address);
    let flooding = thread::spawn(move || {
        let cancel = crate::call_bytes::message(CANCEL, 77, b"");
        // Thousands of messages with one system call are sent faster than they are received.
        while caller.0.feed_timeout(&cancel, DEADLINE).is_ok() {}
    });
    for timeout in [Duration::ZERO, SHORT] {
        for _ in 0..20 {
            let began = Instant::now();
            assert_eq!(server.next_call_timeout(timeout).unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(began.elapsed() < DEADLINE / 2);
        }
    }
    // The rest shows at the descriptor.
    let _ = server.try_next_call();
    assert_eq!(poll(&mut [PollFd::new(&server.as_fd(), PollFlags::IN)], None).unwrap(), 1);
    drop(server);
    flooding.join().unwrap();
}

fn many_items_in_the_thread_that_serves_are_refused(transport: Transport) {
    let (mut server, address, _base) = bind(transport);
    let mut caller = connect(&mut server, &address);
    caller.send(REQUEST, 1, b"list");
    let call = next(&mut server);
    let item = vec![0; 400_000];
    let error = (0..10).find_map(|_| call.item(&item).err()).unwrap();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert_tells(&error);
    assert_eq!(call.item_timeout(&item, DEADLINE).unwrap_err().kind(), ErrorKind::Busy);
    thread::scope(|scope| {
        let sending = scope.spawn(|| call.item_timeout(&item, SHORT).unwrap_err());
        assert_eq!(sending.join().unwrap().kind(), ErrorKind::TimedOut);
    });
    call.end().unwrap();
    for _ in 0..2 {
        assert_eq!(server.next_call_timeout(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}

fn a_server_moves_from_one_thread_to_another(transport: Transport) {
    let (mut server, address, _base) = bind(transport);
    let mut caller = connect(&mut server, &address);
    caller.send(REQUEST, 1, b"work");
    let call = next(&mut server);
    let shutdown = server.shutdown_handle();
    let serving = thread::spawn(move || server.next_call().map(drop).unwrap_err());
    // This thread served before, and its answer wakes the thread that serves now.
    call.reply("done").unwrap();
    assert_eq!(caller.recv(), (REPLY, 1, b"done".to_vec()));
    shutdown.shutdown();
    assert_eq!(serving.join().unwrap().kind(), ErrorKind::Shutdown);
}
