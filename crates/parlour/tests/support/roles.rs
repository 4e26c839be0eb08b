//! The roles of child processes. Each exits when its stdin reaches end of file.

use std::io::{self, BufRead};
use std::thread;
use std::time::Duration;

use parlour::{ConnectOptions, Connection, Server, TrySendError};

use super::{DEADLINE, data, signals};

/// A role: its name, and the function that plays it with the arguments of the process.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    pub name: &'static str,
    pub play: fn(&[String]),
}

/// The roles of every test executable.
pub const ALL: &[Role] = &[
    Role { name: "echo-server", play: echo_server },
    Role { name: "hold", play: hold },
    Role { name: "server", play: server },
    Role { name: "client", play: client },
];

/// `echo-server ADDRESS`: prints `ready` and echoes every message of every client, with one thread for each client.
fn echo_server(arguments: &[String]) {
    let server = Server::bind(&arguments[0]).unwrap();
    println!("ready");
    let shutdown = server.shutdown_handle();
    let serving = thread::spawn(move || {
        for connection in server.incoming() {
            let connection = connection.unwrap();
            thread::spawn(move || echo(connection));
        }
        server.close().unwrap();
    });
    until_end_of_input();
    shutdown.shutdown();
    serving.join().unwrap();
}

/// Echoes every message until end of file. A disconnected peer is not an error.
pub fn echo(mut connection: Connection) {
    let mut message = Vec::new();
    while let Ok(Some(_)) = connection.recv_into(&mut message) {
        if connection.send(&message).is_err() {
            return;
        }
    }
}

/// `hold ADDRESS`: takes the name, prints `ready`, and accepts no client.
fn hold(arguments: &[String]) {
    let _server = Server::bind(&arguments[0]).unwrap();
    println!("ready");
    until_end_of_input();
}

/// `server ADDRESS`: takes the name, prints `ready`, and executes commands; see [`obey`].
fn server(arguments: &[String]) {
    let mut hands = Hands { address: arguments[0].clone(), server: None, connection: None };
    hands.server = Some(Server::bind(&hands.address).unwrap());
    println!("ready");
    obey(hands);
}

/// `client ADDRESS`: executes commands; see [`obey`].
fn client(arguments: &[String]) {
    obey(Hands { address: arguments[0].clone(), server: None, connection: None });
}

/// The state of a process that executes commands.
struct Hands {
    address: String,
    server: Option<Server>,
    connection: Option<Connection>,
}

/// Executes the commands in the lines of stdin and answers each with one line:
///
/// | line | answer |
/// |---|---|
/// | `connect`, `connect-wait` (waits for a server) | `connected PEER` |
/// | `accept` | `accepted PEER` |
/// | `send LENGTH [SEED]` | `sent` |
/// | `try-send LENGTH [SEED]` | `sent` or `full` |
/// | `feed LENGTH [SEED]` | `fed` |
/// | `fill LENGTH`: `try-send` with seeds 0, 1, … until the channel is full | `filled COUNT` |
/// | `recv` | `message LENGTH CRC` (see [`data::said`]) or `end` |
/// | `flush`, `finish`, `close` (the connection), `close-server` | `done` |
/// | `sigpipe-kills`: restores the default disposition of SIGPIPE | `done` |
/// | `sigpipe`: queries the disposition | `kills` or `does not kill` |
/// | `pid` | the process id |
/// | `quit`: exits without closing anything | none |
///
/// Each may answer `error KIND: TEXT` instead.
fn obey(mut hands: Hands) {
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match hands.obey(&words) {
            Ok(answer) => println!("{answer}"),
            Err(error) => println!("error {}: {error}", error.kind()),
        }
    }
}

impl Hands {
    fn obey(&mut self, words: &[&str]) -> parlour::Result<String> {
        let number = |at: usize| words.get(at).map_or(0, |word| word.parse().unwrap());
        match words[0] {
            "connect" | "connect-wait" => {
                let wait = if words[0] == "connect-wait" { DEADLINE } else { Duration::ZERO };
                let connection = ConnectOptions::new().wait_for_server(wait).connect(&self.address)?;
                let peer = connection.peer().clone();
                self.connection = Some(connection);
                Ok(format!("connected {peer}"))
            }
            "accept" => {
                let connection = self.server.as_ref().unwrap().accept_timeout(DEADLINE)?;
                let peer = connection.peer().clone();
                self.connection = Some(connection);
                Ok(format!("accepted {peer}"))
            }
            "send" => {
                self.connection().send(data::message(number(2), number(1)))?;
                Ok("sent".to_owned())
            }
            "try-send" => match self.connection().try_send(data::message(number(2), number(1))) {
                Ok(()) => Ok("sent".to_owned()),
                Err(TrySendError::Full(_)) => Ok("full".to_owned()),
                Err(TrySendError::Failed(error)) => Err(error),
            },
            "feed" => {
                self.connection().feed(data::message(number(2), number(1)))?;
                Ok("fed".to_owned())
            }
            "fill" => {
                let mut count = 0;
                loop {
                    match self.connection().try_send(data::message(count, number(1))) {
                        Ok(()) => count += 1,
                        Err(TrySendError::Full(_)) => return Ok(format!("filled {count}")),
                        Err(TrySendError::Failed(error)) => return Err(error),
                    }
                }
            }
            "recv" => Ok(match self.connection().recv_timeout(DEADLINE)? {
                Some(message) => data::said(&message),
                None => "end".to_owned(),
            }),
            "flush" => self.connection().flush().map(|()| done()),
            "finish" => self.connection().finish().map(|()| done()),
            "close" => self.connection.take().unwrap().close().map(|()| done()),
            "close-server" => self.server.take().unwrap().close().map(|()| done()),
            "sigpipe-kills" => {
                signals::let_sigpipe_kill();
                Ok(done())
            }
            "sigpipe" => Ok(if signals::sigpipe_kills() { "kills" } else { "does not kill" }.to_owned()),
            "pid" => Ok(std::process::id().to_string()),
            "quit" => std::process::exit(0),
            other => panic!("unknown command {other:?}"),
        }
    }

    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("the role is connected")
    }
}

fn done() -> String {
    "done".to_owned()
}

/// Waits for end of file on stdin.
pub fn until_end_of_input() {
    io::copy(&mut io::stdin().lock(), &mut io::sink()).unwrap();
}
