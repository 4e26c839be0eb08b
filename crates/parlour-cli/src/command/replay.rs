//! `parlour replay`: plays the clients of a recording against a server.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use parlour::{Connection, ErrorKind, TryRecvError};

use super::record::bar;
use crate::args::Replay;
use crate::output;
use crate::recording::{Event, Reader, Recording};
use crate::signals::Stop;

/// The time after which answers are received, and signals are looked for, while a message cannot be sent or is not due.
const TURN: Duration = Duration::from_millis(20);

/// The number of differences that are printed.
const PRINTED_MAX: u64 = 20;

/// The number of bytes of a message that are printed.
const SHOWN_MAX: usize = 60;

/// The number of messages of a client, and of their bytes, that are received before the other clients and signals.
const DRAINED_MAX: usize = 1000;
const DRAINED_BYTES_MAX: usize = 16 << 20;

/// The number of bytes of answers of a client that wait to be compared. Further ones are left to the kernel.
const QUEUED_MAX: usize = 64 << 20;

/// The time for which answers that the recording does not have are looked for, after the last event of a client.
const SURPLUS_TIME: Duration = Duration::from_secs(2);

/// The part of a client.
struct Player {
    client: u64,
    connection: Connection,
    compare: bool,
    /// With `compare`, the answers that came and were not looked at yet.
    answers: VecDeque<Vec<u8>>,
    /// Their bytes.
    queued: usize,
    has_ended: bool,
    /// The number of answers that the recording has up to now.
    expected: u64,
    /// The number of answers that were received, without those in `answers`.
    received: u64,
}

/// Numbers of a replay.
#[derive(Default)]
struct Totals {
    clients: u64,
    sent: u64,
    expected: u64,
    received: u64,
    different: u64,
    surplus: u64,
}

/// The players of all clients.
struct Stage<'a> {
    args: &'a Replay,
    stop: &'a Stop,
    players: BTreeMap<u64, Player>,
    /// Clients after their last event, which send no more, with the time since when.
    ending: Vec<(Player, Instant)>,
    totals: Totals,
}

pub(super) fn run(args: &Replay) -> anyhow::Result<()> {
    let mut reader = Reader::default();
    for path in &args.files {
        let reading = || format!("reading {}", path.display());
        let file = std::fs::read(path).with_context(reading)?;
        reader.add(&file).with_context(reading)?;
    }
    let recording = reader.finish();
    check(args, &recording)?;
    let stop = Stop::on_interrupt_or_hangup().context("catching signals")?;
    let mut stage =
        Stage { args, stop: &stop, players: BTreeMap::new(), ending: Vec::new(), totals: Totals::default() };
    let progress = bar(recording.events.len() as u64);
    let begin = Instant::now();
    for event in &recording.events {
        if !stage.wait_until(event, begin)? {
            break;
        }
        stage.play(event)?;
        progress.inc(1);
    }
    stage.end()?;
    progress.finish_and_clear();
    let Totals { clients, sent, expected, received, different, surplus } = stage.totals;
    output::note(format_args!("{sent} messages of {clients} clients sent, {received} of {expected} answers received"));
    match (different, surplus) {
        (0, 0) => Ok(()),
        (_, 0) => bail!("{different} of {expected} answers differ from the recording"),
        (0, _) => bail!("{surplus} answers are not in the recording"),
        _ => bail!("{different} of {expected} answers differ from the recording, and {surplus} are not in it"),
    }
}

/// Returns an error if the recording cannot be replayed.
fn check(args: &Replay, recording: &Recording) -> anyhow::Result<()> {
    let Recording { lost, parts, with_descriptors, .. } = recording;
    if *parts > 0 {
        bail!("{parts} messages of the recording have more than 1 MiB, and only their beginning was recorded");
    }
    if *with_descriptors > 0 {
        bail!("{with_descriptors} messages from clients of the recording have descriptors, which were not recorded");
    }
    if *lost > 0 && args.compare {
        bail!("{lost} messages are missing in the recording, so the answers cannot be compared; record again");
    }
    if *lost > 0 {
        output::note(format_args!("{lost} messages are missing in the recording"));
    }
    Ok(())
}

