//! Values as messages, over every transport and in every format.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test reports failures by panicking, and a child communicates with its test over stdout"
)]

mod support;

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use parlour::testing::Faulty;
use parlour::{ConnectOptions, Connection, ErrorKind, Server, Transport, TryRecvError, TrySendError, Typed};
use serde::{Deserialize, Serialize};
use support::declare::Value as Named;
use support::{Base, DEADLINE, trials};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Request {
    Add(i64, i64),
    Repeat { text: String, times: u16 },
    Stop,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Response {
    number: u32,
    result: Result<Value, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Value {
    Sum(i64),
    Texts(Vec<String>),
    Nothing,
}

type Client = Typed<Request, Response>;
type Served = Typed<Response, Request>;

/// A format of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Postcard,
    Json,
}

const FORMATS: [Format; 2] = [Format::Postcard, Format::Json];

impl Named for Format {
    fn word(&self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

impl Format {
    fn typed<S: ?Sized, R>(self, connection: Connection) -> Typed<S, R> {
        match self {
            Self::Postcard => connection.typed(),
            Self::Json => connection.typed_json(),
        }
    }

    /// Encodes a value as any other program does.
    fn encode<T: Serialize>(self, value: &T) -> Vec<u8> {
        match self {
            Self::Postcard => postcard::to_stdvec(value).unwrap(),
            Self::Json => serde_json::to_vec(value).unwrap(),
        }
    }
}

trials! {
    for transport in Transport::ALL, format in FORMATS =>
        values_of_two_types_pass_each_way,
        values_arrive_whole_from_a_slow_peer_that_sends_in_pieces,
        the_halves_work_in_two_threads,
        buffered_values_are_written_together_and_before_receiving_sleeps,
        a_value_that_does_not_fit_is_returned,
        try_recv_distinguishes_empty_from_the_end,
        receiving_gives_up_at_its_deadline,
        a_message_that_is_not_a_value_is_an_error_and_is_skipped,
        bytes_after_a_value_are_an_error,
        a_hostile_message_causes_one_error_only,
        a_message_in_the_other_format_is_an_error_and_is_skipped,
        a_value_over_the_limit_is_refused_with_nothing_sent,
        a_value_that_cannot_be_encoded_is_refused_with_nothing_sent,
        bytes_and_values_take_turns_on_one_connection;
}

fn main() -> ExitCode {
    support::run(&[], &[trials])
}

/// Returns both ends of a connection, which transfer bytes.
fn ends(transport: Transport, options: &ConnectOptions) -> (Connection, Connection) {
    options.pair(transport).unwrap()
}

fn typed_ends(transport: Transport, format: Format) -> (Client, Served) {
    let (client, served) = ends(transport, &ConnectOptions::new());
    (format.typed(client), format.typed(served))
}

fn answer(number: u32, request: &Request) -> Response {
    let result = match request {
        Request::Add(a, b) => a.checked_add(*b).map(Value::Sum).ok_or_else(|| "too large".to_owned()),
        Request::Repeat { text, times } => Ok(Value::Texts(vec![text.clone(); usize::from(*times)])),
        Request::Stop => Ok(Value::Nothing),
    };
    Response { number, result }
}

fn requests() -> Vec<Request> {
    vec![
        Request::Add(1, -2),
        Request::Add(i64::MAX, 1),
        Request::Repeat { text: String::new(), times: 0 },
        Request::Repeat { text: "ä".repeat(1000), times: 1000 },
        Request::Stop,
    ]
}

fn values_of_two_types_pass_each_way(transport: Transport, format: Format) {
    let base = Base::new();
    let address = base.address(transport, "room");
    let server = Server::bind(&address).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut served: Served = format.typed(server.accept().unwrap());
            let mut number = 0;
            while let Some(request) = served.recv().unwrap() {
                served.send(&answer(number, &request)).unwrap();
                number += 1;
            }
        });
        let mut client: Client = format.typed(Connection::connect(&address).unwrap());
        for (number, request) in (0..).zip(requests()) {
            match number {
                0 => client.try_send(&request).unwrap(),
                1 => client.send_timeout(&request, DEADLINE).unwrap(),
                _ => client.send(&request).unwrap(),
            }
            assert_eq!(client.recv_timeout(DEADLINE).unwrap(), Some(answer(number, &request)));
        }
        assert_eq!(client.connection().transport(), transport);
        client.close().unwrap();
    });
}

