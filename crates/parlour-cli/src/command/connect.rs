//! `parlour connect`: a client that sends the lines, bytes or frames of stdin as messages, and prints the replies.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::Context as _;
use parlour::{ConnectOptions, Connection, ErrorKind, Reconnect};

use super::holder::{self, Wanted};
use crate::args::{Connect, ConnectArgs};
use crate::exit::{self, Failure};
use crate::lines::Framing;
use crate::output;
use crate::pump::{self, Outcome, Pump, Relay, StreamOptions};

/// The length of a message above which an error mentions the limit of the server, in bytes. A limit below that serves
/// nobody.
const LONG_MESSAGE_BYTES: usize = 1024;

pub(super) fn run(args: &Connect) -> anyhow::Result<()> {
    let input = || std::io::stdin().as_fd().try_clone_to_owned().context("duplicating stdin");
    let output = || std::io::stdout().as_fd().try_clone_to_owned().context("duplicating stdout");
    let options = StreamOptions {
        framing: match (args.raw, args.frames) {
            (true, _) => Framing::Raw,
            (_, true) => Framing::Frames,
            _ => Framing::Lines,
        },
        stays_open: args.receive,
        answer_timeout: args.answer_timeout,
    };
    if !args.reconnect {
        let connection = connect(&args.address, args.timeout, &args.connect)?;
        return pump(args, connection, (input()?, output()?), &options);
    }
    // The connection that is left at the end of the input has nothing more to send.
    let (connection, inexact) = relay(args, (input()?, output()?), &options)?;
    let nothing = std::fs::File::open("/dev/null").context("opening /dev/null")?;
    pump(args, connection, (nothing.into(), output()?), &options)?;
    pump::inexact_output(inexact).map_or(Ok(()), |failure| Err(failure.into()))
}

/// Moves messages between the streams and one server after the other, until the end of the input.
fn relay(args: &Connect, streams: (OwnedFd, OwnedFd), options: &StreamOptions) -> anyhow::Result<(Connection, u64)> {
    let connect = self::options(args.timeout, &args.connect);
    let explained = |error| holder::explain(args.into(), None, error);
    let mut session = connect.session(&args.address, &Reconnect::new()).map_err(|error| explained(error.into()))?;
    let connected = match args.connect.wait {
        Some(wait) => session.connect_timeout(wait),
        None => session.connect(),
    };
    let message_max = connected.map_err(|error| explained(error.into()))?.capabilities().message_max;
    let relay = Relay::new(session, streams, options.framing, message_max, args.connect.wait);
    relay.staying_open(options.stays_open).run().map_err(explained)
}

/// Moves messages between the streams and one server.
fn pump(
    args: &Connect,
    mut connection: Connection,
    (input, output): (OwnedFd, OwnedFd),
    options: &StreamOptions,
) -> anyhow::Result<()> {
    let (outcome, longest) = Pump::between_streams(&mut connection, (input, output), options).run_streams();
    match outcome {
        // A server may close after it has received all input. One that does not take a message closes in the same way.
        Outcome::Finished | Outcome::PeerGone { all_sent: true } | Outcome::Stopped | Outcome::Idle => {
            holder::message_too_long(args.into(), longest).map_or(Ok(()), Err)
        }
        Outcome::PeerGone { all_sent: false } => {
            Err(disconnected_error(args.into(), &connection, "before it received all of the input", longest))
        }
        Outcome::SinkClosed => Err(output::stdout_closed()),
        Outcome::Failed(error) if is_cut(&error) => {
            let text = format!("{}; if it answers calls, use `parlour call --id`", exit::one_line(&error));
            Err(Failure::new(exit::DISCONNECTED, text).into())
        }
        Outcome::Failed(error) => Err(holder::explain(args.into(), Some(&connection), error)),
    }
}

/// Returns true for the end of a connection that the server has aborted, such as that of a client which violates its
/// protocol.
fn is_cut(error: &anyhow::Error) -> bool {
    error.downcast_ref::<parlour::Error>().is_some_and(|error| error.kind() == ErrorKind::Truncated)
}

/// Connects to a server. `call` uses this too.
pub(super) fn connect(address: &str, timeout: Option<Duration>, args: &ConnectArgs) -> anyhow::Result<Connection> {
    let connected = options(timeout, args).connect(address);
    connected.map_err(|error| holder::explain(Wanted { address, server_uid: args.server_uid }, None, error.into()))
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
pub(super) fn disconnected_error(
    wanted: Wanted<'_>,
    connection: &Connection,
    when: &str,
    longest: usize,
) -> anyhow::Error {
    if let Some(error) = holder::message_too_long(wanted, longest) {
        return error;
    }
    let address = wanted.address;
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
