//! The server on host a, and its process.

use std::io::Write;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, bail};
use parlour::{Connection, ServerOptions, Transport};
use parlour_bench::{DONE, Work};
use rustix::time::{ClockId, clock_gettime};

/// The argument that makes this program a server.
pub(crate) const ROLE: &str = "--server";

/// The name of the server.
pub(crate) const NAME: &str = "bench";

/// The message that is always answered: by it, the processes between client and server are known to be ready.
pub(crate) const HELLO: &[u8] = b"hello";

/// The maximum number of clients.
const CLIENTS_MAX: usize = 10_000;

/// Serves in a directory, and prints the time at which each client has ended, with the last message of it.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let [directory] = arguments else { bail!("expected a directory") };
    let ended = |message: &[u8]| {
        let at = now_ns();
        // The reader of the pipe may have ended.
        let _ = writeln!(std::io::stdout(), "{at} {}", String::from_utf8_lossy(message));
    };
    serve(Path::new(directory), Work::RoundTrip { size: 64 }, || println!("ready"), ended)
}

/// Serves each client in a thread of its own.
pub(crate) fn serve(directory: &Path, work: Work, ready: impl FnOnce(), ended: fn(&[u8])) -> Result<()> {
    let address = directory.join(NAME);
    let options = ServerOptions::new().transports([Transport::Unix]);
    let options = options.connections_max(CLIENTS_MAX).connections_per_uid_max(CLIENTS_MAX);
    let server = options.bind(address.to_str().context("the directory is not UTF-8")?)?;
    ready();
    for client in server.incoming() {
        let mut client = client?;
        thread::Builder::new().stack_size(256 * 1024).spawn(move || {
            let mut message = Vec::new();
            // The end of a client is no error of the server.
            let _ = converse(&mut client, work, &mut message);
            ended(&message);
        })?;
    }
    Ok(())
}

fn converse(client: &mut Connection, work: Work, message: &mut Vec<u8>) -> parlour::Result<()> {
    let mut received = 0;
    while client.recv_into(message)?.is_some() {
        received += u64::from(*message != HELLO);
        match work {
            _ if *message == HELLO => client.send(HELLO)?,
            Work::Stream { batch, .. } if received % batch == 0 => client.send(DONE)?,
            Work::Stream { .. } => {}
            _ => client.send(&*message)?,
        }
    }
    Ok(())
}

/// Returns the time of the clock that all processes share, in nanoseconds.
pub(crate) fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