impl Stage<'_> {
    /// Waits until a message is due. Returns false after a signal.
    fn wait_until(&mut self, event: &Event, begin: Instant) -> anyhow::Result<bool> {
        let due = match self.args.speed {
            0.0 => Duration::ZERO,
            speed => event.at.div_f64(speed),
        };
        while !self.stop.is_triggered() {
            let left = due.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Ok(true);
            }
            self.players.values_mut().try_for_each(Player::drain)?;
            self.drain_ending()?;
            self.stop.wait(left.min(TURN))?;
        }
        Ok(false)
    }

    fn play(&mut self, event: &Event) -> anyhow::Result<()> {
        let Self { args, stop, players, totals, .. } = self;
        let player = match players.entry(event.client) {
            Entry::Occupied(player) => player.into_mut(),
            Entry::Vacant(place) => {
                totals.clients += 1;
                place.insert(Player::connect(&args.address, event.client, args.compare)?)
            }
        };
        if event.is_in {
            totals.sent += u64::from(player.send(&event.bytes, args.timeout, stop)?);
        } else {
            player.expected += 1;
            totals.expected += 1;
            if args.compare {
                player.compare(&event.bytes, args.timeout, stop, totals)?;
            }
        }
        // The client of the recording went away here. The server may still answer.
        if event.is_last
            && let Some(mut player) = players.remove(&event.client)
        {
            player.finish(args.timeout)?;
            self.ending.push((player, Instant::now()));
            self.drain_ending()?;
        }
        Ok(())
    }

    /// Receives for the clients that send no more, and closes those that need not wait any longer.
    fn drain_ending(&mut self) -> anyhow::Result<()> {
        let Self { args, ending, totals, .. } = self;
        let time = if args.compare { SURPLUS_TIME.min(args.timeout) } else { args.timeout };
        for (player, _) in &mut *ending {
            player.drain()?;
            player.print_surplus(totals)?;
        }
        ending.retain(|(player, since)| {
            let is_open = !player.has_ended && since.elapsed() < time;
            let is_needed = is_open && (args.compare || player.received < player.expected);
            if !is_needed {
                totals.received += player.received;
            }
            is_needed
        });
        Ok(())
    }

    /// Waits for the answers that are still to come.
    fn end(&mut self) -> anyhow::Result<()> {
        loop {
            self.drain_ending()?;
            if self.ending.is_empty() || self.stop.is_triggered() {
                break;
            }
            self.stop.wait(TURN)?;
        }
        // After a signal.
        let rest = self.players.values().chain(self.ending.iter().map(|(player, _)| player));
        self.totals.received += rest.map(|player| player.received).sum::<u64>();
        Ok(())
    }
}

impl Player {
    fn connect(address: &str, client: u64, compare: bool) -> anyhow::Result<Self> {
        let connection = Connection::connect(address)?;
        let answers = VecDeque::new();
        Ok(Self { client, connection, compare, answers, queued: 0, has_ended: false, expected: 0, received: 0 })
    }

