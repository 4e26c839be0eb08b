//! Foreign programs talk to a `unix` server: Python's standard library, socat(1), and sockets with hand-written bytes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use parlour::{ClientFilePolicy, Connection, ErrorKind, Provenance, Server, ServerOptions, Transport};
use serde::{Deserialize, Serialize};
use support::{Base, Child, DEADLINE, data, eventually, roles, trials};

/// Sizes around the one at which Python sends header and body separately, and around the sizes of parlour's buffers.
const SIZES: [usize; 10] = [0, 1, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 1 << 20, 5];

trials! {
    python::messages_of_every_size_come_back unless no_python(),
    python::messages_of_every_size_are_received unless no_python(),
    python::an_aborted_connection_is_an_error unless no_python(),
    python::pickled_objects_come_back unless no_python(),
    python::requests_in_json_are_answered unless no_python(),
    python::a_refused_client_sees_the_end unless no_python(),
    socat::a_frame_made_by_printf_is_answered unless no_socat(),
    socat::a_client_without_a_file_is_refused_where_files_are_required unless no_socat(),
    bytes::a_frame_is_four_bytes_of_length_and_the_message,
    bytes::frames_may_arrive_in_any_pieces,
    bytes::end_of_file_inside_a_frame_is_truncated,
    bytes::a_length_over_the_limit_ends_the_connection,
}

fn main() -> ExitCode {
    support::run(&[], &[trials])
}

/// Returns the reason why a program cannot be used here, if there is one.
fn missing(program: &str, arguments: &[&str]) -> Option<String> {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    (!status.is_ok_and(|status| status.success())).then(|| format!("{program} is not installed"))
}

fn no_python() -> Option<String> {
    missing("python3", &["-c", "import multiprocessing.connection"])
}

fn no_socat() -> Option<String> {
    missing("socat", &["-V"])
}

/// A server in its own base.
struct Room {
    server: Server,
    _base: Base,
}

impl Room {
    fn new() -> Self {
        Self::with(&ServerOptions::new())
    }

    fn with(options: &ServerOptions) -> Self {
        let base = Base::new();
        Self { server: options.bind(base.address(Transport::Unix, "room")).unwrap(), _base: base }
    }

    /// Returns the path of the socket, which is all that a foreign client needs.
    fn socket(&self) -> String {
        self.server.path().join("unix").display().to_string()
    }

    fn accept(&self) -> Connection {
        self.server.accept_timeout(DEADLINE).unwrap()
    }
}

mod python {
    use super::*;

    fn start(what: &str, room: &Room) -> Command {
        let mut command = Command::new("python3");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/client.py")).arg(what).arg(room.socket());
        command
    }

    pub fn messages_of_every_size_come_back() {
        let room = Room::new();
        let mut client = Child::start(start("echo", &room).args(SIZES.map(|size| size.to_string())));
        let served = room.accept();
        assert_eq!(
            (served.peer().pid_provenance(), served.peer().uid_provenance()),
            (Provenance::Kernel, Provenance::Kernel)
        );
        roles::echo(served);
        client.expect("all came back");
        client.finish();
    }

    pub fn messages_of_every_size_are_received() {
        let room = Room::new();
        let mut client = Child::start(&mut start("listen", &room));
        let mut served = room.accept();
        for (seed, size) in SIZES.into_iter().enumerate() {
            served.send(data::message(seed, size)).unwrap();
            client.expect(&data::said(data::message(seed, size)));
        }
        // Several messages in one write.
        for number in 0..100 {
            served.feed(data::message(number, number)).unwrap();
        }
        served.close().unwrap();
        for number in 0..100 {
            client.expect(&data::said(data::message(number, number)));
        }
        client.expect("end");
        client.finish();
    }

    pub fn an_aborted_connection_is_an_error() {
        for messages in [0, 3] {
            let room = Room::new();
            let mut client = Child::start(&mut start("listen", &room));
            let mut served = room.accept();
            for number in 0..messages {
                served.send(data::message(number, 100)).unwrap();
            }
            served.abort();
            for number in 0..messages {
                client.expect(&data::said(data::message(number, 100)));
            }
            client.expect("cut");
            client.finish();
        }
    }

    pub fn pickled_objects_come_back() {
        let room = Room::new();
        let mut client = Child::start(&mut start("objects", &room));
        roles::echo(room.accept());
        client.expect("all came back");
        client.finish();
    }

    pub fn requests_in_json_are_answered() {
        #[derive(Deserialize)]
        enum Request {
            Add(i64, i64),
            Join { parts: Vec<String>, between: Option<String> },
            Stop,
        }
        #[derive(Default, Serialize)]
        struct Answer {
            number: u32,
            #[serde(skip_serializing_if = "Option::is_none")]
            sum: Option<i64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            text: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<String>,
        }
        let room = Room::new();
        let mut client = Child::start(&mut start("json", &room));
        let mut served = room.accept().typed_json::<Answer, Request>();
        let mut number = 0;
        loop {
            let answer = match served.recv() {
                Ok(Some(request)) => {
                    number += 1;
                    let answer = Answer { number, ..Answer::default() };
                    match request {
                        Request::Add(a, b) => Answer { sum: a.checked_add(b), ..answer },
                        Request::Join { parts, between } => {
                            Answer { text: Some(parts.join(between.as_deref().unwrap_or(""))), ..answer }
                        }
                        Request::Stop => answer,
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Encoding);
                    Answer { error: Some(error.to_string()), ..Answer::default() }
                }
            };
            served.send(&answer).unwrap();
        }
        client.expect("all answers are right");
        client.finish();
    }

