//! The baseline for FIFOs: one blocking FIFO for each direction.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Result, ensure};
use rustix::event::PollFlags;
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::io::writev;
use rustix::pipe::fcntl_setpipe_size;

use super::frame::{self, Reader};
use super::kernel::kernel;
use super::wait::{prepare, retried};
use crate::client::Client;
use crate::contender::{Contender, Ready};
use crate::work::{DONE, Work};

/// One writev(2) per message. Reads go through a buffer of 64 KiB, and long messages are read directly into place.
#[derive(Debug)]
pub(crate) struct RawFifo {
    /// True if a call that would wait is repeated a few times before it sleeps, as in parlour.
    pub(crate) spins: bool,
}

impl Contender for RawFifo {
    fn name(&self) -> &str {
        if self.spins { "raw-fifo-spin" } else { "raw-fifo" }
    }

    fn version(&self) -> String {
        kernel()
    }

    fn advice(&self) -> &str {
        if self.spins {
            "as raw-fifo, but non-blocking, with up to 40 sched_yield before poll: the way in which \
             parlour waits; FIFOs of 256 KiB from 32 KiB on (F_SETPIPE_SZ), and copies where parlour uses vmsplice"
        } else {
            "a blocking FIFO for each direction, 4-byte prefix, one writev for each message (fifo(7))"
        }
    }

    /// A pair of FIFOs has one client. Further clients would need a protocol, which is more than bare system calls.
    fn supports(&self, work: Work) -> bool {
        matches!(work, Work::RoundTrip { .. }) || matches!(work, Work::Stream { .. }) && !self.spins
    }

    fn serve(&self, place: &Path, work: Work, ready: Ready) -> Result<()> {
        for name in ["up", "down"] {
            mkfifoat(CWD, place.join(name), Mode::RUSR | Mode::WUSR)?;
        }
        ready.tell();
        // Each open waits until the other end is opened, so both sides open in the same order.
        let up = File::open(place.join("up"))?;
        let down = File::options().write(true).open(place.join("down"))?;
        for fifo in [&up, &down] {
            prepare(fifo, self.spins)?;
            if self.spins && work.size() >= LONG {
                // Where the system refuses, the FIFO keeps its size, as in parlour.
                let _ = fcntl_setpipe_size(fifo, LARGE);
            }
        }
        let mut reader = Reader::new(work.size());
        let mut message = Vec::new();
        let mut received = 0;
        // A client that disconnects at any point is not an error of the server.
        while reader.receive(&up, &mut message).unwrap_or(false) {
            received += 1;
            match work {
                Work::Stream { batch, .. } if received % batch == 0 => send(&down, DONE)?,
                Work::Stream { .. } => {}
                _ => send(&down, &message)?,
            }
        }
        Ok(())
    }

    fn connect(&self, place: &Path, work: Work) -> Result<Box<dyn Client>> {
        let up = File::options().write(true).open(place.join("up"))?;
        let down = File::open(place.join("down"))?;
        for fifo in [&up, &down] {
            prepare(fifo, self.spins)?;
            if self.spins && work.size() >= LONG {
                // Where the system refuses, the FIFO keeps its size, as in parlour.
                let _ = fcntl_setpipe_size(fifo, LARGE);
            }
        }
        let expected = if matches!(work, Work::Stream { .. }) { 0 } else { work.size() };
        Ok(Box::new(RawFifoClient { up, down, reader: Reader::new(expected) }))
    }
}

/// The length from which parlour enlarges its FIFOs, and the size that it asks for.
const LONG: usize = 32 * 1024;
const LARGE: usize = 256 * 1024;

struct RawFifoClient {
    up: File,
    down: File,
    reader: Reader,
}

impl Client for RawFifoClient {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        send(&self.up, message)
    }

    fn receive(&mut self, reply: &mut Vec<u8>) -> Result<()> {
        ensure!(self.reader.receive(&self.down, reply)?, "the server disconnected");
        Ok(())
    }
}

fn send(fifo: impl AsFd, message: &[u8]) -> Result<()> {
    frame::send(message, |parts| retried(&fifo, PollFlags::OUT, || writev(&fifo, parts)))
}
