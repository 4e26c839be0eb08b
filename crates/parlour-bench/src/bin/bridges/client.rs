//! The client on host b: a bare socket, the same for every contender.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlour_bench::Client;

/// The length of the buffers, in bytes. Messages one way are gathered in one of them, as `Sender::feed` does.
const BUFFER_LEN: usize = 64 * 1024;

/// A client with the framing of docs/wire.md, section 1.
#[derive(Debug)]
pub(crate) struct BareClient {
    socket: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl BareClient {
    pub(crate) fn connect(path: &Path) -> Result<Self> {
        let socket = UnixStream::connect(path).with_context(|| format!("connecting to {}", path.display()))?;
        Ok(Self { socket, input: Vec::new(), output: Vec::with_capacity(BUFFER_LEN) })
    }

    /// Lets a receive fail after this time.
    pub(crate) fn limit(&self, time: Duration) -> Result<()> {
        Ok(self.socket.set_read_timeout(Some(time))?)
    }

    fn feed(&mut self, message: &[u8]) -> Result<()> {
        if self.output.len() + 4 + message.len() > BUFFER_LEN {
            self.flush()?;
        }
        self.output.extend_from_slice(&(message.len() as u32).to_be_bytes());
        if message.len() > BUFFER_LEN / 2 {
            self.flush()?;
            self.socket.write_all(message)?;
        } else {
            self.output.extend_from_slice(message);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.socket.write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }

    /// Reads until `self.input` has this many bytes.
    fn fill(&mut self, len: usize) -> Result<()> {
        while self.input.len() < len {
            let have = self.input.len();
            self.input.resize(len.max(have + BUFFER_LEN), 0);
            let read = self.socket.read(&mut self.input[have..]);
            self.input.truncate(have + *read.as_ref().unwrap_or(&0));
            ensure!(read? > 0, "the connection has ended");
        }
        Ok(())
    }
}

impl Client for BareClient {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        self.feed(message)?;
        self.flush()
    }

    fn receive(&mut self, reply: &mut Vec<u8>) -> Result<()> {
        self.fill(4)?;
        let (header, _) = self.input.split_first_chunk::<4>().context("a header is missing")?;
        let len = 4 + u32::from_be_bytes(*header) as usize;
        self.fill(len)?;
        reply.clear();
        reply.extend_from_slice(&self.input[4..len]);
        self.input.drain(..len);
        Ok(())
    }

    fn stream(&mut self, message: &[u8], count: u64) -> Result<()> {
        for _ in 0..count {
            self.feed(message)?;
        }
        self.flush()?;
        self.receive(&mut Vec::new())
    }
}
