//! Checks each transport with a server, a client, a message and its echo, in a temporary directory.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use parlour::{ConnectOptions, ServerOptions, Transport};
use tempfile::TempDir;

use super::check::{Check, Verdict};
use crate::exit;

const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn checks() -> Vec<Check> {
    Transport::ALL.iter().map(|&transport| check(transport)).collect()
}

fn check(transport: Transport) -> Check {
    let check = format!("a conversation over {transport}");
    let started = Instant::now();
    match converse(transport) {
        Ok(()) => Check::ok(check, format!("works, {:.1} ms", started.elapsed().as_secs_f64() * 1000.0)),
        Err(error) => Check::but(
            Verdict::Problem,
            check,
            exit::one_line(&error),
            "run `parlour -vv doctor` to see each step; a sandbox may forbid a system call",
        ),
    }
}

/// Creates a temporary base directory.
pub(super) fn directory() -> anyhow::Result<TempDir> {
    tempfile::Builder::new()
        .prefix("parlour-doctor-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .context("creating a temporary directory")
}

fn converse(transport: Transport) -> anyhow::Result<()> {
    const MESSAGE: &[u8] = b"Is anybody in?";
    let directory = directory()?;
    let address = format!("{transport}:{}/trial", directory.path().display());
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
