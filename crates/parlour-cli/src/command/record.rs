//! `parlour record`: writes the messages of a server into a file.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parlour::Address;
use parlour::inspect::TapMessage;

use super::follow::{Follow, Turn};
use super::holder::Wanted;
use crate::args::Record;
use crate::output;
use crate::recording::{Recorder, Totals};
use crate::signals::Stop;

pub(super) fn run(args: &Record) -> anyhow::Result<()> {
    let stop = Stop::on_interrupt_or_hangup().context("catching signals")?;
    let mut tap = Follow::begin(Wanted { address: &args.address, server_uid: args.server_uid })?;
    let mut files = Files::begin(args)?;
    let progress = progress(args.count);
    let mut ended = Ok(());
    while args.count.is_none_or(|count| files.messages() < count) && !stop.is_triggered() {
        let turn = match tap.turn() {
            Ok(Turn::Message(message)) => files.write(&message),
            Ok(Turn::Nothing) => files.flush_if_due(),
            Ok(Turn::Ended) => {
                output::note("the server has ended");
                break;
            }
            Err(error) => Err(error.into()),
        };
        // The file keeps the messages that were recorded before.
        if turn.is_err() {
            ended = turn;
            break;
        }
        progress.set_position(files.messages());
    }
    progress.finish_and_clear();
    // The first error is the reason for those that follow it.
    let finished = files.finish();
    if finished.is_ok() {
        output::note(summary(&files.totals()));
    }
    ended.and(finished)
}

/// The files of a recording, which follow each other.
struct Files<'a> {
    args: &'a Record,
    name: String,
    /// The number of the file that is written, from 1 on.
    number: u64,
    path: PathBuf,
    recorder: Recorder<BufWriter<File>>,
    flushed: Instant,
    /// The numbers of the files before.
    before: Totals,
}

impl<'a> Files<'a> {
    fn begin(args: &'a Record) -> anyhow::Result<Self> {
        let name = Address::parse(&args.address)?.name().to_owned();
        let second = path_of(&args.file, 2);
        // Otherwise a file of an earlier recording would end this one later.
        if args.split.is_some() && !args.force && second.symlink_metadata().is_ok() {
            bail!("{} exists, and the recording would go on there (--force replaces a file)", second.display());
        }
        let path = args.file.clone();
        let recorder = open(args, &path, &name)?;
        Ok(Self { args, name, number: 1, path, recorder, flushed: Instant::now(), before: Totals::default() })
    }

    /// Writes a message, to the next file if this one is full.
    fn write(&mut self, message: &TapMessage) -> anyhow::Result<()> {
        if self.recorder.is_full(self.args.split) {
            self.begin_next()?;
        }
        self.recorder.write(message).with_context(|| writing(&self.path))?;
        self.flush_if_due()
    }

    fn begin_next(&mut self) -> anyhow::Result<()> {
        let next = path_of(&self.args.file, self.number + 1);
        let recorder = open(self.args, &next, &self.name)?;
        output::note(format_args!("{} is complete; goes on in {}", self.path.display(), next.display()));
        let mut complete = std::mem::replace(&mut self.recorder, recorder);
        let path = std::mem::replace(&mut self.path, next);
        self.number += 1;
        self.flushed = Instant::now();
        self.before += complete.totals;
        complete.finish().with_context(|| writing(&path))
    }

    fn flush_if_due(&mut self) -> anyhow::Result<()> {
        if self.flushed.elapsed() < self.recorder.flush_after() {
            return Ok(());
        }
        self.flushed = Instant::now();
        self.recorder.flush().with_context(|| writing(&self.path))
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.recorder.finish().with_context(|| writing(&self.path))
    }

    fn messages(&self) -> u64 {
        self.totals().messages
    }

    fn totals(&self) -> Totals {
        let mut totals = self.before;
        totals += self.recorder.totals;
        totals
    }
}

/// Returns the path of a file of a recording: `FILE`, then the same with `.2` and so on before its extension.
fn path_of(first: &Path, number: u64) -> PathBuf {
    match (number, first.extension()) {
        (1, _) => first.to_owned(),
        (_, None) => first.with_extension(number.to_string()),
        (_, Some(extension)) => {
            let mut numbered = OsString::from(format!("{number}."));
            numbered.push(extension);
            first.with_extension(numbered)
        }
    }
}

fn writing(path: &Path) -> String {
    format!("writing {}", path.display())
}

fn open(args: &Record, path: &Path, name: &str) -> anyhow::Result<Recorder<BufWriter<File>>> {
    let shown = path.display();
    let file = create(path, args.force).with_context(|| match args.force {
        true => format!("creating {shown}"),
        false => format!("creating {shown} (--force replaces a file)"),
    })?;
    Recorder::new(BufWriter::new(file), name).with_context(|| writing(path))
}

/// Creates the file of a recording, which only this user may read, because messages may be secret. A file or link that
/// `force` replaces is not written to: its place is taken by a new file.
fn create(path: &Path, force: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    if !force {
        return options.open(path);
    }
    let Some(name) = path.file_name() else { return Err(io::ErrorKind::IsADirectory.into()) };
    let mut new = OsString::from(".");
    new.push(name);
    new.push(format!(".{}", std::process::id()));
    let new = path.with_file_name(new);
    let file = options.open(&new)?;
    match std::fs::rename(&new, path) {
        Ok(()) => Ok(file),
        Err(error) => {
            let _ = std::fs::remove_file(&new);
            Err(error)
        }
    }
}

/// Returns a bar on a terminal, if the number of messages is known.
fn progress(count: Option<u64>) -> ProgressBar {
    match count {
        Some(count) => bar(count),
        None => ProgressBar::hidden(),
    }
}

/// Returns a bar on a terminal. Elsewhere it is silent.
pub(super) fn bar(count: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} messages").unwrap_or(ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(count), ProgressDrawTarget::stderr()).with_style(style)
}

fn summary(totals: &Totals) -> String {
    let Totals { messages, lost, parts } = totals;
    let mut text = format!("{messages} messages recorded");
    if *lost > 0 {
        text += &format!(", {lost} lost");
    }
    if *parts > 0 {
        text += &format!(", {parts} with their beginning only");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_recording_are_numbered_before_their_extension() {
        for (first, second) in
            [("a/room.mcap", "a/room.2.mcap"), ("room", "room.2"), (".x", ".x.2"), ("a.b.c", "a.b.2.c")]
        {
            assert_eq!(path_of(Path::new(first), 1), Path::new(first));
            assert_eq!(path_of(Path::new(first), 2), Path::new(second));
        }
    }
}