    /// Sends a message, and receives answers while there is no space for it. Returns false after a signal.
    fn send(&mut self, bytes: &[u8], timeout: Duration, stop: &Stop) -> anyhow::Result<bool> {
        let begin = Instant::now();
        loop {
            match self.connection.send_timeout(bytes, TURN) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == ErrorKind::TimedOut && begin.elapsed() < timeout => self.drain()?,
                Err(error) => return Err(anyhow::Error::new(error).context(format!("client {}", self.client))),
            }
            if stop.is_triggered() {
                return Ok(false);
            }
        }
    }

    /// Tells the server that no message follows.
    fn finish(&mut self, timeout: Duration) -> anyhow::Result<()> {
        match self.connection.finish_timeout(timeout.min(SURPLUS_TIME)) {
            Err(error) if !is_end(error.kind()) && error.kind() != ErrorKind::TimedOut => {
                Err(anyhow::Error::new(error).context(format!("client {}", self.client)))
            }
            _ => Ok(()),
        }
    }

    /// Receives answers that have arrived.
    fn drain(&mut self) -> anyhow::Result<()> {
        let mut bytes = 0;
        for _ in 0..DRAINED_MAX {
            if self.has_ended || bytes > DRAINED_BYTES_MAX || self.queued > QUEUED_MAX {
                break;
            }
            match self.connection.try_recv() {
                Ok(Some(message)) if self.compare => {
                    bytes += message.len();
                    self.queued += message.len();
                    self.answers.push_back(message.to_vec());
                }
                Ok(Some(message)) => {
                    bytes += message.len();
                    self.received += 1;
                }
                Ok(None) => self.has_ended = true,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Failed(error)) if is_end(error.kind()) => self.has_ended = true,
                Err(TryRecvError::Failed(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let answer = self.answers.pop_front()?;
        self.queued -= answer.len();
        self.received += 1;
        Some(answer)
    }

    /// Compares the next answer with the recorded one, and prints a difference.
    fn compare(&mut self, bytes: &[u8], timeout: Duration, stop: &Stop, totals: &mut Totals) -> anyhow::Result<()> {
        let begin = Instant::now();
        let answer = loop {
            if let Some(answer) = self.next() {
                break Some(answer);
            }
            if self.has_ended {
                break None;
            }
            if stop.is_triggered() {
                return Ok(());
            }
            let left = timeout.saturating_sub(begin.elapsed());
            match self.connection.recv_timeout(left.min(TURN)) {
                Ok(Some(message)) => {
                    self.queued += message.len();
                    self.answers.push_back(message.to_vec());
                }
                Ok(None) => self.has_ended = true,
                Err(error) if is_end(error.kind()) => self.has_ended = true,
                Err(error) if error.kind() == ErrorKind::TimedOut && left > TURN => {}
                Err(error) => {
                    let what = format!("answer {} of client {}", self.expected, self.client);
                    return Err(anyhow::Error::new(error).context(what));
                }
            }
        };
        let difference = match answer {
            Some(answer) if answer == bytes => return Ok(()),
            Some(answer) => {
                let at = answer.iter().zip(bytes).take_while(|(one, other)| one == other).count();
                format!("byte {at} differs: {} instead of {}", shown(&answer, at), shown(bytes, at))
            }
            None => format!("no answer, and the server has disconnected, instead of {}", shown(bytes, 0)),
        };
        totals.different += 1;
        self.print(totals, self.expected, &difference)
    }

    /// Prints the answers that came after all that the recording has.
    fn print_surplus(&mut self, totals: &mut Totals) -> anyhow::Result<()> {
        while let Some(answer) = self.next() {
            totals.surplus += 1;
            self.print(totals, self.received, &format!("{} is not in the recording", shown(&answer, 0)))?;
        }
        Ok(())
    }

    fn print(&self, totals: &Totals, number: u64, difference: &str) -> anyhow::Result<()> {
        if totals.different + totals.surplus <= PRINTED_MAX {
            output::line(format_args!("client {}, answer {number}: {difference}", self.client))?;
        }
        Ok(())
    }
}

fn is_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Disconnected | ErrorKind::Truncated)
}

/// Returns the part of a message around a place, as text on one line that is safe to print.
fn shown(message: &[u8], at: usize) -> String {
    let begin = at.saturating_sub(SHOWN_MAX / 2).min(message.len());
    let end = message.len().min(begin + SHOWN_MAX);
    let dots = |is_cut: bool| if is_cut { "..." } else { "" };
    let text = output::on_one_line(&message[begin..end]);
    format!("{}\"{text}\"{} ({} bytes)", dots(begin > 0), dots(end < message.len()), message.len())
}
