//! The servers of the examples and of the documents, against clients that go away, send junk or stall.

use std::any::Any;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use parlour::{ConnectOptions, Connection, ErrorKind, RawFds};

use crate::support::build::{self, Flavor};
use crate::support::program::{Background, DEADLINE};
use crate::support::{base, home};
use crate::trial;

/// The time after which a client of a chat room says again what nobody has heard.
const AGAIN: Duration = Duration::from_millis(200);

/// A server, the transport of its clients, and true if its answers go to the other clients as well.
const SERVERS: [(&str, &str, bool); 5] = [
    ("unix_echo_server", "unix", false),
    ("fifo_echo_server", "fifo", false),
    ("echo_server", "unix", false),
    ("echo_server", "fifo", false),
    ("chat", "unix", true),
];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, transport, is_room) in SERVERS {
        let source = home().join(format!("examples/{name}.c"));
        trials.push(trial(format!("examples::{name}_goes_on_whatever_a_client_over_{transport}_does"), move || {
            serve(&build::program(&source, &[], Flavor::Plain), transport, is_room);
        }));
    }
    for (document, shown) in [("../../docs/start.md", "first_page"), ("README.md", "readme_for_c")] {
        let path = home().join(document);
        let name = format!("examples::the_server_of_the_{shown}_goes_on_whatever_a_client_does");
        let readme = trial(name, move || snippet(&std::fs::read_to_string(&path).unwrap()));
        // The crate's archive has no pages of the whole project.
        trials.push(readme.with_ignored_flag(!home().join(document).exists()));
    }
    trials
}

/// Runs the programs in a document that are servers. Their name is replaced by the first argument.
fn snippet(document: &str) {
    let blocks = document.split("```c\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    let servers: Vec<_> = blocks.filter(|block| block.contains("accept_client(")).collect();
    assert!(!servers.is_empty(), "the document shows no server");
    for server in servers {
        assert!(server.contains("\"echo\"") && server.contains("main(void)"), "{server}");
        let code = server.replace("\"echo\"", "argv[1]").replace("main(void)", "main(int argc, char **argv)");
        let directory = base();
        let source = directory.path().join("server.c");
        std::fs::write(&source, format!("{code}\n")).unwrap();
        serve(&build::program(&source, &["-Wno-unused-parameter"], Flavor::Plain), "unix", false);
    }
}

fn connect(address: &str) -> Connection {
    ConnectOptions::new().wait_for_server(DEADLINE).connect(address).unwrap()
}

/// Writes bytes to a server instead of messages. Returns what keeps the connection open.
fn write(address: &str, bytes: &[u8]) -> Box<dyn Any> {
    let parts = connect(address).into_raw_parts().unwrap();
    let (send, rest): (OwnedFd, Option<OwnedFd>) = match parts.fds {
        RawFds::Unix(fd) => (fd, None),
        RawFds::Fifo { recv, send } => (send, Some(recv)),
        _ => panic!("another transport"),
    };
    let mut file = std::fs::File::from(send);
    let _ = file.write_all(bytes);
    Box::new((file, rest, parts.guard))
}

/// A client, and what it keeps open.
type Rude = (&'static str, fn(&str) -> Box<dyn Any>);

const RUDE: [Rude; 7] = [
    ("goes away at once", |address| {
        drop(connect(address));
        Box::new(())
    }),
    ("goes away while it is answered", |address| {
        let mut client = connect(address);
        for _ in 0..10_000 {
            if client.try_send(b"y").is_err() {
                break;
            }
        }
        Box::new(())
    }),
    ("ends in the middle of a message", |address| {
        drop(write(address, b"\0\0\0\x09half"));
        Box::new(())
    }),
    ("sends junk", |address| write(address, &[0xff; 4096])),
    ("stops in the middle of a message", |address| write(address, b"\0\0\0\x09half")),
    ("sends a message that is longer than the server's buffer", |address| {
        let mut client = connect(address);
        // The server need not take it.
        let _ = client.send_timeout(&vec![b'y'; 1 << 20], AGAIN);
        Box::new(client)
    }),
    ("never receives", |address| {
        let mut client = connect(address);
        while client.try_send(&[b'y'; 10_000]).is_ok() {}
        Box::new(client)
    }),
];

/// Starts a server, and checks after each client that it answers two clients at once.
fn serve(program: &Path, transport: &str, is_room: bool) {
    let base = base();
    let path: PathBuf = base.path().join("name");
    let address = format!("{transport}:{}", path.display());
    let _serving = Background::start(Command::new(program).arg(&path));
    let mut open = Vec::new();
    for (what, client) in RUDE {
        open.push(client(&address));
        let (mut one, mut two) = (connect(&address), connect(&address));
        assert_heard(&mut one, &mut two, is_room, what);
        assert_heard(&mut two, &mut one, is_room, what);
    }
}

fn assert_heard(speaker: &mut Connection, other: &mut Connection, is_room: bool, what: &str) {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        speaker.send_timeout(b"hello", DEADLINE).unwrap();
        let listener = if is_room { &mut *other } else { &mut *speaker };
        match listener.recv_timeout(AGAIN) {
            Ok(Some(answer)) if answer.ends_with(b"hello") => return,
            Ok(Some(_)) => {}
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            other => panic!("the server has ended because a client {what}: {other:?}"),
        }
    }
    panic!("the server does not answer because a client {what}");
}
