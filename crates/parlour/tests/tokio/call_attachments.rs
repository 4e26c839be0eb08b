//! Requests of tasks with descriptors or shared memory.

use std::fs::File;
use std::future::pending;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use parlour::tokio::{Call, Caller, Connection};
use parlour::{ErrorKind, Payload, ServerOptions, SharedBytes, ShutdownHandle, Transport};

use crate::call_bytes::{CALLER_GREETING, REPLY, SERVER_GREETING, message, parse};
use crate::support::{Base, DEADLINE, assert_tells, data, trials};
use crate::tasks::run;

trials! {
    for transport in Transport::ALL =>
        descriptors_of_a_request_reach_the_server_of_tasks,
        shared_memory_of_a_request_reaches_the_server_of_tasks,
        an_answer_with_descriptors_fails_at_its_caller;

    for transport in [Transport::Unix, Transport::Packet] =>
        requests_with_attachments_keep_their_place_among_long_ones;
}

/// Answers with the byte that it has written to each descriptor, with the shared memory, or with the request.
async fn answer(mut call: Call) {
    let mut request = call.take_request();
    let answered = match request.first() {
        Some(b'd') => {
            for fd in request.take_fds() {
                File::from(fd).write_all(b"x").unwrap();
            }
            call.reply("written")
        }
        Some(b's') => {
            let blocks = request.take_shared().unwrap();
            call.reply(&blocks[0][..])
        }
        Some(b'r') => {
            let (reader, _writer) = rustix::pipe::pipe().unwrap();
            let fds = [reader.as_fd()];
            let error = call.reply(Payload::new(b"back").fds(&fds)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert_tells(&error);
            return;
        }
        _ => call.reply(&request),
    };
    answered.unwrap();
}

struct Serving {
    address: String,
    shutdown: ShutdownHandle,
    _base: Base,
}

impl Serving {
    fn new(transport: Transport) -> Self {
        let base = Base::new();
        let address = base.address(transport, "calls");
        let server = ServerOptions::new().fds_max(4).bind_tokio(&address).unwrap();
        let shutdown = server.shutdown_handle();
        tokio::spawn(server.serve_calls(answer, pending(), DEADLINE));
        Self { address, shutdown, _base: base }
    }

    async fn caller(&self) -> Caller {
        Caller::connect(&self.address).await.unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.shutdown.shutdown();
    }
}

fn descriptors_of_a_request_reach_the_server_of_tasks(transport: Transport) {
    run(async {
        let serving = Serving::new(transport);
        let caller = serving.caller().await;
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let fds = [writer.as_fd(), writer.as_fd()];
        let called = caller.call(Payload::new(b"descriptors").fds(&fds)).await;
        if [Transport::Unix, Transport::Packet].contains(&transport) {
            assert_eq!(called.unwrap(), b"written");
            let (mut reader, mut bytes) = (File::from(reader), [0; 2]);
            reader.read_exact(&mut bytes).unwrap();
            // No copy is left anywhere.
            drop(writer);
            assert_eq!(reader.read(&mut bytes).unwrap(), 0);
        } else {
            let error = called.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert_tells(&error);
        }
        assert_eq!(caller.call("plain").await.unwrap(), b"plain");
        assert_eq!(caller.stats().open, 0);
    });
}

fn shared_memory_of_a_request_reaches_the_server_of_tasks(transport: Transport) {
    run(async {
        let serving = Serving::new(transport);
        let caller = serving.caller().await;
        let content = data::message(1, 100_000);
        let block = SharedBytes::new(content).unwrap();
        let called = caller.call(Payload::new(b"shared").shared(&[&block])).await;
        match transport {
            Transport::Fifo => assert_eq!(called.unwrap_err().kind(), ErrorKind::Unsupported),
            _ => data::check(&called.unwrap(), 1, 100_000),
        }
        assert_eq!(caller.call("plain").await.unwrap(), b"plain");
    });
}

/// The server takes nothing until all requests wait.
fn requests_with_attachments_keep_their_place_among_long_ones(transport: Transport) {
    const LONG: usize = 3 << 20;
    run(async {
        let base = Base::new();
        let address = base.address(transport, "calls");
        let server = ServerOptions::new().fds_max(4).bind_tokio(&address).unwrap();
        let (connected, accepted) = tokio::join!(Connection::connect(&address), server.accept());
        let (caller, mut served) = (Caller::new(connected.unwrap()).unwrap(), accepted.unwrap());
        assert_eq!(served.recv().await.unwrap().unwrap(), CALLER_GREETING);
        served.send(SERVER_GREETING).await.unwrap();
        let null: OwnedFd = File::open("/dev/null").unwrap().into();
        let fds = [null.as_fd()];
        let long = data::message(0, LONG);
        let payload = || Payload::new(b"descriptor").fds(&fds);
        let calling = async {
            let calls = tokio::join!(
                caller.call(long),
                caller.call(payload()),
                caller.call("plain"),
                caller.call(payload()),
                caller.call(payload())
            );
            for answer in [calls.0, calls.1, calls.2, calls.3, calls.4] {
                assert_eq!(answer.unwrap(), b"done");
            }
        };
        tokio::join!(calling, serve_in_order(&mut served, LONG));
    });
}

async fn serve_in_order(served: &mut Connection, long: usize) {
    let (mut ids, mut attached) = (Vec::new(), 0);
    for _ in 0..5 {
        // The caller goes on until the channel is full.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let mut request = served.recv().await.unwrap().unwrap();
        attached += request.take_fds().len();
        let (_, id, payload) = parse(&request);
        match payload.len() {
            length if length == long => data::check(&payload, 0, long),
            _ => assert!([&b"descriptor"[..], b"plain"].contains(&&*payload)),
        }
        ids.push(id);
    }
    assert_eq!(attached, 3);
    assert!(ids.is_sorted());
    for id in ids.into_iter().rev() {
        served.send(&message(REPLY, id, b"done")).await.unwrap();
    }
}

fn an_answer_with_descriptors_fails_at_its_caller(transport: Transport) {
    run(async {
        let serving = Serving::new(transport);
        let error = serving.caller().await.call("return one").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CallFailed);
    });
}
