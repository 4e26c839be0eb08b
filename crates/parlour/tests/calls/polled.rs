//! Calls of a program that waits by itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use parlour::calls::CallServer;
use parlour::{Caller, ErrorKind, Payload, Server, SharedBytes, Transport};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::scene::{Serving, by_hand, echo};
use crate::call_bytes::{CANCEL, REPLY, message};
use crate::support::{Base, DEADLINE, data, trials};

trials! {
    for transport in Transport::ALL =>
        a_loop_of_events_makes_calls_and_takes_the_answers,
        many_calls_that_are_open_together_get_their_own_answers,
        a_request_that_finds_the_channel_full_is_woken_when_there_is_room,
        a_request_of_which_a_rest_is_to_be_written_has_a_descriptor_for_it,
        a_thread_that_blocks_and_a_loop_of_events_share_a_caller,
        a_thread_that_stops_calling_leaves_no_loop_asleep,
        a_loop_that_begins_to_wait_beside_a_thread_that_receives_hears_its_answer,
        a_loop_learns_that_the_connection_has_ended,
        the_end_of_the_server_wakes_every_call,
        dropping_a_stream_tells_the_server,
        pushed_messages_wake_who_waits_for_one,
        many_items_in_the_thread_that_serves_wait_for_their_client,
        a_stream_that_is_polled_between_advances_keeps_little;
}

/// Counts how often it was woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Waits as the documentation says, and returns what `attempt` does.
fn drive<T>(caller: &Caller, mut attempt: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    let started = Instant::now();
    loop {
        if let Poll::Ready(value) = attempt(&mut context) {
            return value;
        }
        if !caller.advance().unwrap() {
            wait(caller, &[]);
        }
        assert!(started.elapsed() < DEADLINE);
    }
}

/// Sleeps until one of the descriptors is ready, or one of `others` is readable.
fn wait(caller: &Caller, others: &[BorrowedFd<'_>]) {
    let writable = caller.send_fd();
    let mut fds = vec![PollFd::from_borrowed_fd(caller.recv_fd(), PollFlags::IN)];
    fds.extend(others.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
    fds.extend(writable.as_ref().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::OUT)));
    let limit = Timespec { tv_sec: DEADLINE.as_secs() as i64, tv_nsec: 0 };
    assert!(poll(&mut fds, Some(&limit)).unwrap() > 0, "no descriptor reports what was awaited");
}

fn call(caller: &Caller, request: &[u8]) -> Vec<u8> {
    let mut call = drive(caller, |cx| caller.poll_call(request, cx)).unwrap();
    let answer = drive(caller, |cx| call.poll_next(cx)).unwrap().unwrap();
    assert!(drive(caller, |cx| call.poll_next(cx)).is_none());
    answer.into_vec()
}

fn a_loop_of_events_makes_calls_and_takes_the_answers(transport: Transport) {
    let serving = Serving::new(transport, echo);
    let caller = serving.caller();
    for number in 0..50 {
        let request = data::message(number, number * 1000);
        assert_eq!(call(&caller, request), request);
    }
    let big = vec![7; 4 << 20];
    assert_eq!(call(&caller, &big), big);
}

fn many_calls_that_are_open_together_get_their_own_answers(transport: Transport) {
    let serving = Serving::new(transport, echo);
    let caller = serving.caller();
    let mut calls = Vec::new();
    for number in 0..200 {
        let request = data::message(number, 500);
        calls.push(drive(&caller, |cx| caller.poll_call(request, cx)).unwrap());
    }
    for (number, mut call) in calls.into_iter().enumerate().rev() {
        assert_eq!(drive(&caller, |cx| call.poll_next(cx)).unwrap().unwrap(), data::message(number, 500));
    }
}

