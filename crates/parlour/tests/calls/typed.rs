//! Calls whose requests and answers are values.

use std::thread;

use parlour::calls::{TypedCall, TypedCallSession, TypedCaller};
use parlour::{CallSession, Caller, ErrorKind, Server, Transport};
use serde::{Deserialize, Serialize};

use crate::support::{Base, DEADLINE, assert_tells, trials};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Request {
    Double(u32),
    Count(u32),
    Fail,
}

trials! {
    for transport in Transport::ALL =>
        values_are_called_and_answered_format(format in FORMATS),
        calls_in_json_are_texts_for_any_language,
        a_session_of_values_logs_in_with_values_after_each_restart_format(format in SESSION_FORMATS);
}

/// Functions that serve calls and that make a caller, in the same format.
type Format = (&'static str, Serve, Call, WrongCall);
type Serve = fn(Server) -> parlour::Result<()>;
type Call = fn(Caller) -> TypedCaller<Request, u64>;
/// A caller that takes the answers for values of another type.
type WrongCall = fn(Caller) -> TypedCaller<Request, (String, String)>;

const FORMATS: [Format; 2] = [
    ("in_postcard", |server| server.serve_typed_calls(answer), Caller::typed, Caller::typed),
    ("in_json", |server| server.serve_typed_json_calls(answer), Caller::typed_json, Caller::typed_json),
];

fn answer(request: Request, call: TypedCall<u64>) {
    match request {
        Request::Double(number) => call.reply(&(u64::from(number) * 2)).unwrap(),
        Request::Count(count) => {
            (0..u64::from(count)).try_for_each(|number| call.item(&number)).unwrap();
            call.end().unwrap();
        }
        Request::Fail => call.fail("as it was told").unwrap(),
    }
}

fn values_are_called_and_answered_format(transport: Transport, (_, serve, typed, wrongly_typed): Format) {
    let base = Base::new();
    let address = base.address(transport, "values");
    let server = Server::bind(&address).unwrap();
    let shutdown = server.shutdown_handle();
    let serving = thread::spawn(move || serve(server));
    let caller = typed(Caller::connect(&address).unwrap());
    thread::scope(|scope| {
        for thread in 0..4 {
            let caller = &caller;
            scope.spawn(move || {
                let answer = caller.call_timeout(&Request::Double(thread), DEADLINE).unwrap();
                assert_eq!(answer, u64::from(thread) * 2);
            });
        }
    });
    let counted: Vec<u64> = caller.call_stream(&Request::Count(5)).unwrap().map(Result::unwrap).collect();
    assert_eq!(counted, [0, 1, 2, 3, 4]);
    assert_eq!(caller.call(&Request::Fail).unwrap_err().failure(), Some("as it was told"));
    // Bytes that are no request do not reach the handler, and an answer of another type is an error.
    let error = caller.caller().call_timeout(b"\xff\xff", DEADLINE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CallFailed);
    let other = wrongly_typed(caller.into_caller());
    let error = other.call(&Request::Double(7)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encoding);
    assert_tells(&error);
    shutdown.shutdown();
    serving.join().unwrap().unwrap();
}

fn calls_in_json_are_texts_for_any_language(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "values");
    let server = Server::bind(&address).unwrap();
    let shutdown = server.shutdown_handle();
    let serving = thread::spawn(move || server.serve_typed_json_calls(answer));
    let caller = Caller::connect(&address).unwrap();
    assert_eq!(caller.call_timeout(r#"{"Double": 21}"#, DEADLINE).unwrap(), b"42");
    let error = caller.call_timeout(r#"{"Triple": 21}"#, DEADLINE).unwrap_err();
    assert!(error.failure().unwrap().contains("not a valid value"), "{error}");
    assert_eq!(caller.call_timeout(r#""Fail""#, DEADLINE).unwrap_err().failure(), Some("as it was told"));
    shutdown.shutdown();
    serving.join().unwrap().unwrap();
}

const SESSION_FORMATS: [(&str, bool); 2] = [("in_postcard", false), ("in_json", true)];

fn a_session_of_values_logs_in_with_values_after_each_restart_format(
    transport: Transport,
    (_, is_json): (&'static str, bool),
) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let session = CallSession::new(&address).unwrap();
    let session: TypedCallSession<Request, u64> = if is_json { session.typed_json() } else { session.typed() };
    let session = session.on_connect(|caller| {
        assert_eq!(caller.call_timeout(&Request::Double(1), DEADLINE)?, 2);
        Ok(())
    });
    for round in 1..=2 {
        let server = Server::bind(&address).unwrap();
        let shutdown = server.shutdown_handle();
        let serving = thread::spawn(move || {
            let mut doubled = Vec::new();
            let answer_and_note = |request, call| {
                if let Request::Double(number) = request {
                    doubled.push(number);
                }
                answer(request, call);
            };
            match is_json {
                true => server.serve_typed_json_calls(answer_and_note).unwrap(),
                false => server.serve_typed_calls(answer_and_note).unwrap(),
            }
            doubled
        });
        assert_eq!(session.call_timeout(&Request::Double(round), DEADLINE).unwrap(), u64::from(round) * 2);
        let counted: Vec<_> = session.call_stream(&Request::Count(3)).unwrap().map(Result::unwrap).collect();
        assert_eq!(counted, [0, 1, 2]);
        assert_eq!(session.call(&Request::Fail).unwrap_err().kind(), ErrorKind::CallFailed);
        shutdown.shutdown();
        assert_eq!(serving.join().unwrap(), [1, round], "it logs in first");
        // The report shows that the session has noticed the end.
        assert_eq!(session.session().next_push().unwrap_err().kind(), ErrorKind::Lost);
    }
}
