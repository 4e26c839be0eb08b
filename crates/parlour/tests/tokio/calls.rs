//! Calls from tasks, and to a server with a task for each call.

use std::future::pending;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parlour::calls::CallerStats;
use parlour::tokio::{Call, Caller, Connection, Server};
use parlour::{ErrorKind, Transport, TryRecvError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::call_bytes::{
    CALLER_GREETING, CANCEL, END, ERROR, ITEM, LEAVE, PUSH, REPLY, REQUEST, SERVER_GREETING, message, parse,
};
use crate::support::{Base, DEADLINE, assert_tells, data, trials};
use crate::tasks::{Link, run};

/// Passes while a call of the test waits.
const SHORT: Duration = Duration::from_millis(20);

trials! {
    for transport in Transport::ALL =>
        each_task_gets_its_own_answer_and_a_slow_call_delays_no_other,
        a_late_answer_to_a_task_is_not_taken_for_that_of_the_next_call,
        a_call_whose_future_is_dropped_is_cancelled,
        a_stream_of_a_task_arrives_in_order_and_is_cancelled_when_it_is_dropped,
        pushed_messages_reach_a_task,
        long_messages_in_both_directions_arrive,
        a_server_that_is_not_one_of_calls_is_an_error_for_a_task,
        the_end_of_the_server_ends_the_calls_of_every_task,
        a_client_that_has_gone_cancels_its_calls,
        a_shutdown_waits_for_open_calls_and_begins_none,
        a_request_that_arrives_after_the_shutdown_is_refused_by_the_task_of_its_client,
        blocking_callers_and_servers_of_tasks_understand_each_other,
        dropping_the_caller_ends_its_connection;
}

/// A server of calls in a task: `fail` fails, `drop` is dropped, `slow` waits for its cancellation, `list N` answers
/// with N items, and everything else is echoed.
async fn answer(mut call: Call) {
    let request = call.take_request();
    let text = String::from_utf8_lossy(&request).into_owned();
    let answered = match text.split_once(' ') {
        Some(("list", count)) => {
            for number in 0..count.parse().unwrap() {
                if call.item(data::message(number, number % 10_000)).await.is_err() {
                    return;
                }
            }
            call.end()
        }
        _ if text == "fail" => call.fail("as it was told"),
        _ if text == "drop" => return,
        _ if text == "slow" => {
            call.cancelled().await.unwrap();
            assert!(call.is_cancelled());
            call.reply("too late")
        }
        _ => call.reply(&request),
    };
    // An error means that nobody waits for the answer.
    drop(answered);
}

struct Serving {
    address: String,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<parlour::Result<parlour::tokio::Served>>,
    _base: Base,
}

impl Serving {
    fn new(transport: Transport, grace: Duration) -> Self {
        let base = Base::new();
        let address = base.address(transport, "calls");
        let server = Server::bind(&address).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move { server.serve_calls(answer, async { drop(stopped.await) }, grace).await });
        Self { address, stop: Some(stop), task, _base: base }
    }

    async fn end(mut self) -> parlour::tokio::Served {
        drop(self.stop.take());
        self.task.await.unwrap().unwrap()
    }
}

/// Returns a caller, and its server, which has greeted.
async fn by_hand(transport: Transport) -> (Caller, Connection, Base) {
    let Link { client, mut served, _server, _base } = Link::new(transport).await;
    let caller = Caller::new(client).unwrap();
    assert_eq!(served.recv().await.unwrap().unwrap(), CALLER_GREETING);
    served.send(SERVER_GREETING).await.unwrap();
    (caller, served, _base)
}

async fn next(server: &mut Connection) -> (u8, u32, Vec<u8>) {
    parse(&server.recv().await.unwrap().expect("a message"))
}