fn a_request_that_finds_the_channel_full_is_woken_when_there_is_room(transport: Transport) {
    let (caller, mut served, _base) = by_hand(transport);
    let request = vec![1; 100_000];
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let mut calls = vec![drive(&caller, |cx| caller.poll_call(&request, cx)).unwrap()];
    while let Poll::Ready(call) = caller.poll_call(&request, &mut context) {
        calls.push(call.unwrap());
        assert!(calls.len() < 10_000, "the channel is never full");
    }
    assert!(!caller.advance().unwrap());
    assert!(caller.send_fd().is_some());
    let before = count.get();
    let sent = calls.len();
    let reading = thread::spawn(move || {
        for _ in 0..sent + 1 {
            assert_eq!(served.request().1, request);
        }
        served
    });
    let started = Instant::now();
    while count.get() == before {
        if !caller.advance().unwrap() {
            wait(&caller, &[]);
        }
        assert!(started.elapsed() < DEADLINE);
    }
    calls.push(drive(&caller, |cx| caller.poll_call(&[1; 100_000], cx)).unwrap());
    while caller.advance().unwrap() || caller.send_fd().is_some() {
        if caller.send_fd().is_some() {
            wait(&caller, &[]);
        }
    }
    drop(reading.join().unwrap());
}

fn a_request_of_which_a_rest_is_to_be_written_has_a_descriptor_for_it(transport: Transport) {
    const ROUNDS: usize = 10;
    let (caller, mut served, _base) = by_hand(transport);
    let request = data::message(1, 6 << 20);
    let (read, has_read) = mpsc::channel();
    // Reads while the caller writes, so that room is found at any moment.
    let reading = thread::spawn(move || {
        for _ in 0..ROUNDS {
            assert_eq!(served.request().1, request);
            read.send(()).unwrap();
        }
        served
    });
    let mut calls = Vec::new();
    for _ in 0..ROUNDS {
        calls.push(drive(&caller, |cx| caller.poll_call(request, cx)).unwrap());
        caller.advance().unwrap();
        while caller.send_fd().is_some() {
            if !caller.advance().unwrap() && caller.send_fd().is_some() {
                wait(&caller, &[]);
            }
        }
        // Nobody writes any more.
        has_read.recv_timeout(DEADLINE).unwrap();
    }
    drop(reading.join().unwrap());
}

fn a_thread_that_blocks_and_a_loop_of_events_share_a_caller(transport: Transport) {
    let serving = Serving::new(transport, echo);
    let caller = serving.caller();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for number in 0..200 {
                    let request = data::message(number, 100);
                    assert_eq!(caller.call_timeout(request, DEADLINE).unwrap(), request);
                }
            });
        }
        let events = Events::new();
        for number in 0..200 {
            let request = data::message(number, 200);
            let mut call = events.drive(&caller, |cx| caller.poll_call(request, cx)).unwrap();
            assert_eq!(events.drive(&caller, |cx| call.poll_next(cx)).unwrap().unwrap(), request);
        }
    });
}

/// The waker of a loop that shares its caller with other threads: an eventfd.
struct Events(Arc<Raise>, Waker);

struct Raise(OwnedFd);

impl Wake for Raise {
    fn wake(self: Arc<Self>) {
        rustix::io::write(&self.0, &1u64.to_ne_bytes()).unwrap();
    }
}

impl Events {
    fn new() -> Self {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let raise = Arc::new(Raise(fd));
        let waker = Waker::from(Arc::clone(&raise));
        Self(raise, waker)
    }

    /// Waits as the documentation says for a caller that other threads use, and returns what `attempt` does.
    fn drive<T>(&self, caller: &Caller, mut attempt: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        let started = Instant::now();
        loop {
            if let Poll::Ready(value) = attempt(&mut Context::from_waker(&self.1)) {
                return value;
            }
            if !caller.advance().unwrap() {
                self.wait(caller);
            }
            assert!(started.elapsed() < DEADLINE);
        }
    }

    /// Waits in the same way, and begins with a sleep.
    fn drive_asleep<T>(&self, caller: &Caller, attempt: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        self.wait(caller);
        self.drive(caller, attempt)
    }

