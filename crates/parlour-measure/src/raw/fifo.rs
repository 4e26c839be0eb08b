//! Two FIFOs, one for each direction, blocking.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Result, ensure};
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::io::writev;

use super::frame::{self, Reader};
use super::kernel::kernel;
use crate::client::Client;
use crate::contender::{Contender, Ready};
use crate::work::{DONE, Work};

/// One writev(2) per message, reads through a buffer of 64 KiB, long messages read to where they belong.
#[derive(Debug)]
pub(crate) struct RawFifo;

impl Contender for RawFifo {
    fn name(&self) -> &str {
        "raw-fifo"
    }

    fn version(&self) -> String {
        kernel()
    }

    fn advice(&self) -> &str {
        "a blocking FIFO for each direction, 4-byte prefix, one writev for each message (fifo(7))"
    }

    /// A pair of FIFOs has one client; how others would get theirs is a protocol, and no bare system call.
    fn supports(&self, work: Work) -> bool {
        matches!(work, Work::RoundTrip { .. } | Work::Stream { .. })
    }

    fn serve(&self, place: &Path, work: Work, ready: Ready) -> Result<()> {
        for name in ["up", "down"] {
            mkfifoat(CWD, place.join(name), Mode::RUSR | Mode::WUSR)?;
        }
        ready.tell();
        // Each waits for the other end to be opened: in the same order on both sides.
        let up = File::open(place.join("up"))?;
        let down = File::options().write(true).open(place.join("down"))?;
        let mut reader = Reader::new(work.size());
        let mut message = Vec::new();
        let mut received = 0;
        // That a client goes in the middle is no fault of the server's.
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
        let expected = if matches!(work, Work::Stream { .. }) { 0 } else { work.size() };
        Ok(Box::new(RawFifoClient { up, down, reader: Reader::new(expected) }))
    }
}

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
        ensure!(self.reader.receive(&self.down, reply)?, "the server has gone");
        Ok(())
    }
}

fn send(fifo: impl AsFd, message: &[u8]) -> Result<()> {
    frame::send(message, |parts| writev(&fifo, parts))
}
