//! `parlour watch`: prints a line for each change of a name.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Context;
use parlour::ErrorKind;
use parlour::inspect::{self, NameStatus, Owner, Resolution};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;

use super::{holder, list};
use crate::args;
use crate::output;
use crate::signals::Stop;

/// The time for which a state is not printed that may be one of a server on its way. A server takes the lock first,
/// writes its record then, and creates its sockets last. When a server is killed, the kernel may release its lock
/// before it closes its sockets.
const ON_THE_WAY: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// One state, as `--json` prints it.
#[derive(Serialize)]
struct Line<'a> {
    /// The time at which the state was seen, in UTC.
    time: String,
    #[serde(flatten)]
    state: State<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum State<'a> {
    Found(Box<list::NameRow>),
    Absent { name: &'a str, state: &'static str },
}

/// A state that a later one is compared with.
#[derive(PartialEq)]
struct Seen {
    state: &'static str,
    path: PathBuf,
    owner: Option<Owner>,
    transports: Vec<parlour::Transport>,
}

impl Seen {
    fn of(status: &NameStatus) -> Self {
        Self {
            state: list::state(&status.state),
            path: status.path.clone(),
            owner: status.owner.clone(),
            transports: status.transports.clone(),
        }
    }

    /// Returns true if this may be the state of a server that comes or goes at the moment.
    fn may_be_on_the_way(&self) -> bool {
        let has_all = self.owner.as_ref().is_some_and(|owner| owner.transports == self.transports);
        self.state == "waiting" || (self.state == "live" && !has_all)
    }
}

/// The end of a wait.
#[derive(PartialEq)]
enum End {
    Change,
    TimeOut,
    /// By a signal, or because nobody reads the output.
    Stop,
}

pub(super) fn run(args: &args::Watch) -> anyhow::Result<()> {
    let stop = Stop::on_interrupt_or_hangup().context("catching signals")?;
    let mut watch = inspect::watch_with(&args.address, &holder::options(args.server_uid))?;
    let (mut last, mut left, mut end) = (None, args.count, End::Change);
    let mut was_unknown = false;
    while end != End::Stop {
        // A change that is reported from here on leads to another look.
        watch.changed()?;
        let resolution = holder::resolve(args.into())?;
        let seen = resolution.found().map(Seen::of);
        // For want of descriptors, for example. The last state stays until a look tells another one.
        let unknown = resolution.client.as_ref().err().filter(|error| error.kind() == ErrorKind::Io);
        let is_unknown = unknown.is_some();
        if let Some(error) = unknown.filter(|_| !was_unknown) {
            output::note(format_args!("{error}; looking again"));
        }
        was_unknown = is_unknown;
        let is_on_the_way = end == End::Change && seen.as_ref().is_some_and(Seen::may_be_on_the_way);
        let waits = is_unknown || is_on_the_way;
        if !waits && last.as_ref() != Some(&seen) {
            last = Some(seen);
            print(args, &resolution)?;
            left = left.map(|left| left - 1);
            if left == Some(0) {
                break;
            }
        }
        end = match wait(&watch, &stop, waits.then_some(&ON_THE_WAY)).context("waiting for a change")? {
            End::TimeOut if is_unknown => End::Change,
            end => end,
        };
    }
    Ok(())
}

fn wait(watch: &inspect::Watch, stop: &Stop, timeout: Option<&Timespec>) -> io::Result<End> {
    let stdout = io::stdout();
    loop {
        let mut fds = [
            PollFd::new(watch, PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
            PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut fds, timeout) {
            Ok(0) => return Ok(End::TimeOut),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let has = |index: usize, flags| fds[index].revents().intersects(flags);
        if has(1, PollFlags::IN) || has(2, PollFlags::ERR | PollFlags::HUP) {
            return Ok(End::Stop);
        }
        if has(0, PollFlags::IN) {
            return Ok(End::Change);
        }
    }
}

fn print(args: &args::Watch, resolution: &Resolution) -> anyhow::Result<()> {
    let time = list::timestamp(SystemTime::now());
    let row = resolution.found().map(list::NameRow::new);
    if args.json {
        let state = match row {
            Some(row) => State::Found(Box::new(row)),
            None => State::Absent { name: resolution.address.name(), state: "absent" },
        };
        return output::json_line(&Line { time, state });
    }
    let Some(row) = row else { return output::line(format_args!("{time} absent")) };
    let (pid, uid) = (output::or_dash(row.pid), output::or_dash(row.uid));
    let (transports, program) = (row.transports.join(","), output::or_dash(row.program.as_ref()));
    let yields = if row.yields { ", yields" } else { "" };
    output::line(format_args!("{time} {}: pid {pid}, uid {uid}, {transports}, {program}{yields}", row.state))
}
