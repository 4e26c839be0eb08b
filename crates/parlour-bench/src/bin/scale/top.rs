//! `parlour top` and `parlour tap` beside a server of many clients under load: the time until a client that does not
//! read is named, its last message, and the share of a processor that the view takes.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use parlour::{ClientStats, WaitReason, inspect};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::child::Child;

/// The number of clients that stop reading, one after the other.
const ROUNDS: usize = 5;

/// The time for which the share of a processor is measured.
const MEASURED: Duration = Duration::from_secs(10);

/// The time limit of each wait.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// The messages of a client that does not read. Their echoes are more than the channel takes, and less than the hub
/// buffers.
const MESSAGES: usize = 70;
const MESSAGE_LEN: usize = 16 * 1024;

/// A child process that is killed when this is dropped.
struct Killed(process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both calls fail only if the process has ended, and then nothing is left to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes the measurements with this `parlour`, and prints them.
pub(crate) fn measure(program: &Path, connections: usize) -> Result<()> {
    let base = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
    let address = format!("{}/crowd", base.path().display());
    let mut server = Child::spawn(&["serve", "hub", &format!("unix:{address}"), &(connections + 1).to_string()])?;
    ensure!(server.line()? == "ready");
    let mut crowd = Child::spawn(&["clients", &format!("unix:{address}"), &connections.to_string()])?;
    crowd.ask("connect")?;

    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut rounds = 0u64;
            while !is_done.load(Ordering::Relaxed) {
                crowd.ask("in-turn")?;
                rounds += 1;
            }
            anyhow::Ok(rounds)
        });
        let begin = Instant::now();
        let outcome = under_load(program, base.path(), &address);
        is_done.store(true, Ordering::Relaxed);
        let rounds = load.join().ok().context("the thread of the load panicked")??;
        let rate = (rounds * connections as u64) as f64 / begin.elapsed().as_secs_f64();
        println!("{connections} clients, {rate:.0} round trips per second");
        outcome
    })
}

fn under_load(program: &Path, base: &Path, address: &str) -> Result<()> {
    let mut named = Vec::new();
    for _ in 0..ROUNDS {
        let (time, last) = one_client(program, base, address)?;
        println!("named after {time:.1?}; tap shows its last message: {last}");
        named.push(time);
    }
    println!("the slowest: {:.1?}", named.iter().max().context("no round")?);
    for (arguments, size) in [
        (&["top"][..], [80, 24]),
        (&["top", address], [80, 24]),
        (&["top", address], [200, 60]),
        (&["top", address, "--sort", "messages"], [200, 60]),
    ] {
        let terminal = Terminal::start(program, base, arguments, size)?;
        let share = terminal.share()?;
        let shown: Vec<_> = arguments.iter().filter(|part| **part != address).copied().collect();
        let of = if arguments.contains(&address) { " of the clients" } else { "" };
        println!("{}{of} at {}x{}: {:.2} % of a processor", shown.join(" "), size[0], size[1], share * 100.0);
    }
    Ok(())
}

/// Has one client stop reading. Returns the time from then until `top` named it, and the message that `tap` showed
/// last.
fn one_client(program: &Path, base: &Path, address: &str) -> Result<(Duration, String)> {
    let mut terminal = Terminal::start(program, base, &["top", address], [80, 24])?;
    let mut command = Command::new(program);
    command.args(["connect", address]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = Killed(command.spawn().context("starting a client")?);
    let pid = client.0.id();
    let tap = tap(program, address, pid)?;
    let mut stdin = client.0.stdin.take().context("taking stdin of the client")?;
    let shown = Arc::clone(&tap.last);
    thread::spawn(move || {
        let mut number = 0;
        // A tap begins with a message.
        while shown.lock().unwrap_or_else(PoisonError::into_inner).is_none() && number < 1000 {
            number += 1;
            // The client may be killed before it has read all.
            let _ = writeln!(stdin, "{number} begin");
            thread::sleep(Duration::from_millis(20));
        }
        for number in number + 1..=number + MESSAGES {
            let _ = writeln!(stdin, "{number} {}", "x".repeat(MESSAGE_LEN));
        }
        // The connection stays until the client is killed.
        thread::sleep(WAIT_LIMIT);
    });
    let is_it = |client: &ClientStats| {
        client.pid == Some(pid) && client.stuck().is_some_and(|waiting| waiting.reason == WaitReason::Space)
    };
    let began = until(|| {
        let clients = inspect::stats(address)?.clients;
        let waiting = clients.iter().find(|client| is_it(client)).and_then(ClientStats::stuck);
        Ok(waiting.and_then(|waiting| Instant::now().checked_sub(waiting.time)))
    })
    .context("the client does not become stuck")?;
    terminal.wait_for(&format!("to read, pid {pid}"))?;
    let time = began.elapsed();
    let last = until(|| {
        let clients = inspect::stats(address)?.clients;
        let received = clients.iter().find(|client| client.pid == Some(pid)).map(|client| client.received.messages);
        let shown = tap.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(shown.filter(|shown| received.map(|received| received.to_string()).as_deref() == Some(shown)))
    })
    .context("tap does not show the last message of the client")?;
    Ok((time, last))
}

/// A `parlour tap` of one client, and the first word of the last message that it has shown.
struct Tap {
    _process: Killed,
    last: Arc<Mutex<Option<String>>>,
}

fn tap(program: &Path, address: &str, pid: u32) -> Result<Tap> {
    let mut command = Command::new(program);
    command.args(["tap", address, "--client", &pid.to_string(), "--direction", "in", "--max", "20"]);
    let mut process = Killed(command.stdout(Stdio::piped()).spawn().context("starting parlour tap")?);
    let stdout = BufReader::new(process.0.stdout.take().context("taking stdout of parlour tap")?);
    let last = Arc::new(Mutex::new(None));
    let shown = Arc::clone(&last);
    // TIME PID in LENGTH NUMBER ...
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            if let Some(number) = line.split(' ').nth(4) {
                *shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(number.to_owned());
            }
        }
    });
    Ok(Tap { _process: process, last })
}

