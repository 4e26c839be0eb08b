//! Calls of values, from tasks and to a server of tasks.

use std::future::{pending, poll_fn};
use std::pin::Pin;

use futures_core::Stream;
use parlour::tokio::{CallServer, CallSession, Caller, Served, Server, TypedCall, TypedCallSession, TypedCaller};
use parlour::{ErrorKind, Transport};
use serde::{Deserialize, Serialize};

use crate::support::{Base, DEADLINE, assert_tells, trials};
use crate::tasks::run;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Request {
    Double(u32),
    Count(u32),
    Fail,
    Wait,
}

trials! {
    for transport in Transport::ALL =>
        values_are_called_and_answered_by_tasks_format(format in FORMATS),
        a_typed_call_of_a_task_learns_that_it_was_cancelled,
        typed_callers_that_block_understand_typed_servers_of_tasks,
        a_session_of_values_logs_in_with_values_after_each_restart_of_tasks_format(format in FORMATS);
}

#[derive(Clone, Copy)]
enum Format {
    Postcard,
    Json,
}

const FORMATS: [(&str, Format); 2] = [("in_postcard", Format::Postcard), ("in_json", Format::Json)];

impl Format {
    async fn serve(self, server: Server) -> parlour::Result<Served> {
        match self {
            Self::Postcard => server.serve_typed_calls(answer, pending(), DEADLINE).await,
            Self::Json => server.serve_typed_json_calls(answer, pending(), DEADLINE).await,
        }
    }

    fn typed<S, R>(self, caller: Caller) -> TypedCaller<S, R> {
        match self {
            Self::Postcard => caller.typed(),
            Self::Json => caller.typed_json(),
        }
    }
}

async fn answer(request: Request, call: TypedCall<u64>) {
    match request {
        Request::Double(number) => call.reply(&(u64::from(number) * 2)).unwrap(),
        Request::Count(count) => {
            for number in 0..u64::from(count) {
                call.item(&number).await.unwrap();
            }
            call.end().unwrap();
        }
        Request::Fail => call.fail("as it was told").unwrap(),
        Request::Wait => {
            call.cancelled().await.unwrap();
            assert!(call.is_cancelled() && call.client() > 0 && call.peer().uid().is_some());
        }
    }
}

fn values_are_called_and_answered_by_tasks_format(transport: Transport, (_, format): (&str, Format)) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "values");
        let server = Server::bind(&address).unwrap();
        let shutdown = server.shutdown_handle();
        let serving = tokio::spawn(async move { format.serve(server).await });
        let caller: TypedCaller<Request, u64> = format.typed(Caller::connect(&address).await.unwrap());
        let (two, four, fail) = (Request::Double(1), Request::Double(2), Request::Fail);
        let (two, four, error) = tokio::join!(caller.call(&two), caller.call(&four), caller.call(&fail));
        assert_eq!((two.unwrap(), four.unwrap()), (2, 4));
        assert_eq!(error.unwrap_err().failure(), Some("as it was told"));

        let mut stream = caller.call_stream(&Request::Count(3)).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), 0);
        assert_eq!(poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await.unwrap().unwrap(), 1);
        assert_eq!(stream.next().await.unwrap().unwrap(), 2);
        assert!(stream.next().await.is_none());

        // Bytes that are no request do not reach the handler, and an answer of another type is an error.
        let error = caller.caller().call(b"\xff\xff").await.unwrap_err();
        assert!(error.failure().unwrap().contains("not a valid value"), "{error}");
        let other: TypedCaller<Request, (String, String)> = format.typed(caller.into_caller());
        let error = other.call(&Request::Double(7)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encoding);
        assert_tells(&error);
        let mut stream = other.call_stream(&Request::Double(7)).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap_err().kind(), ErrorKind::Encoding);
        assert!(stream.next().await.is_none());
        drop((stream, other));
        shutdown.shutdown();
        serving.await.unwrap().unwrap();
    });
}

fn a_typed_call_of_a_task_learns_that_it_was_cancelled(transport: Transport) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "values");
        let server = CallServer::new(Server::bind(&address).unwrap()).calls_max(1);
        let shutdown = server.server().shutdown_handle();
        let serving = tokio::spawn(server.serve_typed(answer, pending(), DEADLINE));
        let caller = Caller::connect(&address).await.unwrap().typed::<Request, u64>();
        let stream = caller.call_stream(&Request::Wait).await.unwrap();
        drop(stream);
        // The only place is free when the handler has ended.
        loop {
            match caller.call(&Request::Double(1)).await {
                Ok(answer) => break assert_eq!(answer, 2),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Busy),
            }
        }
        drop(caller);
        shutdown.shutdown();
        serving.await.unwrap().unwrap();
    });
}

fn typed_callers_that_block_understand_typed_servers_of_tasks(transport: Transport) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "values");
        let server = Server::bind(&address).unwrap();
        let shutdown = server.shutdown_handle();
        let serving = tokio::spawn(server.serve_typed_calls(answer, pending(), DEADLINE));
        let calling = tokio::task::spawn_blocking(move || {
            let caller = parlour::Caller::connect(&address).unwrap().typed::<Request, u64>();
            assert_eq!(caller.call_timeout(&Request::Double(21), DEADLINE).unwrap(), 42);
            let counted: Vec<u64> = caller.call_stream(&Request::Count(4)).unwrap().map(Result::unwrap).collect();
            assert_eq!(counted, [0, 1, 2, 3]);
        });
        calling.await.unwrap();
        shutdown.shutdown();
        serving.await.unwrap().unwrap();
    });
}

fn a_session_of_values_logs_in_with_values_after_each_restart_of_tasks_format(
    transport: Transport,
    (_, format): (&'static str, Format),
) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "calls");
        let session = CallSession::new(&address).unwrap();
        let session: TypedCallSession<Request, u64> = match format {
            Format::Postcard => session.typed(),
            Format::Json => session.typed_json(),
        };
        let session = session.on_connect(|caller| async move {
            assert_eq!(caller.call(&Request::Double(1)).await?, 2);
            Ok(())
        });
        for round in 1..=2 {
            let server = Server::bind(&address).unwrap();
            let shutdown = server.shutdown_handle();
            let serving = tokio::spawn(format.serve(server));
            assert_eq!(session.call(&Request::Double(round)).await.unwrap(), u64::from(round) * 2);
            let mut stream = session.call_stream(&Request::Count(2)).await.unwrap();
            for expected in 0..2 {
                assert_eq!(stream.next().await.unwrap().unwrap(), expected);
            }
            assert!(stream.next().await.is_none());
            drop(stream);
            assert_eq!(session.call(&Request::Fail).await.unwrap_err().kind(), ErrorKind::CallFailed);
            shutdown.shutdown();
            serving.await.unwrap().unwrap();
            assert_eq!(session.session().next_push().await.unwrap_err().kind(), ErrorKind::Lost);
        }
    });
}
