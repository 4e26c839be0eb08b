//! The contenders for the hub, which serves all clients in one thread.

use std::path::Path;

use anyhow::{Result, bail};
use parlour::hub::{Event, HubOptions};
use parlour::{Connection, ServerOptions, Transport};

use super::blocking::{BlockingClient, address};
use super::version::version;
use crate::client::Client;
use crate::contender::{Contender, Ready};
use crate::raw::raw_stream_client;
use crate::work::Work;

/// A hub over `unix`. Its clients are the same as those of the bare epoll server and exchange the same bytes, so only
/// the server differs.
#[derive(Debug)]
pub(crate) struct Hub;

/// A hub over one transport with one client of the blocking API, so only the server differs from that contender.
#[derive(Debug)]
pub(crate) struct HubEcho {
    transport: Transport,
    name: String,
}

impl HubEcho {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { transport, name: format!("parlour-hub-{transport}") }
    }
}

impl Contender for Hub {
    fn name(&self) -> &str {
        "parlour-hub"
    }

    fn version(&self) -> String {
        version()
    }

    fn advice(&self) -> &str {
        "defaults with room for the clients; hub.send for each message (parlour::hub); the clients are raw sockets"
    }

    fn supports(&self, work: Work) -> bool {
        matches!(work, Work::Crowd { .. })
    }

    fn serve(&self, place: &Path, work: Work, ready: Ready) -> Result<()> {
        let Work::Crowd { clients, .. } = work else { bail!("this contender supports crowds only") };
        serve(Transport::Unix, clients, place, ready)
    }

    fn connect(&self, place: &Path, work: Work) -> Result<Box<dyn Client>> {
        raw_stream_client(&place.join("bench/unix"), work)
    }
}

impl Contender for HubEcho {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> String {
        version()
    }

    fn advice(&self) -> &str {
        "defaults; hub.send for each message (parlour::hub); the client is that of the blocking API"
    }

    fn supports(&self, work: Work) -> bool {
        matches!(work, Work::RoundTrip { .. })
    }

    fn serve(&self, place: &Path, _work: Work, ready: Ready) -> Result<()> {
        serve(self.transport, 1, place, ready)
    }

    fn connect(&self, place: &Path, _work: Work) -> Result<Box<dyn Client>> {
        Ok(Box::new(BlockingClient::new(Connection::connect(address(self.transport, place))?)))
    }
}

fn serve(transport: Transport, clients: usize, place: &Path, ready: Ready) -> Result<()> {
    // One more: the server may still count a client that has disconnected.
    let room = clients + 1;
    let options = ServerOptions::new().connections_max(room).connections_per_uid_max(room);
    let mut hub = HubOptions::from(options).bind(address(transport, place))?;
    ready.tell();
    loop {
        match hub.next_event()? {
            Event::Message(client, message) => hub.send(client, &message)?,
            Event::Finished(client) => hub.finish(client)?,
            Event::Refused(refusal) => bail!("a client was refused: {refusal}"),
            _ => {}
        }
    }
}
