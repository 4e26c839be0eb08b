//! The honest client: it makes one call after the other, alternately over an open connection and over a new one.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use parlour::{ConnectOptions, Connection};

use crate::args::Honest;
use crate::user::become_user;

/// The time after which a call without an answer has failed.
const WAIT_LIMIT: Duration = Duration::from_secs(1);

/// The pause between calls, so that the calls alone do not keep the machine busy.
const PAUSE: Duration = Duration::from_millis(2);

/// Prints `connected`. At the next line of stdin, makes calls for the given time, then prints `OPEN_P99 OPEN_CALLS
/// OPEN_FAILED NEW_P99 NEW_CALLS NEW_FAILED`, with the percentiles in nanoseconds.
pub(crate) fn run(args: &Honest) -> Result<()> {
    become_user(args.uid)?;
    let options = ConnectOptions::new().timeout(WAIT_LIMIT);
    let mut open = options.connect(&args.address)?;
    call(&mut open)?;
    println!("connected");
    std::io::stdin().read_line(&mut String::new())?;
    let (mut on_open, mut on_new) = (Calls::default(), Calls::default());
    let end = Instant::now() + Duration::from_secs(args.seconds);
    while Instant::now() < end {
        on_open.add(|| call(&mut open));
        on_new.add(|| call(&mut options.connect(&args.address)?));
        std::thread::sleep(PAUSE);
    }
    println!("{} {}", on_open.told(), on_new.told());
    Ok(())
}

fn call(connection: &mut Connection) -> Result<()> {
    const QUESTION: [u8; 64] = [7; 64];
    connection.send_timeout(&QUESTION[..], WAIT_LIMIT)?;
    let answer = connection.recv_timeout(WAIT_LIMIT)?;
    ensure!(answer.is_some_and(|answer| answer == QUESTION[..]), "the answer is wrong, or the server disconnected");
    Ok(())
}

#[derive(Default)]
struct Calls {
    took: Vec<Duration>,
    failed: usize,
}

impl Calls {
    fn add(&mut self, call: impl FnOnce() -> Result<()>) {
        let begin = Instant::now();
        match call() {
            Ok(()) => self.took.push(begin.elapsed()),
            Err(_) => self.failed += 1,
        }
    }

    /// Returns the 99th percentile of the successful calls, the number of calls, and the number of failed calls.
    fn told(mut self) -> String {
        self.took.sort_unstable();
        let p99 = self.took.get((self.took.len() * 99).div_ceil(100).saturating_sub(1));
        format!("{} {} {}", p99.map_or(0, Duration::as_nanos), self.took.len() + self.failed, self.failed)
    }
}
