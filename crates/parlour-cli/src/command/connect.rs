//! `parlour connect`: a client that sends its stdin and prints the replies.

use std::os::fd::AsFd;

use anyhow::Context as _;
use parlour::{ConnectOptions, Connection};

use crate::args::{Connect, Reach};
use crate::exit::{self, Failure};
use crate::output;
use crate::pump::{Ended, Pump};

pub(super) fn run(args: &Connect) -> anyhow::Result<()> {
    let mut connection = options(&args.reach).connect(&args.address)?;
    let input = std::io::stdin().as_fd().try_clone_to_owned().context("duplicating stdin")?;
    let output = std::io::stdout().as_fd().try_clone_to_owned().context("duplicating stdout")?;
    match Pump::between_streams(&mut connection, input, output).run() {
        Ended::Finished | Ended::PeerGone { all_sent: true } | Ended::Stopped => Ok(()),
        Ended::PeerGone { all_sent: false } => {
            Err(ended(&args.address, &connection, "before it received all of the input"))
        }
        Ended::SinkClosed => Err(output::stdout_closed()),
        Ended::Failed(error) => Err(error),
    }
}

/// Converts the command-line options to library options. `call` uses this too.
pub(super) fn options(reach: &Reach) -> ConnectOptions {
    let mut options = ConnectOptions::new();
    if let Some(timeout) = reach.timeout {
        options = options.timeout(timeout);
    }
    if let Some(wait) = reach.wait {
        options = options.wait_for_server(wait);
    }
    if let Some(uid) = reach.server_uid {
        options = options.server_uid(uid);
    }
    if let Some(bytes) = reach.message_max {
        options = options.message_max(bytes);
    }
    options
}

/// Returns the error for a server that disconnected too early.
pub(super) fn ended(address: &str, connection: &Connection, when: &str) -> anyhow::Error {
    let peer = connection.peer();
    Failure::new(exit::DISCONNECTED, format!("the server of `{address}` ({peer}) disconnected {when}")).into()
}