    /// Sleeps until one of the descriptors is ready, or the waker was woken.
    fn wait(&self, caller: &Caller) {
        wait(caller, &[self.0.0.as_fd()]);
        let _ = rustix::io::read(&self.0.0, &mut [0; 8]);
    }
}

/// Another thread receives its own answer, and with it the notice for which the loop sleeps: together with a block of
/// memory, or with the space that the server of a large answer waits for.
fn a_thread_that_stops_calling_leaves_no_loop_asleep(transport: Transport) {
    let (caller, mut served, _base) = by_hand(transport);
    let events = Events::new();
    let block = SharedBytes::new(b"a block").unwrap();
    let blocks = [&block];
    for round in 0..10 {
        let answer = data::message(round, [10, 4 << 20][round % 2]);
        let mut call = events.drive(&caller, |cx| caller.poll_call("the loop", cx)).unwrap();
        let (first, _) = served.request();
        assert!(call.poll_next(&mut Context::from_waker(&events.1)).is_pending());
        while caller.advance().unwrap() {}
        thread::scope(|scope| {
            let calling = scope.spawn(|| caller.call_timeout("the thread", DEADLINE).unwrap());
            let (second, _) = served.request();
            let bytes = message(REPLY, second, answer);
            let has_block = round % 2 == 0 && served.0.capabilities().zero_copy;
            served.0.send(Payload::new(&bytes).shared(if has_block { &blocks } else { &[] })).unwrap();
            assert_eq!(calling.join().unwrap(), answer);
        });
        served.send(REPLY, first, b"one");
        assert_eq!(events.drive_asleep(&caller, |cx| call.poll_next(cx)).unwrap().unwrap(), b"one");
    }
}

/// The loop finds a thread that receives for all, which then leaves.
fn a_loop_that_begins_to_wait_beside_a_thread_that_receives_hears_its_answer(transport: Transport) {
    let (caller, mut served, _base) = by_hand(transport);
    // The greeting is received.
    drop(drive(&caller, |cx| caller.poll_call_stream("greet", cx)).unwrap());
    let (greet, _) = served.request();
    assert_eq!(served.recv().0, CANCEL);
    served.send(REPLY, greet, b"late");
    let events = Events::new();
    thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call_timeout("the thread", DEADLINE).unwrap());
        let (second, _) = served.request();
        let Poll::Ready(call) = caller.poll_call("the loop", &mut Context::from_waker(&events.1)) else {
            panic!("a request was not sent");
        };
        let mut call = call.unwrap();
        let (first, _) = served.request();
        assert!(call.poll_next(&mut Context::from_waker(&events.1)).is_pending());
        while caller.advance().unwrap() {}
        served.send(REPLY, second, b"two");
        assert_eq!(calling.join().unwrap(), b"two");
        served.send(REPLY, first, b"one");
        assert_eq!(events.drive_asleep(&caller, |cx| call.poll_next(cx)).unwrap().unwrap(), b"one");
    });
}

fn a_loop_learns_that_the_connection_has_ended(transport: Transport) {
    let (caller, served, _base) = by_hand(transport);
    while caller.advance().unwrap() {}
    assert!(!caller.has_ended());
    drop(served);
    let started = Instant::now();
    while !caller.has_ended() {
        if !caller.advance().unwrap() && !caller.has_ended() {
            wait(&caller, &[]);
        }
        assert!(started.elapsed() < DEADLINE);
    }
}