fn each_task_gets_its_own_answer_and_a_slow_call_delays_no_other(transport: Transport) {
    run(async {
        let serving = Serving::new(transport, DEADLINE);
        let caller = Arc::new(Caller::connect(&serving.address).await.unwrap());
        let slow = {
            let caller = Arc::clone(&caller);
            tokio::spawn(async move { timeout(Duration::from_millis(100), caller.call("slow")).await.is_err() })
        };
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let caller = Arc::clone(&caller);
                tokio::spawn(async move {
                    for number in 0..50 {
                        let request = data::message(task * 100 + number, 10 + number);
                        assert_eq!(caller.call(request).await.unwrap(), request);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(slow.await.unwrap(), "nobody answers this call");
        let failed = caller.call("fail").await.unwrap_err();
        assert_eq!((failed.kind(), failed.failure()), (ErrorKind::CallFailed, Some("as it was told")));
        assert_eq!(caller.call("drop").await.unwrap_err().kind(), ErrorKind::CallFailed);
        assert_eq!(caller.stats(), CallerStats::default());
        drop(caller);
        assert_eq!(serving.end().await.finished, 1);
    });
}

fn a_late_answer_to_a_task_is_not_taken_for_that_of_the_next_call(transport: Transport) {
    run(async {
        let (caller, mut server, _base) = by_hand(transport).await;
        assert!(timeout(SHORT, caller.call("A")).await.is_err());
        let (_, a, _) = next(&mut server).await;
        assert_eq!(next(&mut server).await, (CANCEL, a, Vec::new()));
        let answering = async {
            let (_, b, request) = next(&mut server).await;
            assert_eq!(request, b"B");
            server.send(&message(REPLY, a, b"answer to A")).await.unwrap();
            server.send(&message(REPLY, b, b"answer to B")).await.unwrap();
        };
        let (answer, ()) = tokio::join!(caller.call("B"), answering);
        assert_eq!(answer.unwrap(), b"answer to B");
        assert_eq!((caller.stats().late_answers, caller.stats().open), (1, 0));
    });
}

fn a_call_whose_future_is_dropped_is_cancelled(transport: Transport) {
    run(async {
        let (caller, mut server, _base) = by_hand(transport).await;
        for _ in 0..20 {
            // Wherever it is dropped, the call was not begun, or it is cancelled.
            drop(crate::tasks::polled(1, caller.call("work")).await);
            assert_eq!(caller.stats().open, 0);
            tokio::task::yield_now().await;
        }
        let ended = async {
            let mut open = None;
            loop {
                match next(&mut server).await {
                    (CANCEL, id, _) => assert_eq!(open.take(), Some(id)),
                    (_, id, request) if request == b"end" => break server.send(&message(REPLY, id, b"ended")).await,
                    (_, id, _) => assert_eq!(open.replace(id), None),
                }
            }
        };
        let (answer, ended) = tokio::join!(caller.call("end"), ended);
        ended.unwrap();
        assert_eq!(answer.unwrap(), b"ended");
    });
}

fn a_stream_of_a_task_arrives_in_order_and_is_cancelled_when_it_is_dropped(transport: Transport) {
    run(async {
        let serving = Serving::new(transport, DEADLINE);
        let caller = Caller::connect(&serving.address).await.unwrap();
        let mut stream = caller.call_stream("list 500").await.unwrap();
        for number in 0..500 {
            data::check(&stream.next().await.unwrap().unwrap(), number, number % 10_000);
        }
        assert!(stream.next().await.is_none() && stream.next().await.is_none());
        let mut stream = caller.call_stream("list 100000000").await.unwrap();
        stream.next().await.unwrap().unwrap();
        drop(stream);
        assert_eq!(caller.call("done").await.unwrap(), b"done");
        assert_eq!(caller.stats().open, 0);
        drop(caller);
        // The handler of the stream has ended, although it had more to send.
        assert_eq!(serving.end().await.finished, 1);
    });
}

fn pushed_messages_reach_a_task(transport: Transport) {
    run(async {
        let (caller, mut server, _base) = by_hand(transport).await;
        assert!(matches!(caller.try_next_push(), Err(TryRecvError::Empty)));
        let pushing = async {
            for text in ["one", "two"] {
                server.send(&message(PUSH, 0, text.as_bytes())).await.unwrap();
            }
        };
        let (first, ()) = tokio::join!(caller.next_push(), pushing);
        assert_eq!(first.unwrap().unwrap(), b"one");
        assert_eq!(caller.next_push().await.unwrap().unwrap(), b"two");
        drop(server);
        assert_eq!(caller.next_push().await.unwrap(), None);
    });
}

fn long_messages_in_both_directions_arrive(transport: Transport) {
    const LENGTH: usize = 2 << 20;
    run(async {
        let serving = Serving::new(transport, DEADLINE);
        let caller = Caller::connect(&serving.address).await.unwrap();
        let request = |seed| data::message(seed, LENGTH);
        let (one, two, three) = tokio::join!(caller.call(request(1)), caller.call(request(2)), caller.call(request(3)));
        for (seed, answer) in [one, two, three].into_iter().enumerate() {
            data::check(&answer.unwrap(), seed + 1, LENGTH);
        }
        let error = caller.call(data::message(0, 16 << 20)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MessageTooLong);
        assert_tells(&error);
    });
}

fn a_server_that_is_not_one_of_calls_is_an_error_for_a_task(transport: Transport) {
    run(async {
        let Link { client, mut served, _server, _base } = Link::new(transport).await;
        let caller = Caller::new(client).unwrap();
        served.recv().await.unwrap().unwrap();
        served.send("hello").await.unwrap();
        for _ in 0..2 {
            let error = caller.call("work").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert_tells(&error);
        }
        assert!(!matches!(served.recv().await, Ok(Some(_))), "a request was sent");
    });
}

fn the_end_of_the_server_ends_the_calls_of_every_task(transport: Transport) {
    run(async {
        let (caller, mut server, _base) = by_hand(transport).await;
        let ending = async {
            for _ in 0..2 {
                next(&mut server).await;
            }
            drop(server);
        };
        let (one, two, pushed, ()) = tokio::join!(caller.call("one"), caller.call("two"), caller.next_push(), ending);
        for error in [one.unwrap_err(), two.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Disconnected);
        }
        assert_eq!(pushed.unwrap(), None);
        assert_eq!(caller.call("again").await.unwrap_err().kind(), ErrorKind::Disconnected);
    });
}

fn a_client_that_has_gone_cancels_its_calls(transport: Transport) {
    run(async {
        let serving = Serving::new(transport, DEADLINE);
        let caller = Caller::connect(&serving.address).await.unwrap();
        assert!(timeout(SHORT, caller.call("slow")).await.is_err());
        let mut slow = Box::pin(caller.call("slow"));
        assert!(timeout(SHORT, &mut slow).await.is_err());
        drop(slow);
        drop(caller);
        assert_eq!(serving.end().await.finished, 1);
    });
}

fn a_shutdown_waits_for_open_calls_and_begins_none(transport: Transport) {
    run(async {
        let serving = Serving::new(transport, Duration::from_millis(100));
        let caller = Arc::new(Caller::connect(&serving.address).await.unwrap());
        assert_eq!(caller.call("warm").await.unwrap(), b"warm");
        let calling = {
            let caller = Arc::clone(&caller);
            tokio::spawn(async move { caller.call("slow").await.unwrap_err() })
        };
        while caller.stats().open == 0 {
            tokio::task::yield_now().await;
        }
        timeout(SHORT, pending::<()>()).await.unwrap_err();
        // The call that nobody answers is aborted at the end of the grace period.
        assert_eq!(serving.end().await.ended, 1);
        assert_eq!(calling.await.unwrap().kind(), ErrorKind::Disconnected);
    });
}

fn a_request_that_arrives_after_the_shutdown_is_refused_by_the_task_of_its_client(transport: Transport) {
    run(async {
        let mut serving = Serving::new(transport, DEADLINE);
        let mut client = Connection::connect(&serving.address).await.unwrap();
        client.send(CALLER_GREETING).await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), SERVER_GREETING);
        // Nobody answers this call.
        client.send(&message(REQUEST, 1, b"slow")).await.unwrap();
        client.send(&message(REQUEST, 3, b"echo")).await.unwrap();
        assert_eq!(next(&mut client).await, (REPLY, 3, b"echo".to_vec()));
        drop(serving.stop.take());
        assert_eq!(next(&mut client).await, (LEAVE, 0, vec![]));
        client.send(&message(REQUEST, 2, b"late")).await.unwrap();
        let (kind, id, text) = next(&mut client).await;
        assert_eq!((kind, id), (ERROR, 2));
        assert!(String::from_utf8_lossy(&text).contains("has not begun the call"), "{text:?}");
        // The server ends when the open call does.
        client.send(&message(CANCEL, 1, b"")).await.unwrap();
        drop(client);
        assert_eq!(serving.end().await.finished, 1);
    });
}

