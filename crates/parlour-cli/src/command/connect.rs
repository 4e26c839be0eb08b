//! `parlour connect`: a client that sends the lines, bytes or frames of stdin as messages, and prints the replies.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context as _;
use parlour::{ConnectOptions, Connection};

use super::holder;
use crate::args::{Connect, ConnectArgs};
use crate::exit::{self, Failure};
use crate::lines::Framing;
use crate::output;
use crate::pump::{Outcome, Pump, StreamOptions};

/// The length of a message above which an error mentions the limit of the server, in bytes. A limit below that serves
/// nobody.
const LONG_MESSAGE_BYTES: usize = 1024;

pub(super) fn run(args: &Connect) -> anyhow::Result<()> {
    let mut connection = connect(&args.address, args.timeout, &args.connect)?;
    let input = std::io::stdin().as_fd().try_clone_to_owned().context("duplicating stdin")?;
    let output = std::io::stdout().as_fd().try_clone_to_owned().context("duplicating stdout")?;
    let options = StreamOptions {
        framing: match (args.raw, args.frames) {
            (true, _) => Framing::Raw,
            (_, true) => Framing::Frames,
            _ => Framing::Lines,
        },
        stays_open: args.receive,
        answer_timeout: args.answer_timeout,
    };
    let (outcome, longest) = Pump::between_streams(&mut connection, (input, output), &options).run_streams();
    match outcome {
        // A server may close after it has received all input. One that does not take a message closes in the same way.
        Outcome::Finished | Outcome::PeerGone { all_sent: true } | Outcome::Stopped | Outcome::Idle => {
            holder::message_too_long(&args.address, longest).map_or(Ok(()), Err)
        }
        Outcome::PeerGone { all_sent: false } => {
            Err(disconnected_error(&args.address, &connection, "before it received all of the input", longest))
        }
        Outcome::SinkClosed => Err(output::stdout_closed()),
        Outcome::Failed(error) => Err(holder::explain(&args.address, Some(&connection), error)),
    }
}

/// Connects to a server. `call` uses this too.
pub(super) fn connect(address: &str, timeout: Option<Duration>, args: &ConnectArgs) -> anyhow::Result<Connection> {
    let connected = options(timeout, args).connect(address);
    connected.map_err(|error| holder::explain(address, None, error.into()))
}

/// Converts the command-line options to library options.
fn options(timeout: Option<Duration>, args: &ConnectArgs) -> ConnectOptions {
    let mut options = ConnectOptions::new();
    if let Some(timeout) = timeout {
        options = options.timeout(timeout);
    }
    if let Some(wait) = args.wait {
        options = options.wait_for_server(wait);
    }
    if let Some(uid) = args.server_uid {
        options = options.server_uid(uid);
    }
    if let Some(bytes) = args.message_max {
        options = options.message_max(bytes);
    }
    options
}

/// Returns the error for a server that disconnected too early. `longest` is the length of the longest message that was
/// sent.
///
/// A server disconnects a client whose message is longer than its limit. If the server does not tell the limit to this
/// user, the exit code is that of a disconnect.
pub(super) fn disconnected_error(address: &str, connection: &Connection, when: &str, longest: usize) -> anyhow::Error {
    if let Some(error) = holder::message_too_long(address, longest) {
        return error;
    }
    let peer = connection.peer();
    let mut text = format!("the server of `{address}` ({peer}) disconnected {when}");
    if longest > LONG_MESSAGE_BYTES {
        text.push_str(&format!(
            "; the longest message had {longest} bytes, and a server disconnects a client whose message is beyond the \
             limit of the server (`parlour serve --message-max`)"
        ));
    }
    Failure::new(exit::DISCONNECTED, text).into()
}