fn the_end_of_the_server_wakes_every_call(transport: Transport) {
    let (caller, mut served, _base) = by_hand(transport);
    let mut first = drive(&caller, |cx| caller.poll_call("one", cx)).unwrap();
    let mut second = drive(&caller, |cx| caller.poll_call_stream("two", cx)).unwrap();
    served.request();
    served.request();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    assert!(first.poll_next(&mut context).is_pending());
    assert!(second.poll_next(&mut context).is_pending());
    assert!(caller.poll_push(&mut context).is_pending());
    drop(served);
    let error = drive(&caller, |cx| first.poll_next(cx)).unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::Truncated), "{error}");
    assert!(count.get() >= 2);
    assert!(drive(&caller, |cx| second.poll_next(cx)).unwrap().is_err());
    assert!(drive(&caller, |cx| caller.poll_call("three", cx)).is_err());
}

fn dropping_a_stream_tells_the_server(transport: Transport) {
    let (caller, mut served, _base) = by_hand(transport);
    let call = drive(&caller, |cx| caller.poll_call_stream("list", cx)).unwrap();
    let (id, _) = served.request();
    drop(call);
    assert_eq!(served.recv(), (CANCEL, id, Vec::new()));
}

fn pushed_messages_wake_who_waits_for_one(transport: Transport) {
    let serving = Serving::new(transport, echo);
    let caller = serving.caller();
    assert_eq!(call(&caller, b"greet"), b"greet");
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    assert!(caller.poll_push(&mut Context::from_waker(&waker)).is_pending());
    serving.pusher.push_all("tick").unwrap();
    assert_eq!(drive(&caller, |cx| caller.poll_push(cx)).unwrap().unwrap(), b"tick");
    assert_eq!(count.get(), 1);
}

fn many_items_in_the_thread_that_serves_wait_for_their_client(transport: Transport) {
    const ITEMS: usize = 100;
    let base = Base::new();
    let address = base.address(transport, "calls");
    let mut server = CallServer::new(Server::bind(&address).unwrap()).unwrap();
    let calling = thread::spawn(move || {
        let caller = Caller::connect(&address).unwrap();
        let items: Vec<usize> = caller.call_stream("list").unwrap().map(|item| item.unwrap().len()).collect();
        let dropped = caller.call_stream("wait").unwrap();
        drop(dropped);
        // The cancellation is sent before the connection ends.
        (items, caller)
    });
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let call = server.next_call_timeout(DEADLINE).unwrap();
    assert!(call.poll_cancelled(&mut context).is_pending());
    let item = vec![3; 100_000];
    let started = Instant::now();
    let mut sent = 0;
    let mut has_waited = false;
    while sent < ITEMS {
        match call.poll_item(&item, &mut context) {
            Poll::Ready(result) => {
                result.unwrap();
                sent += 1;
            }
            Poll::Pending => {
                has_waited = true;
                let before = count.get();
                while count.get() == before {
                    let serving = server.next_call_timeout(Duration::from_millis(1));
                    assert_eq!(serving.unwrap_err().kind(), ErrorKind::TimedOut);
                    assert!(started.elapsed() < DEADLINE);
                }
            }
        }
    }
    assert!(has_waited);
    call.end().unwrap();
    let call = server.next_call_timeout(DEADLINE).unwrap();
    while call.poll_cancelled(&mut context).is_pending() {
        assert_eq!(server.next_call_timeout(Duration::from_millis(1)).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(started.elapsed() < DEADLINE);
    }
    let (items, _caller) = calling.join().unwrap();
    assert_eq!(items, [100_000; ITEMS]);
}

fn a_stream_that_is_polled_between_advances_keeps_little(transport: Transport) {
    const ITEMS: usize = 100;
    let serving = Serving::new(transport, |call| {
        thread::spawn(move || {
            for _ in 0..ITEMS {
                call.item(&vec![5; 100_000]).unwrap();
            }
            call.end().unwrap();
        });
    });
    let caller = serving.caller();
    let mut stream = drive(&caller, |cx| caller.poll_call_stream("list", cx)).unwrap();
    for _ in 0..ITEMS {
        assert_eq!(drive(&caller, |cx| stream.poll_next(cx)).unwrap().unwrap().len(), 100_000);
    }
    assert!(drive(&caller, |cx| stream.poll_next(cx)).is_none());
}
