//! `parlour call`: sends one message and prints one reply.

use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parlour::{Connection, ErrorKind};

use super::connect;
use crate::args::Call;
use crate::{output, stdio};

pub(super) fn run(args: &Call) -> anyhow::Result<()> {
    // The message is read before connecting, so that a slow stdin does not occupy a connection of the server.
    let message = match &args.message {
        Some(message) if message.as_bytes() != b"-" => message.as_bytes().to_vec(),
        _ => stdio::read_stdin().context("reading stdin")?,
    };

    // A timeout beyond the range of the clock means no deadline.
    let deadline = args
        .connect
        .timeout
        .and_then(|timeout| Instant::now().checked_add(timeout.saturating_add(args.connect.wait.unwrap_or_default())));
    let mut connection = connect::options(&args.connect).connect(&args.address)?;
    // A server may reply and disconnect without reading the message. This is not an error if there is a reply.
    if let Err(error) = send(&mut connection, &message, deadline)
        && error.kind() != ErrorKind::Disconnected
    {
        return Err(error.into());
    }
    let received = match deadline {
        None => connection.recv(),
        Some(deadline) => connection.recv_timeout(left(deadline)),
    };
    let reply = match received {
        Ok(Some(reply)) => reply,
        Ok(None) => return Err(connect::disconnected_error(&args.address, &connection, "before it sent a reply")),
        Err(error) => return Err(error.into()),
    };
    output::bytes(&reply)?;
    if !args.raw {
        output::bytes(b"\n")?;
    }
    Ok(())
}

/// Sends the message and half-closes the connection. Some servers, such as a program that reads to end of file, reply
/// only after that.
fn send(connection: &mut Connection, message: &[u8], deadline: Option<Instant>) -> parlour::Result<()> {
    match deadline {
        None => connection.send(message)?,
        Some(deadline) => connection.send_timeout(message, left(deadline))?,
    }
    connection.finish()
}

/// Returns the time until the deadline.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
