//! The contender for interprocess: its local socket streams.

use std::io::{BufReader, Read, Write};
use std::path::Path;

use anyhow::{Result, ensure};
use interprocess::local_socket::prelude::*;
use interprocess::local_socket::{GenericFilePath, ListenerOptions, Name, Stream};
use parlour_bench::{Client, Contender, DONE, Ready, Work};

/// Streams of bytes. The library has no messages, so the benchmark adds a length prefix.
pub(crate) struct Interprocess;

impl Contender for Interprocess {
    fn name(&self) -> &str {
        "interprocess"
    }

    fn version(&self) -> String {
        crate::versions::locked("interprocess")
    }

    fn advice(&self) -> &str {
        "local_socket::Stream, blocking, read through a BufReader (examples/local_socket/sync/stream in its repository)"
    }

    fn supports(&self, work: Work) -> bool {
        !matches!(work, Work::Crowd { .. } | Work::Calls { .. })
    }

    fn serve(&self, place: &Path, work: Work, ready: Ready) -> Result<()> {
        let listener = ListenerOptions::new().name(name(place)?).create_sync()?;
        ready.tell();
        loop {
            let mut client = Framed::new(listener.accept()?);
            let mut message = Vec::new();
            let mut received = 0;
            // A client that disconnects at any point is not an error of the server.
            while client.receive(&mut message).unwrap_or(false) {
                received += 1;
                match work {
                    Work::Stream { batch, .. } if received % batch == 0 => client.send(DONE)?,
                    Work::Stream { .. } => {}
                    _ => client.send(&message)?,
                }
            }
        }
    }

    fn connect(&self, place: &Path, _work: Work) -> Result<Box<dyn Client>> {
        Ok(Box::new(Framed::new(Stream::connect(name(place)?)?)))
    }
}

fn name(place: &Path) -> Result<Name<'static>> {
    Ok(place.join("i").to_fs_name::<GenericFilePath>()?)
}

struct Framed {
    stream: BufReader<Stream>,
    /// Buffer for the header and the message, which are sent with one write.
    frame: Vec<u8>,
}

impl Framed {
    fn new(stream: Stream) -> Self {
        Self { stream: BufReader::with_capacity(64 * 1024, stream), frame: Vec::new() }
    }

    /// Receives a message. Returns false at end of file.
    fn receive(&mut self, message: &mut Vec<u8>) -> Result<bool> {
        let mut header = [0; 4];
        if self.stream.read_exact(&mut header).is_err() {
            return Ok(false);
        }
        message.resize(u32::from_be_bytes(header) as usize, 0);
        self.stream.read_exact(message)?;
        Ok(true)
    }
}

impl Client for Framed {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        self.frame.clear();
        self.frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
        self.frame.extend_from_slice(message);
        Ok(self.stream.get_mut().write_all(&self.frame)?)
    }

    fn receive(&mut self, reply: &mut Vec<u8>) -> Result<()> {
        ensure!(Framed::receive(self, reply)?, "the server disconnected");
        Ok(())
    }
}
