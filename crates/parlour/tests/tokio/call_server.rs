//! A server of calls with options, which pushes messages.

use std::future::pending;
use std::sync::Arc;

use parlour::calls::Pusher;
use parlour::tokio::{Call, CallServer, Caller, Connection, Served, Server};
use parlour::{ErrorKind, ShutdownHandle, Transport};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinHandle;

use crate::call_bytes::{CALLER_GREETING, PUSH, SERVER_GREETING, parse};
use crate::support::{Base, DEADLINE, assert_tells, data, trials};
use crate::tasks::run;

trials! {
    for transport in Transport::ALL =>
        pushed_messages_reach_one_client_or_all_from_any_thread,
        a_client_that_takes_no_pushed_messages_is_disconnected_alone,
        a_client_that_has_not_greeted_gets_no_pushed_message,
        pushed_messages_that_no_task_takes_yet_are_refused_as_a_whole,
        a_task_with_too_many_open_calls_or_bytes_is_told;
}

struct Serving {
    address: String,
    pusher: Pusher,
    shutdown: ShutdownHandle,
    task: JoinHandle<parlour::Result<Served>>,
    _base: Base,
}

impl Serving {
    fn new<F: Future<Output = ()> + Send + 'static>(
        transport: Transport,
        options: impl FnOnce(CallServer) -> CallServer,
        handler: impl Fn(Call) -> F + Send + Sync + 'static,
    ) -> Self {
        let base = Base::new();
        let address = base.address(transport, "calls");
        let server = options(CallServer::new(Server::bind(&address).unwrap()));
        let (pusher, shutdown) = (server.pusher(), server.server().shutdown_handle());
        let task = tokio::spawn(server.serve(handler, pending(), DEADLINE));
        Self { address, pusher, shutdown, task, _base: base }
    }

    async fn caller(&self) -> Caller {
        Caller::connect(&self.address).await.unwrap()
    }

    async fn end(self) {
        self.shutdown.shutdown();
        self.task.await.unwrap().unwrap();
        assert_eq!(self.pusher.push_all("late").unwrap_err().kind(), ErrorKind::Shutdown);
    }
}

/// Answers with the number of the client.
async fn who(call: Call) {
    let number = call.client().to_be_bytes();
    call.reply(&number).unwrap();
}

async fn number_of(caller: &Caller) -> u64 {
    let number: &[u8] = &caller.call("who").await.unwrap();
    u64::from_be_bytes(number.try_into().unwrap())
}

fn pushed_messages_reach_one_client_or_all_from_any_thread(transport: Transport) {
    run(async {
        let serving = Serving::new(transport, |server| server, who);
        let callers = [serving.caller().await, serving.caller().await];
        let _first = number_of(&callers[0]).await;
        let second = number_of(&callers[1]).await;
        let pusher = serving.pusher.clone();
        let pushing = std::thread::spawn(move || {
            pusher.push(second, "to the second").unwrap();
            pusher.push_all("to all").unwrap();
            pusher.push(77, "to nobody").unwrap();
            let error = pusher.push_all(&vec![0; 16 << 20]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::MessageTooLong);
            assert_tells(&error);
        });
        assert_eq!(callers[0].next_push().await.unwrap().unwrap(), b"to all");
        for expected in [&b"to the second"[..], b"to all"] {
            assert_eq!(callers[1].next_push().await.unwrap().unwrap(), expected);
        }
        pushing.join().unwrap();
        drop(callers);
        serving.end().await;
    });
}

fn a_client_that_takes_no_pushed_messages_is_disconnected_alone(transport: Transport) {
    const COUNT: usize = 300;
    run(async {
        let serving = Serving::new(transport, |server| server, who);
        let caller = serving.caller().await;
        number_of(&caller).await;
        let mut slow = greeted(&serving.address).await;
        for number in 0..COUNT {
            serving.pusher.push_all(data::message(number, 64 * 1024)).unwrap();
            data::check(&caller.next_push().await.unwrap().unwrap(), number, 64 * 1024);
        }
        let mut received = 0;
        while let Ok(Some(message)) = slow.recv().await {
            let (kind, _, payload) = parse(&message);
            assert_eq!(kind, PUSH);
            data::check(&payload, received, 64 * 1024);
            received += 1;
        }
        assert!(received < COUNT, "{received}");
        drop(caller);
        serving.end().await;
    });
}

async fn greeted(address: &str) -> Connection {
    let mut connection = Connection::connect(address).await.unwrap();
    connection.send(CALLER_GREETING).await.unwrap();
    assert_eq!(connection.recv().await.unwrap().unwrap(), SERVER_GREETING);
    connection
}

fn a_client_that_has_not_greeted_gets_no_pushed_message(transport: Transport) {
    run(async {
        let serving = Serving::new(transport, |server| server, who);
        let caller = serving.caller().await;
        let mut silent = Connection::connect(&serving.address).await.unwrap();
        number_of(&caller).await;
        serving.pusher.push_all("early").unwrap();
        assert_eq!(caller.next_push().await.unwrap().unwrap(), b"early");
        silent.send(CALLER_GREETING).await.unwrap();
        assert_eq!(silent.recv().await.unwrap().unwrap(), SERVER_GREETING);
        drop((silent, caller));
        serving.end().await;
    });
}

fn pushed_messages_that_no_task_takes_yet_are_refused_as_a_whole(transport: Transport) {
    run(async {
        let serving = Serving::new(transport, |server| server, who);
        let callers = [serving.caller().await, serving.caller().await];
        let first = number_of(&callers[0]).await;
        number_of(&callers[1]).await;
        // The runtime has one thread, which is here, so no task takes anything.
        let long = vec![0; 600_000];
        serving.pusher.push(first, &long).unwrap();
        for error in [serving.pusher.push(first, &long), serving.pusher.push_all(&long)] {
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Busy);
            assert_tells(&error);
        }
        serving.pusher.push_all("short").unwrap();
        assert_eq!(callers[0].next_push().await.unwrap().unwrap().len(), long.len());
        for caller in &callers {
            assert_eq!(caller.next_push().await.unwrap().unwrap(), b"short");
        }
        drop(callers);
        serving.end().await;
    });
}

fn a_task_with_too_many_open_calls_or_bytes_is_told(transport: Transport) {
    run(async {
        let (give, mut given) = unbounded_channel();
        let limited = |server: CallServer| server.calls_max(2).request_bytes_max(1000);
        let serving = Serving::new(transport, limited, move |call: Call| {
            give.send(call).unwrap();
            async {}
        });
        let caller = Arc::new(serving.caller().await);
        let call = |length: usize| {
            let caller = Arc::clone(&caller);
            tokio::spawn(async move { caller.call(&vec![0; length]).await })
        };
        let long = call(2000);
        let first = given.recv().await.unwrap();
        let error = call(1).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.to_string().contains("too many bytes"), "{error}");
        first.reply("done").unwrap();
        assert_eq!(long.await.unwrap().unwrap(), b"done");

        let open = [call(10), call(10)];
        let held = [given.recv().await.unwrap(), given.recv().await.unwrap()];
        let error = call(10).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.to_string().contains("too many open calls"), "{error}");
        held.into_iter().for_each(|call| call.reply("done").unwrap());
        for call in open {
            assert_eq!(call.await.unwrap().unwrap(), b"done");
        }
        drop(caller);
        serving.end().await;
    });
}
