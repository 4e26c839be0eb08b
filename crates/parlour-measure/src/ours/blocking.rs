//! Contenders for the blocking API, over each transport.

use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Result, ensure};
use parlour::{Connection, Connector, Server, Transport};

use super::version::version;
use crate::client::Client;
use crate::contender::{Contender, Ready};
use crate::work::{DONE, Work};

/// The blocking API over one transport, with default options.
#[derive(Debug)]
pub(crate) struct Blocking {
    transport: Transport,
    name: String,
    way: Way,
    connector: OnceLock<Connector>,
}

/// A way to use the API. The first is measured in every kind of work, the others where they differ from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// One-way messages are fed and flushed together, and received in batches.
    Feed,
    /// Each one-way message is sent and received by itself.
    Send,
    /// The client connects through a connector.
    Connector,
}

impl Blocking {
    pub(crate) fn new(transport: Transport, way: Way) -> Self {
        let name = match way {
            Way::Feed => format!("parlour-{transport}"),
            Way::Send => format!("parlour-{transport}-send"),
            Way::Connector => format!("parlour-{transport}-connector"),
        };
        Self { transport, name, way, connector: OnceLock::new() }
    }

    /// Serves one client until it disconnects or its connection fails.
    fn converse(&self, client: &mut Connection, work: Work) -> parlour::Result<()> {
        if let (true, Work::Stream { batch, .. }) = (self.way == Way::Feed, work) {
            return receive_batches(client, batch);
        }
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

/// Receives messages where they are, and answers after each `count` of them.
fn receive_batches(client: &mut Connection, count: u64) -> parlour::Result<()> {
    let mut received = 0;
    while let Some(mut messages) = client.recv_batch()? {
        let mut answers = 0;
        while messages.next_message().is_some() {
            received += 1;
            answers += u64::from(received % count == 0);
        }
        for _ in 0..answers {
            client.send(DONE)?;
        }
    }
    Ok(())
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
        match self.way {
            Way::Feed => "defaults; recv_into; one way with feed and a flush at the end (Sender::feed), and recv_batch",
            Way::Send => "defaults; recv_into; one way with a send for each message",
            Way::Connector => "defaults; one Connector for all connections",
        }
    }

    fn supports(&self, work: Work) -> bool {
        match work {
            _ if self.way == Way::Send => matches!(work, Work::Stream { .. }),
            _ if self.way == Way::Connector => matches!(work, Work::Connect { .. }),
            Work::Crowd { .. } | Work::Calls { .. } => false,
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
        let connection = match self.way {
            Way::Connector => match self.connector.get() {
                Some(connector) => connector.connect()?,
                // A process has one turn, so the place stays the same.
                None => {
                    let connector = Connector::new(address(self.transport, place))?;
                    self.connector.get_or_init(|| connector).connect()?
                }
            },
            Way::Feed | Way::Send => Connection::connect(address(self.transport, place))?,
        };
        Ok(Box::new(BlockingClient { connection, feeds: self.way == Way::Feed }))
    }
}

/// A client of the blocking API.
pub(super) struct BlockingClient {
    connection: Connection,
    feeds: bool,
}

impl BlockingClient {
    /// Returns a client that feeds messages one way.
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, feeds: true }
    }
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