fn values_arrive_whole_from_a_slow_peer_that_sends_in_pieces(transport: Transport, format: Format) {
    for seed in 0..3 {
        let (client, served) = ends(transport, &ConnectOptions::new());
        let mut served: Served = format.typed(served);
        let mut client = Faulty::new(client, seed).delay(Duration::from_millis(1)).in_pieces();
        thread::scope(|scope| {
            scope.spawn(|| {
                for request in requests() {
                    client.send(format.encode(&request)).unwrap();
                }
                client.end_within(format.encode(&Request::Stop)).unwrap();
            });
            for request in requests() {
                assert_eq!(served.recv_timeout(DEADLINE).unwrap(), Some(request), "seed {seed}");
            }
            assert_eq!(served.recv_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::Truncated, "seed {seed}");
        });
    }
}

fn the_halves_work_in_two_threads(transport: Transport, format: Format) {
    let (client, served) = typed_ends(transport, format);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut sender, mut receiver) = served.split();
            for number in 0.. {
                let Some(request) = receiver.recv().unwrap() else { break };
                sender.feed(&answer(number, &request)).unwrap();
                // One answer is longer than the channel of some transports.
                assert!(matches!(sender.try_flush(), Ok(()) | Err(TrySendError::Full(()))));
            }
            sender.finish().unwrap();
        });
        let (mut sender, mut receiver) = client.split();
        scope.spawn(move || {
            for request in requests() {
                sender.send(&request).unwrap();
            }
        });
        for (number, request) in (0..).zip(requests()) {
            assert_eq!(receiver.recv().unwrap(), Some(answer(number, &request)));
        }
        assert_eq!(receiver.recv().unwrap(), None);
    });
}

fn buffered_values_are_written_together_and_before_receiving_sleeps(transport: Transport, format: Format) {
    let (mut client, mut served) = typed_ends(transport, format);
    client.feed(&Request::Add(1, 2)).unwrap();
    client.feed(&Request::Stop).unwrap();
    assert!(matches!(served.try_recv(), Err(TryRecvError::Empty)), "buffered values are not written yet");
    client.flush().unwrap();
    assert!(client.try_flush().is_ok(), "the buffer is empty");
    assert_eq!(served.recv().unwrap(), Some(Request::Add(1, 2)));
    assert_eq!(served.recv().unwrap(), Some(Request::Stop));
    thread::scope(|scope| {
        scope.spawn(|| {
            let request = served.recv().unwrap().unwrap();
            served.send(&answer(7, &request)).unwrap();
        });
        client.feed(&Request::Stop).unwrap();
        assert_eq!(client.recv().unwrap(), Some(answer(7, &Request::Stop)));
    });
}