fn blocking_callers_and_servers_of_tasks_understand_each_other(transport: Transport) {
    run(async {
        let serving = Serving::new(transport, DEADLINE);
        let address = serving.address.clone();
        tokio::task::spawn_blocking(move || {
            let caller = parlour::Caller::connect(&address).unwrap();
            assert_eq!(caller.call_timeout("hello", DEADLINE).unwrap(), b"hello");
            assert_eq!(caller.call_stream("list 20").unwrap().count(), 20);
        })
        .await
        .unwrap();
        serving.end().await;
        let base = Base::new();
        let address = base.address(transport, "blocking");
        let (give, given) = mpsc::channel();
        let server = parlour::Server::bind(&address).unwrap();
        give.send(server.shutdown_handle()).unwrap();
        let serving = tokio::task::spawn_blocking(move || {
            server.serve_calls(|mut call| {
                let request = call.take_request();
                call.reply(&request).unwrap();
            })
        });
        let caller = Caller::connect(&address).await.unwrap();
        assert_eq!(caller.call("hello").await.unwrap(), b"hello");
        given.recv().unwrap().shutdown();
        serving.await.unwrap().unwrap();
    });
}

fn dropping_the_caller_ends_its_connection(transport: Transport) {
    run(async {
        let (caller, mut server, _base) = by_hand(transport).await;
        let stream = {
            let (stream, (_, id, _)) = tokio::join!(caller.call_stream("list"), next(&mut server));
            server.send(&message(ITEM, id, b"one")).await.unwrap();
            server.send(&message(END, id, b"")).await.unwrap();
            stream.unwrap()
        };
        drop(caller);
        let mut stream = stream;
        assert_eq!(stream.next().await.unwrap().unwrap(), b"one");
        drop(stream);
        while let Ok(Some(message)) = server.recv().await {
            assert_eq!(parse(&message).0, CANCEL);
        }
    });
}
