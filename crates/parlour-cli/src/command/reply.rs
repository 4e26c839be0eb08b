//! Replies as `parlour call` prints them.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crate::args::Call;
use crate::exit::{self, Failure};
use crate::lines::Framing;
use crate::{json, output};

/// Returns a reply as it is printed. Lines for a terminal are made printable. With --json, fails if the reply is not
/// JSON.
pub(super) fn printed(args: &Call, reply: &[u8]) -> anyhow::Result<Vec<u8>> {
    let json = match args.json {
        true => Some(
            json::compact(reply).map_err(|error| Failure::new(exit::OTHER, format!("a reply is not JSON: {error}")))?,
        ),
        false => None,
    };
    let reply = json.as_deref().unwrap_or(reply);
    let mut printed = Vec::with_capacity(reply.len() + 1);
    match framing(args) == Framing::Lines && std::io::stdout().is_terminal() {
        true => framing(args).append(&output::for_terminal(reply), &mut printed),
        false => framing(args).append(reply, &mut printed),
    }
    Ok(printed)
}

/// Returns how replies are told apart on stdout.
pub(super) fn framing(args: &Call) -> Framing {
    if args.raw { Framing::Raw } else { Framing::Lines }
}

/// Returns the time until the deadline.
pub(super) fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
