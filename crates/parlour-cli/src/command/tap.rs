//! `parlour tap`: prints the messages of a server while they pass.

use std::fmt::Write as _;
use std::io;
use std::os::fd::AsFd;
use std::time::SystemTime;

use anyhow::Context;
use parlour::inspect::{TapDirection, TapMessage};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::follow::{Follow, Turn};
use super::holder::Wanted;
use crate::args::{Direction, Tap};
use crate::output;
use crate::recording::is_json;
use crate::signals::Stop;

/// A message as `--json` prints it.
#[derive(Serialize)]
struct Line {
    time: String,
    client: u64,
    pid: Option<u32>,
    direction: &'static str,
    length: u64,
    descriptors: u16,
    /// Messages that were lost before this one.
    lost: u64,
    /// The message, if it is a JSON object or array.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
    /// True if the message has more bytes than are shown.
    cut: bool,
}

pub(super) fn run(args: &Tap) -> anyhow::Result<()> {
    let stop = Stop::on_interrupt_or_hangup().context("catching signals")?;
    let mut tap = Follow::begin(Wanted { address: &args.address, server_uid: args.server_uid })?;
    // An idle server gives no other sign that the tap works.
    output::note(format_args!("showing the messages of `{}` from now on", args.address));
    let mut left = args.count;
    let mut lost = 0u64;
    while left != Some(0) && !stop.is_triggered() && is_read() {
        let message = match tap.turn()? {
            Turn::Message(message) => message,
            Turn::Nothing => continue,
            Turn::Ended => {
                output::note("the server has ended");
                return Ok(());
            }
        };
        // The lost messages may have been of any client, so they are told with the next one that is shown.
        lost = lost.saturating_add(message.lost);
        if !is_wanted(args, &message) {
            continue;
        }
        let printed = print(args, &message, std::mem::take(&mut lost));
        if printed.as_ref().is_err_and(output::is_stdout_closed) {
            return Ok(());
        }
        printed?;
        left = left.map(|left| left - 1);
    }
    Ok(())
}

fn is_wanted(args: &Tap, message: &TapMessage) -> bool {
    let is_in = message.direction == TapDirection::In;
    args.client.is_none_or(|pid| message.pid == Some(pid))
        && args.direction.is_none_or(|direction| (direction == Direction::In) == is_in)
}

fn print(args: &Tap, message: &TapMessage, lost: u64) -> anyhow::Result<()> {
    let shown = &message.bytes[..message.bytes.len().min(args.max.unwrap_or(usize::MAX))];
    let is_cut = (shown.len() as u64) < message.length;
    if args.json {
        let is_whole = !is_cut && is_json(shown);
        let value = is_whole.then(|| serde_json::from_slice(shown).ok()).flatten();
        let text = std::str::from_utf8(shown).ok().filter(|_| value.is_none()).map(str::to_owned);
        let hex = (text.is_none() && value.is_none()).then(|| hex(shown));
        return output::json_line(&Line {
            time: timestamp(message.at),
            client: message.client,
            pid: message.pid,
            direction: word(message.direction),
            length: message.length,
            descriptors: message.descriptors,
            lost,
            value,
            text,
            hex,
            cut: is_cut,
        });
    }
    if lost > 0 {
        output::line(format_args!("-- {lost} not shown"))?;
    }
    let content = if args.hex { hex(shown) } else { output::on_one_line(shown) };
    output::line(format_args!(
        "{} {} {} {}{} {content}{}",
        timestamp(message.at),
        output::or_dash(message.pid),
        word(message.direction),
        message.length,
        if message.descriptors > 0 { format!(" +{} descriptors", message.descriptors) } else { String::new() },
        if is_cut { " ..." } else { "" },
    ))
}

/// Returns true if somebody may still read the output.
fn is_read() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty())];
    let has_ended = poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0);
    !(has_ended && fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP))
}

/// Formats a time as `2026-11-22T17:42:00.120Z`.
fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

fn word(direction: TapDirection) -> &'static str {
    match direction {
        TapDirection::In => "in",
        TapDirection::Out => "out",
        _ => "not sent",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
