//! The memory of idle connections over `shm`, rings included.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;

use anyhow::{Context, Result, ensure};
use parlour::{Connection, Server, Transport};
use parlour_measure::ours::{address, version};
use parlour_measure::resident_bytes;

use crate::probe::Probe;

/// The number of connections. Each takes some descriptors at both ends.
const CONNECTIONS: usize = 64;

/// The memory of an idle connection over `shm` that has carried one message in each direction: the shared memory, which
/// is counted once, and the anonymous memory of both ends.
pub(crate) struct ShmMemory;

impl Probe for ShmMemory {
    fn name(&self) -> &str {
        "shm-memory"
    }

    fn title(&self) -> &str {
        "memory of an idle connection over shm: its rings, and both ends"
    }

    fn contender(&self) -> &str {
        "parlour-shm"
    }

    fn unit(&self) -> &str {
        "KiB"
    }

    fn version(&self) -> String {
        version()
    }

    fn measure(&self) -> Result<f64> {
        let place = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
        let address = address(Transport::Shm, place.path());
        let server = Server::bind(&address)?;
        // The first connection causes allocations that are made only once.
        let mut ends = vec![pair(&server, &address)?];
        let before = shared_bytes()? + resident_bytes()?;
        for _ in 0..CONNECTIONS {
            ends.push(pair(&server, &address)?);
        }
        let after = shared_bytes()? + resident_bytes()?;
        Ok(after.saturating_sub(before) as f64 / CONNECTIONS as f64 / 1024.0)
    }
}

/// Returns both ends of a connection that has carried a message in each direction.
fn pair(server: &Server, address: &str) -> Result<(Connection, Connection)> {
    let (accepted, connected) = thread::scope(|scope| {
        let accepting = scope.spawn(|| server.accept());
        let connected = Connection::connect(address);
        (accepting.join(), connected)
    });
    let mut connected = connected?;
    let mut accepted = accepted.ok().context("the accepting thread panicked")??;
    connected.send(&[7; 64])?;
    let message = received(&mut accepted)?;
    accepted.send(&message)?;
    ensure!(received(&mut connected)?.len() == 64, "the answer has another length");
    Ok((connected, accepted))
}

fn received(connection: &mut Connection) -> Result<Vec<u8>> {
    Ok(connection.recv()?.context("the other end has gone")?.into_vec())
}

/// Returns the bytes that the system has allocated for the memfds that this process maps, each counted once.
fn shared_bytes() -> Result<u64> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mut blocks = HashMap::new();
    for line in maps.lines().filter(|line| line.contains("/memfd:")) {
        let range = line.split(' ').next().unwrap_or_default();
        // Only a process with CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN may look through these links.
        let file = fs::metadata(format!("/proc/self/map_files/{range}"))
            .context("the allocated memory of a mapping is only shown to root")?;
        blocks.insert(file.ino(), file.blocks());
    }
    Ok(blocks.values().sum::<u64>() * 512)
}