/// A terminal that nobody looks at, with `parlour top` in it.
struct Terminal {
    controller: File,
    top: Killed,
    shown: Vec<u8>,
}

impl Terminal {
    fn start(program: &Path, base: &Path, arguments: &[&str], [columns, lines]: [u16; 2]) -> Result<Self> {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&controller)?;
        unlockpt(&controller)?;
        let path = ptsname(&controller, Vec::new())?;
        let user = File::options().read(true).write(true).open(path.to_str()?)?;
        tcsetwinsize(&user, Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
        let mut command = Command::new(program);
        command.args(arguments).env("PARLOUR_DIR", base).env("TERM", "xterm");
        command.stdin(user.try_clone()?).stdout(user.try_clone()?).stderr(Stdio::null());
        let top = Killed(command.spawn().context("starting parlour top")?);
        let mut terminal = Self { controller: File::from(controller), top, shown: Vec::new() };
        terminal.wait_for("q quit")?;
        Ok(terminal)
    }

    /// Takes up what the program has written for up to this time. Returns false if nothing came.
    fn read(&mut self, timeout: Duration) -> Result<bool> {
        let timeout = Timespec::try_from(timeout)?;
        if poll(&mut [PollFd::new(&self.controller, PollFlags::IN)], Some(&timeout))? == 0 {
            return Ok(false);
        }
        let mut bytes = [0; 4096];
        let count = self.controller.read(&mut bytes).context("parlour top has ended")?;
        self.shown.extend(&bytes[..count]);
        Ok(true)
    }

    fn wait_for(&mut self, part: &str) -> Result<()> {
        let deadline = Instant::now() + WAIT_LIMIT;
        let part = part.replace(' ', "");
        while !without_spaces(&self.shown).contains(&part) {
            ensure!(Instant::now() < deadline, "parlour top does not show {part:?}");
            self.read(Duration::from_millis(50))?;
        }
        Ok(())
    }

    /// Returns the share of a processor that the program takes.
    fn share(mut self) -> Result<f64> {
        let (begin, before) = (Instant::now(), self.ticks()?);
        while begin.elapsed() < MEASURED {
            self.read(Duration::from_millis(50))?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        Ok((self.ticks()? - before) as f64 / rustix::param::clock_ticks_per_second() as f64 / seconds)
    }

    /// Returns the processor time of the program (`utime` and `stime` in proc_pid_stat(5)).
    fn ticks(&self) -> Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.top.0.id()))?;
        let (_, rest) = stat.rsplit_once(')').context("a malformed line of /proc")?;
        let numbers: Vec<&str> = rest.split_whitespace().collect();
        let [user, system] = [11, 12].map(|index| numbers.get(index).and_then(|number| number.parse::<u64>().ok()));
        user.zip(system).map(|(user, system)| user + system).context("a malformed line of /proc")
    }
}

/// Returns the characters that a terminal was told to show. The view writes those that change: it passes over spaces
/// that are there already.
fn without_spaces(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.split("\x1b[");
    let mut shown = parts.next().unwrap_or_default().replace(' ', "");
    for part in parts {
        // A sequence ends with a letter.
        let rest = part.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest);
        shown.extend(rest.chars().filter(|c| *c != ' '));
    }
    shown
}

/// Repeats a step until it returns something.
fn until<T>(mut step: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + WAIT_LIMIT;
    loop {
        if let Some(found) = step()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("timed out");
        }
        thread::sleep(Duration::from_millis(5));
    }
}