fn a_value_that_does_not_fit_is_returned(transport: Transport, format: Format) {
    let (mut client, mut served) = typed_ends(transport, format);
    let request = |number| Request::Repeat { text: "x".repeat(3000), times: number };
    let mut sent = 0;
    let returned = loop {
        match client.try_send(request(sent)) {
            Ok(()) => sent += 1,
            Err(TrySendError::Full(request)) => break request,
            Err(TrySendError::Failed(error)) => panic!("{error}"),
        }
    };
    assert_eq!(returned, request(sent));
    let error = client.send_timeout(&returned, Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    for number in 0..sent {
        // The rest of the last value may have been kept.
        let flushed = client.try_flush();
        assert!(!matches!(flushed, Err(TrySendError::Failed(_))), "{flushed:?}");
        assert_eq!(served.recv().unwrap(), Some(request(number)));
    }
    client.send(&Request::Stop).unwrap();
    assert_eq!(served.recv().unwrap(), Some(Request::Stop));
}

fn try_recv_distinguishes_empty_from_the_end(transport: Transport, format: Format) {
    let (mut client, served) = typed_ends(transport, format);
    assert!(matches!(client.try_recv(), Err(TryRecvError::Empty)));
    served.close().unwrap();
    support::eventually("the end", || match client.try_recv() {
        Err(TryRecvError::Empty) => false,
        Ok(None) => true,
        other => panic!("{other:?}"),
    });
    assert_eq!(client.recv().unwrap(), None);
}

fn receiving_gives_up_at_its_deadline(transport: Transport, format: Format) {
    let (mut client, mut served) = typed_ends(transport, format);
    let error = client.recv_timeout(Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    served.send(&answer(1, &Request::Stop)).unwrap();
    assert_eq!(client.recv().unwrap(), Some(answer(1, &Request::Stop)));
}

fn a_message_that_is_not_a_value_is_an_error_and_is_skipped(transport: Transport, format: Format) {
    let (mut client, served) = ends(transport, &ConnectOptions::new());
    let mut served: Served = format.typed(served);
    let proper = format.encode(&Request::Add(1, 2));
    for message in [&proper[..], &[9, 9, 9], &proper, &[], &proper] {
        client.send(message).unwrap();
    }
    assert_eq!(served.recv().unwrap(), Some(Request::Add(1, 2)));
    let error = served.recv().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encoding);
    let told = error.to_string();
    for part in [
        "cannot decode a message from the other end of a pair (pid ",
        "message 2 (3 bytes) is not a valid typed::Request: ",
    ] {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(served.recv().unwrap(), Some(Request::Add(1, 2)));
    // The count of messages goes on in the other receiving calls, and after a split.
    let (_sender, mut receiver) = served.split();
    let error = receiver.recv_timeout(DEADLINE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encoding);
    assert!(error.to_string().contains("message 4 (0 bytes)"), "{error}");
    assert_eq!(receiver.recv().unwrap(), Some(Request::Add(1, 2)));
    client.send(&[9]).unwrap();
    support::eventually("the sixth message", || match receiver.try_recv() {
        Err(TryRecvError::Empty) => false,
        Err(TryRecvError::Failed(error)) => {
            assert!(error.to_string().contains("message 6 (1 bytes)"), "{error}");
            true
        }
        other => panic!("{other:?}"),
    });
    client.close().unwrap();
    assert_eq!(receiver.recv().unwrap(), None);
}

fn bytes_after_a_value_are_an_error(transport: Transport, format: Format) {
    let (mut client, served) = ends(transport, &ConnectOptions::new());
    let mut served: Served = format.typed(served);
    let mut message = format.encode(&Request::Stop);
    client.send(&message).unwrap();
    message.push(b'0');
    client.send(&message).unwrap();
    assert_eq!(served.recv().unwrap(), Some(Request::Stop));
    let error = served.recv().unwrap_err();
    let told = match format {
        Format::Postcard => "1 bytes follow the end of the value",
        Format::Json => "line 1, column 7: trailing characters",
    };
    assert!(error.to_string().contains(told), "{error}");
}

fn a_hostile_message_causes_one_error_only(transport: Transport, format: Format) {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Nested {
        List(Vec<Nested>),
        Units(Vec<()>),
        Numbers(Vec<u64>),
    }
    let (mut client, served) = ends(transport, &ConnectOptions::new());
    let mut served: Typed<(), Nested> = format.typed(served);
    let messages = match format {
        Format::Postcard => {
            let claimed = format.encode(&(1u64 << 60));
            let deep = [0, 1].repeat(1 << 19);
            vec![[&[1], &claimed[..]].concat(), [&[2], &claimed[..]].concat(), deep]
        }
        Format::Json => {
            let deep = b"{\"List\":[".repeat(1 << 17);
            let not_text = b"{\"Units\":[null]}\xff".to_vec();
            vec![deep, vec![b'['; 1 << 20], not_text, b"\"\x1b[31m\"".to_vec(), vec![b'"'; 1 << 20]]
        }
    };
    for message in messages {
        thread::scope(|scope| {
            scope.spawn(|| client.send(&message).unwrap());
            let error = served.recv().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Encoding);
            support::assert_tells(&error);
        });
    }
    client.send(&format.encode(&Nested::Numbers(vec![1, 2]))).unwrap();
    assert_eq!(served.recv().unwrap(), Some(Nested::Numbers(vec![1, 2])));
}

fn a_message_in_the_other_format_is_an_error_and_is_skipped(transport: Transport, format: Format) {
    let (client, served) = ends(transport, &ConnectOptions::new());
    let other = FORMATS.into_iter().find(|&other| other != format).unwrap();
    let mut client: Client = other.typed(client);
    let mut served: Served = format.typed(served);
    for request in requests() {
        client.send(&request).unwrap();
        assert_eq!(served.recv().unwrap_err().kind(), ErrorKind::Encoding, "{request:?}");
    }
    let mut client: Client = format.typed(client.into_inner());
    client.send(&Request::Stop).unwrap();
    assert_eq!(served.recv().unwrap(), Some(Request::Stop));
}

fn a_value_over_the_limit_is_refused_with_nothing_sent(transport: Transport, format: Format) {
    let (client, served) = ends(transport, &ConnectOptions::new().message_max(1000));
    let (mut client, mut served): (Client, Served) = (format.typed(client), format.typed(served));
    let request = |length: usize| Request::Repeat { text: "x".repeat(length), times: 1 };
    let longest = match format {
        // The encoding has one byte for the variant, two for the length, and one for the number.
        Format::Postcard => 996,
        Format::Json => 1000 - r#"{"Repeat":{"text":"","times":1}}"#.len(),
    };
    client.send(&request(longest)).unwrap();
    let error = client.send(&request(longest + 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MessageTooLong);
    assert!(error.to_string().contains("typed::Request: the encoded value exceeds the limit of 1000 bytes"), "{error}");
    client.send(&Request::Stop).unwrap();
    assert_eq!(served.recv().unwrap(), Some(request(longest)));
    assert_eq!(served.recv().unwrap(), Some(Request::Stop));
}

fn a_value_that_cannot_be_encoded_is_refused_with_nothing_sent(transport: Transport, format: Format) {
    struct Odd(bool);
    impl Serialize for Odd {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self.0 {
                true => Err(serde::ser::Error::custom("no")),
                false => serializer.serialize_u8(7),
            }
        }
    }
    let (client, mut served) = ends(transport, &ConnectOptions::new());
    let mut client: Typed<Odd, ()> = format.typed(client);
    assert_eq!(client.send(&Odd(true)).unwrap_err().kind(), ErrorKind::Encoding);
    assert!(matches!(client.try_send(Odd(true)), Err(TrySendError::Failed(_))));
    client.send(&Odd(false)).unwrap();
    assert_eq!(served.recv().unwrap().unwrap(), *format.encode(&7u8));
}

fn bytes_and_values_take_turns_on_one_connection(transport: Transport, format: Format) {
    let (mut client, mut served) = ends(transport, &ConnectOptions::new());
    client.send(b"hello").unwrap();
    let mut client: Typed<str, ()> = format.typed(client);
    client.feed("value").unwrap();
    let mut client = client.into_inner();
    client.send(b"bye").unwrap();
    assert_eq!(served.recv().unwrap().unwrap(), b"hello");
    let mut served: Typed<(), String> = format.typed(served);
    assert_eq!(served.recv().unwrap().as_deref(), Some("value"));
    let mut served = served.into_inner();
    assert_eq!(served.recv().unwrap().unwrap(), b"bye");
}
