//! Contenders for the blocking API, over each transport.

use std::path::Path;

use anyhow::{Result, ensure};
use parlour::{Connection, Server, Transport};

use super::version::version;
use crate::client::Client;
use crate::contender::{Contender, Ready};
use crate::work::{DONE, Work};

/// The blocking API over one transport, with default options.
#[derive(Debug)]
pub(crate) struct Blocking {
    transport: Transport,
    name: String,
    /// True if one-way messages are fed and flushed together, false if each is sent by itself.
    feeds: bool,
}

impl Blocking {
    pub(crate) fn new(transport: Transport, feeds: bool) -> Self {
        let name = if feeds { format!("parlour-{transport}") } else { format!("parlour-{transport}-send") };
        Self { transport, name, feeds }
    }

    /// Serves one client until it disconnects or its connection fails.
    fn converse(&self, client: &mut Connection, work: Work) -> parlour::Result<()> {
        let mut message = Vec::new();
        let mut received = 0;
        while client.recv_into(&mut message)?.is_some() {
            received += 1;
            match work {
                Work::Stream { batch, .. } if received % batch == 0 => client.send(DONE)?,
                Work::Stream { .. } => {}
                _ => client.send(&message)?,
            }
        }
        Ok(())
    }
}

/// Returns the address of the server of a turn.
#[must_use]
pub fn address(transport: Transport, place: &Path) -> String {
    format!("{transport}:{}/bench", place.display())
}

impl Contender for Blocking {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> String {
        version()
    }

    fn advice(&self) -> &str {
        if self.feeds {
            "defaults; recv_into; one way with feed and a flush at the end (Sender::feed)"
        } else {
            "defaults; recv_into; one way with a send for each message"
        }
    }

    fn supports(&self, work: Work) -> bool {
        match work {
            // For other work the contender that feeds does the same.
            _ if !self.feeds => matches!(work, Work::Stream { .. }),
            Work::Crowd { .. } => false,
            _ => true,
        }
    }

    fn serve(&self, place: &Path, work: Work, ready: Ready) -> Result<()> {
        let server = Server::bind(address(self.transport, place))?;
        ready.tell();
        loop {
            // A client that disconnects at any point is not an error of the server.
            let _ = self.converse(&mut server.accept()?, work);
        }
    }

    fn connect(&self, place: &Path, _work: Work) -> Result<Box<dyn Client>> {
        let connection = Connection::connect(address(self.transport, place))?;
        Ok(Box::new(BlockingClient { connection, feeds: self.feeds }))
    }
}

struct BlockingClient {
    connection: Connection,
    feeds: bool,
}

impl Client for BlockingClient {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        Ok(self.connection.send(message)?)
    }

    fn receive(&mut self, reply: &mut Vec<u8>) -> Result<()> {
        ensure!(self.connection.recv_into(reply)?.is_some(), "the server disconnected");
        Ok(())
    }

    fn stream(&mut self, message: &[u8], count: u64) -> Result<()> {
        for _ in 0..count {
            if self.feeds {
                self.connection.feed(message)?;
            } else {
                self.connection.send(message)?;
            }
        }
        self.connection.flush()?;
        self.receive(&mut Vec::new())
    }
}
