//! The processes of a turn: the publisher, which starts the readers.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use parlour_measure::{cpu_ns, page_faults};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use super::way::{FramePublisher, FrameWay};

/// The argument that makes this program run a process of a turn.
pub(crate) const ROLE: &str = "--frames";

/// The number of bytes that a turn publishes, divided by the number of readers.
const BYTES: usize = 256 << 20;

/// The least number of frames of a turn.
const FRAMES_MIN: usize = 20;

/// The number of frames before the time is taken.
const WARM_UP: usize = 64;

/// The time after which a process of a turn gives up.
const LIMIT: Duration = Duration::from_secs(60);

/// The time for which waiting readers are observed.
const IDLE: Duration = Duration::from_millis(300);

/// The way and the shape of a turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Turn {
    pub(super) way: String,
    pub(super) place: PathBuf,
    pub(super) size: usize,
    pub(super) readers: usize,
    /// True if frames are measured, false if the readers only wait.
    pub(super) busy: bool,
}

/// The figures of a turn. Those that it does not measure are 0.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Figures {
    /// The time of a frame in microseconds.
    pub(super) micros: f64,
    /// The page faults of all processes for a frame.
    pub(super) faults: f64,
    /// The processor time of a reader that waits, in percent of a processor.
    pub(super) idle: f64,
}

/// Runs a turn in new processes.
pub(super) fn run(turn: &Turn) -> Result<Figures> {
    let publisher = Command::new(std::env::current_exe()?)
        .args([ROLE, "publisher", &serde_json::to_string(turn)?])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = publisher.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the publisher failed: {}", said.trim());
    serde_json::from_slice(&output.stdout).context("reading the figures of the publisher")
}

/// Runs the process of a turn with these arguments: `publisher` or `reader`, and the turn.
pub(crate) fn take(mut arguments: impl Iterator<Item = String>, ways: &[Box<dyn FrameWay>]) -> Result<()> {
    // A process without its parent would measure, or poll, for nothing.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let (side, turn) = arguments.next().zip(arguments.next()).context("the side and the turn are missing")?;
    let turn: Turn = serde_json::from_str(&turn)?;
    let way = ways.iter().find(|way| way.name() == turn.way).context("there is no such way")?;
    match side.as_str() {
        "publisher" => {
            thread::spawn(|| {
                thread::sleep(LIMIT);
                eprintln!("no end after {} s", LIMIT.as_secs());
                std::process::exit(1);
            });
            println!("{}", serde_json::to_string(&publish(&**way, &turn)?)?);
            Ok(())
        }
        "reader" => way.read(&turn.place, turn.size, turn.readers, &mut || {
            let mut out = std::io::stdout().lock();
            out.write_all(b"\n")?;
            Ok(out.flush()?)
        }),
        _ => bail!("there is no such side"),
    }
}

fn publish(way: &dyn FrameWay, turn: &Turn) -> Result<Figures> {
    let mut publisher = way.publisher(&turn.place, turn.size, turn.readers)?;
    let mut readers = (0..turn.readers).map(|_| Reader::start(turn)).collect::<Result<Vec<_>>>()?;
    publisher.meet()?;
    readers.iter_mut().try_for_each(Reader::answer)?;
    let pids: Vec<u32> = readers.iter().map(|reader| reader.child.id()).collect();
    let mut settle = |publisher: &mut dyn FramePublisher| {
        publisher.mark()?;
        readers.iter_mut().try_for_each(Reader::answer)
    };
    for number in 0..WARM_UP {
        publisher.publish(number as u8)?;
    }
    settle(&mut *publisher)?;
    if !turn.busy {
        return Ok(Figures { micros: 0.0, faults: 0.0, idle: idle(&pids)? });
    }
    let faults = || -> Result<u64> {
        let of_readers = pids.iter().map(|&pid| page_faults(pid)).sum::<Result<u64>>()?;
        Ok(of_readers + page_faults(std::process::id())?)
    };
    // The first reading maps the memory that reading takes.
    faults()?;
    settle(&mut *publisher)?;
    let before = faults()?;
    let count = (BYTES / turn.size / turn.readers).max(FRAMES_MIN);
    let began = Instant::now();
    for number in 0..count {
        publisher.publish(number as u8)?;
    }
    settle(&mut *publisher)?;
    let elapsed = began.elapsed();
    let faults = faults()? - before;
    let each = |figure: f64| figure / count as f64;
    Ok(Figures { micros: each(elapsed.as_secs_f64() * 1e6), faults: each(faults as f64), idle: 0.0 })
}

/// Returns the processor time of a waiting reader, in percent of a processor.
fn idle(readers: &[u32]) -> Result<f64> {
    let used = || readers.iter().map(|&pid| cpu_ns(pid)).sum::<Result<u64>>();
    // Work that follows a message, such as spinning, must be over before the measurement begins.
    thread::sleep(Duration::from_millis(50));
    let (began, before) = (Instant::now(), used()?);
    thread::sleep(IDLE);
    let (elapsed, after) = (began.elapsed(), used()?);
    Ok((after - before) as f64 / elapsed.as_nanos() as f64 / readers.len() as f64 * 100.0)
}

/// The process of a reader. Dropping it ends the process.
struct Reader {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Reader {
    fn start(turn: &Turn) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([ROLE, "reader", &serde_json::to_string(turn)?])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().context("taking stdout of a reader")?;
        Ok(Self { child, out: BufReader::new(out) })
    }

    /// Waits until the reader tells.
    fn answer(&mut self) -> Result<()> {
        ensure!(self.out.read_line(&mut String::new())? > 0, "a reader ended early");
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // An error means that the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Creates the directory of a turn, in /dev/shm if possible.
pub(super) fn place() -> Result<tempfile::TempDir> {
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    directory.context("creating a directory for the turn")
}