    pub fn a_refused_client_sees_the_end() {
        let room = Room::with(&ServerOptions::new().allow(|_| false));
        let mut client = Child::start(&mut start("listen", &room));
        eventually("the client is refused", || {
            assert!(room.server.try_accept().unwrap_err().is_empty());
            room.server.stats().refused == 1
        });
        client.expect("end");
        client.finish();
    }
}

mod socat {
    use super::*;

    /// Runs the command line that a user would type. With `-t`, socat waits for the answer after end of file on its
    /// input.
    fn start(room: &Room) -> Child {
        let line = r#"printf '\000\000\000\005hello' | socat -t 10 - UNIX-CONNECT:"$1""#;
        Child::start(Command::new("sh").args(["-c", line, "sh"]).arg(room.socket()).stderr(Stdio::null()))
    }

    pub fn a_frame_made_by_printf_is_answered() {
        let room = Room::new();
        let mut client = start(&room);
        let mut served = room.accept();
        assert_eq!(served.peer().uid(), Some(rustix::process::geteuid().as_raw()));
        assert_eq!(served.recv().unwrap().expect("a message"), b"hello");
        assert_eq!(served.recv().unwrap(), None, "socat has reached end of file");
        served.send(b"hello, you").unwrap();
        served.close().unwrap();
        assert_eq!(client.rest(), b"\0\0\0\x0ahello, you");
        client.finish();
        assert_eq!(room.server.stats().refused, 0);
    }

    pub fn a_client_without_a_file_is_refused_where_files_are_required() {
        let room = Room::with(&ServerOptions::new().client_file(ClientFilePolicy::Require));
        let mut client = start(&room);
        eventually("the client is refused", || {
            assert!(room.server.try_accept().unwrap_err().is_empty());
            room.server.stats().refused == 1
        });
        let refusal = room.server.stats().last_refusal.expect("a refusal");
        assert!(refusal.detail.contains("no file of its own"), "{refusal}");
        assert_eq!(client.rest(), b"");
        client.wait();
    }
}

mod bytes {
    use super::*;

    fn connect(room: &Room) -> (UnixStream, Connection) {
        let stream = UnixStream::connect(room.socket()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        (stream, room.accept())
    }

    pub fn a_frame_is_four_bytes_of_length_and_the_message() {
        let room = Room::new();
        let (mut stream, mut served) = connect(&room);
        stream.write_all(b"\0\0\0\x05hello\0\0\0\0\0\0\0\x01!").unwrap();
        for expected in [&b"hello"[..], b"", b"!"] {
            assert_eq!(served.recv().unwrap().expect("a message"), expected);
        }
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(served.recv().unwrap(), None);

        // The wire carries frames only, without a greeting.
        served.send(b"").unwrap();
        served.send(b"one").unwrap();
        served.feed(b"two").unwrap();
        served.feed(data::message(0, 0x0001_0203)).unwrap();
        let reading = thread::spawn(move || {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            all
        });
        served.close().unwrap();
        let expected = [b"\0\0\0\0\0\0\0\x03one\0\0\0\x03two\0\x01\x02\x03", data::message(0, 0x0001_0203)].concat();
        assert!(reading.join().unwrap() == expected, "the bytes on the wire differ");
    }

    pub fn frames_may_arrive_in_any_pieces() {
        let room = Room::new();
        let bytes = b"\0\0\0\x03one\0\0\0\0\0\0\0\x05three";
        for piece in 1..=bytes.len() {
            let (mut stream, mut served) = connect(&room);
            let writing = thread::spawn(move || {
                bytes.chunks(piece).for_each(|piece| stream.write_all(piece).unwrap());
            });
            for expected in [&b"one"[..], b"", b"three"] {
                assert_eq!(served.recv().unwrap().expect("a message"), expected, "in pieces of {piece}");
            }
            assert_eq!(served.recv().unwrap(), None);
            writing.join().unwrap();
        }
    }

    pub fn end_of_file_inside_a_frame_is_truncated() {
        let room = Room::new();
        let bytes = b"\0\0\0\x05hello";
        for cut in 1..bytes.len() {
            let (mut stream, mut served) = connect(&room);
            stream.write_all(b"\0\0\0\x05whole").unwrap();
            stream.write_all(&bytes[..cut]).unwrap();
            drop(stream);
            assert_eq!(served.recv().unwrap().expect("a message"), b"whole");
            assert_eq!(served.recv().unwrap_err().kind(), ErrorKind::Truncated, "after {cut} bytes");
        }
    }

    pub fn a_length_over_the_limit_ends_the_connection() {
        let room = Room::with(&ServerOptions::new().message_max(1000));
        for length in [1001, 16 << 20, i32::MAX as u32, 1 << 31, u32::MAX] {
            let (mut stream, mut served) = connect(&room);
            stream.write_all(&length.to_be_bytes()).unwrap();
            let error = served.recv().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::MessageTooLong);
            assert!(error.to_string().contains(&length.to_string()), "{error}");
            drop(served);
            let mut rest = Vec::new();
            let ended = stream.read_to_end(&mut rest);
            assert!(rest.is_empty(), "{ended:?}");
        }
    }
}
