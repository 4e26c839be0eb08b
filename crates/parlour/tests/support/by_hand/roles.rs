//! Roles whose process may run as another user, with another umask and with options.

use std::io::{self, BufRead};
use std::sync::Arc;
use std::thread;

use parlour::{Connection, Error};

use super::options::Words;
use crate::support::roles::echo;
use crate::support::{DEADLINE, Role, assert_tells};

pub const SERVE: Role = Role { name: "serve", play: serve };
pub const REACH: Role = Role { name: "reach", play: reach };

/// `serve address=A [uid= umask= on= mode= group= ...]`: prints `ready PATH` or `error KIND: TEXT`, and echoes every
/// message. The command `umask` prints the umask of the process. The server is closed at end of file on stdin.
fn serve(arguments: &[String]) {
    let words = Words(arguments);
    words.become_whom_they_say();
    let server = match words.server_options().bind(words.address()) {
        Ok(server) => Arc::new(server),
        Err(error) => return say_error(&error),
    };
    println!("ready {}", server.path().display());
    let accepting = thread::spawn({
        let server = Arc::clone(&server);
        move || {
            for connection in server.incoming() {
                let connection = connection.unwrap();
                thread::spawn(move || echo(connection));
            }
        }
    });
    for line in io::stdin().lock().lines() {
        match line.unwrap().as_str() {
            "umask" => {
                let umask = rustix::process::umask(rustix::fs::Mode::empty());
                rustix::process::umask(umask);
                println!("{:04o}", umask.bits());
            }
            other => panic!("unknown command {other:?}"),
        }
    }
    server.shutdown_handle().shutdown();
    accepting.join().unwrap();
    Arc::into_inner(server).unwrap().close().unwrap();
}

/// `reach address=A [uid= umask= server_uid= timeout_ms=]`: prints `connected PEER` or `error KIND: TEXT`. Then it
/// sends each line as a message and prints the reply, or `end`.
fn reach(arguments: &[String]) {
    let words = Words(arguments);
    words.become_whom_they_say();
    let connection = match words.connect_options().connect(words.address()) {
        Ok(connection) => connection,
        Err(error) => return say_error(&error),
    };
    println!("connected {}", connection.peer());
    talk(connection);
}

/// Sends each line of stdin as a message and prints the reply.
pub fn talk(mut connection: Connection) {
    for line in io::stdin().lock().lines() {
        let exchanged = connection.send(line.unwrap().as_bytes()).and_then(|()| connection.recv_timeout(DEADLINE));
        match exchanged {
            Ok(Some(message)) => println!("{}", String::from_utf8_lossy(&message)),
            Ok(None) => println!("end"),
            Err(error) => say_error(&error),
        }
    }
}

/// Prints `error KIND: TEXT`, after a check of the text. So every error of an attack that a role reports is checked.
pub fn say_error(error: &Error) {
    assert_tells(error);
    println!("error {}: {error}", error.kind());
}
