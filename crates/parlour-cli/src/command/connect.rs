//! `parlour connect`: a client that sends each line of stdin as one message, and prints the replies.

use std::os::fd::AsFd;

use anyhow::Context as _;
use parlour::{ConnectOptions, Connection};

use crate::args::{Connect, ConnectArgs};
use crate::exit::{self, Failure};
use crate::output;
use crate::pump::{Outcome, Pump};

pub(super) fn run(args: &Connect) -> anyhow::Result<()> {
    let mut connection = options(&args.connect).connect(&args.address)?;
    let input = std::io::stdin().as_fd().try_clone_to_owned().context("duplicating stdin")?;
    let output = std::io::stdout().as_fd().try_clone_to_owned().context("duplicating stdout")?;
    match Pump::between_streams(&mut connection, input, output).run() {
        // A server may close after it has received all input.
        Outcome::Finished | Outcome::PeerGone { all_sent: true } | Outcome::Stopped => Ok(()),
        Outcome::PeerGone { all_sent: false } => {
            Err(disconnected_error(&args.address, &connection, "before it received all of the input"))
        }
        Outcome::SinkClosed => Err(output::stdout_closed()),
        Outcome::Failed(error) => Err(error),
    }
}

/// Converts the command-line options to library options. `call` uses this too.
pub(super) fn options(args: &ConnectArgs) -> ConnectOptions {
    let mut options = ConnectOptions::new();
    if let Some(timeout) = args.timeout {
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

/// Returns the error for a server that disconnected too early.
pub(super) fn disconnected_error(address: &str, connection: &Connection, when: &str) -> anyhow::Error {
    let peer = connection.peer();
    Failure::new(exit::DISCONNECTED, format!("the server of `{address}` ({peer}) disconnected {when}")).into()
}
