//! Checks that need names, in a temporary directory: each transport with a server, a client, a message and its echo.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use parlour::{ConnectOptions, ServerOptions, Transport};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tempfile::TempDir;

use super::check::{Check, Verdict};
use super::kernel;
use crate::exit::{self, Failure};
use crate::signals::Stop;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the conversations in another thread, because none of their calls ends early. A signal to stop removes the
/// directory and ends this command, and with it that thread.
pub(super) fn checks() -> anyhow::Result<Vec<Check>> {
    let stop = Stop::on_interrupt_or_hangup().context("catching signals")?;
    let directory = match directory() {
        Ok(directory) => directory,
        Err(error) => return Ok(vec![impossible(&error)]),
    };
    let (told, checks) = mpsc::channel();
    let (done, ended) = io::pipe().map(|(ended, done)| (done, ended)).context("creating a pipe")?;
    let path = directory.path().to_owned();
    thread::Builder::new()
        .name("conversations".to_owned())
        .spawn(move || {
            let conversations = Transport::ALL.iter().map(|&transport| check(transport, &path));
            let checks: Vec<Check> = std::iter::once(kernel::peer_pidfd(&path)).chain(conversations).collect();
            let _ = told.send(checks);
            // The end of file wakes the main thread.
            drop(done);
        })
        .context("starting a thread")?;
    loop {
        let mut fds = [PollFd::new(&stop, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for the conversations"),
            Ok(_) if stop.is_triggered() => {
                remove(directory);
                return Err(Failure::new(exit::OTHER, "interrupted by a signal").into());
            }
            Ok(_) => return checks.recv().context("the conversations ended without a result"),
        }
    }
}

fn directory() -> io::Result<TempDir> {
    tempfile::Builder::new().prefix("parlour-doctor-").permissions(Permissions::from_mode(0o700)).tempdir()
}

fn impossible(error: &io::Error) -> Check {
    Check::but(
        Verdict::Problem,
        "conversations",
        format!("creating a temporary directory: {error}"),
        "set TMPDIR to a directory that you may write to",
    )
}

/// Removes the directory, while the other thread may still create and remove files in it.
fn remove(directory: TempDir) {
    let path = directory.keep();
    let begun = Instant::now();
    while std::fs::remove_dir_all(&path).is_err() && path.exists() && begun.elapsed() < TIMEOUT {}
}

fn check(transport: Transport, directory: &Path) -> Check {
    let check = format!("a conversation over {transport}");
    let started = Instant::now();
    match converse(transport, directory) {
        Ok(()) => Check::ok(check, format!("works, {:.1} ms", started.elapsed().as_secs_f64() * 1000.0)),
        Err(error) => Check::but(
            Verdict::Problem,
            check,
            exit::one_line(&error),
            "run `parlour -vv doctor` to see each step; a sandbox may forbid a system call",
        ),
    }
}

fn converse(transport: Transport, directory: &Path) -> anyhow::Result<()> {
    const MESSAGE: &[u8] = b"Is anybody in?";
    // A server creates its base, and not the parent of it. So no file appears after the whole directory was removed.
    let address = format!("{transport}:{}/base/{transport}", directory.display());
    let server = ServerOptions::new().transports([transport]).handshake_timeout(TIMEOUT).bind(&address)?;
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| -> parlour::Result<()> {
            let mut connection = server.accept_timeout(TIMEOUT)?;
            if let Some(message) = connection.recv_timeout(TIMEOUT)? {
                connection.send_timeout(&message, TIMEOUT)?;
            }
            connection.close()
        });
        let answer = (|| {
            let mut connection = ConnectOptions::new().timeout(TIMEOUT).connect(&address)?;
            connection.send_timeout(MESSAGE, TIMEOUT)?;
            connection.recv_timeout(TIMEOUT)
        })();
        if answer.is_err() {
            // The server does not wait for a client that could not connect.
            server.shutdown_handle().shutdown();
        }
        let served = serving.join();
        let answer = answer?;
        ensure!(answer.as_deref() == Some(MESSAGE), "the reply differs from the message");
        Ok(served.unwrap_or(Ok(()))?)
    })?;
    server.close()?;
    Ok(())
}
