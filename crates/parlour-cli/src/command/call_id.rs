//! `parlour call --id`: a call whose answers carry its number, for servers of calls (docs/calls.md).

use std::time::Instant;

use parlour::{Caller, Connection, Message};

use super::reply::{left, printed};
use crate::args::Call;
use crate::exit::{self, Failure};
use crate::lines::Framing;
use crate::output;

/// Sends the request, and prints each answer as it arrives. `deadline` ends the wait for the first one.
pub(super) fn run(
    args: &Call,
    request: &[u8],
    connection: Connection,
    deadline: Option<Instant>,
) -> anyhow::Result<()> {
    let caller = Caller::new(connection)?;
    let begin = answer_deadline(args, deadline);
    let mut answers = match begin {
        Some(deadline) => caller.call_stream_timeout(request, left(deadline))?,
        None => caller.call_stream(request)?,
    };
    let mut next = |deadline: Option<Instant>| -> parlour::Result<Option<Message>> {
        match answer_deadline(args, deadline) {
            Some(deadline) => answers.next_timeout(left(deadline)),
            None => answers.next().transpose(),
        }
    };
    let mut inexact = 0u64;
    let mut answer = next(deadline)?;
    while let Some(message) = answer {
        output::bytes(&printed(args, &message)?)?;
        let is_exact = args.raw || args.json || Framing::Lines.is_exact_for(&message);
        inexact += u64::from(!is_exact);
        answer = next(None)?;
    }
    if inexact > 0 {
        let text = format!("answers that contain a newline were printed as several lines: {inexact}; use --raw");
        return Err(Failure::new(exit::INEXACT, text).into());
    }
    Ok(())
}

/// Returns the earlier one of this deadline and that for an answer.
fn answer_deadline(args: &Call, deadline: Option<Instant>) -> Option<Instant> {
    let answer = args.answer_timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    deadline.into_iter().chain(answer).min()
}
