//! The contender for the hub, which serves all clients in one thread.

use std::path::Path;

use anyhow::Result;
use parlour::hub::{Event, HubOptions};
use parlour::{ServerOptions, Transport};

use super::blocking::address;
use super::version::version;
use crate::client::Client;
use crate::contender::{Contender, Ready};
use crate::raw::raw_stream_client;
use crate::work::Work;

/// A hub over `unix`. Its clients are the same as those of the bare epoll server and exchange the same bytes, so only
/// the server differs.
#[derive(Debug)]
pub(crate) struct Hub;

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
        let Work::Crowd { clients, .. } = work else { anyhow::bail!("the hub supports crowds only") };
        // One more: the server may still count a client that has disconnected.
        let room = clients + 1;
        let options = ServerOptions::new().connections_max(room).connections_per_uid_max(room);
        let mut hub = HubOptions::from(options).bind(address(Transport::Unix, place))?;
        ready.tell();
        loop {
            match hub.next_event()? {
                Event::Message(client, message) => hub.send(client, &message)?,
                Event::Finished(client) => hub.finish(client)?,
                Event::Refused(refusal) => anyhow::bail!("a client was refused: {refusal}"),
                _ => {}
            }
        }
    }

    fn connect(&self, place: &Path, work: Work) -> Result<Box<dyn Client>> {
        raw_stream_client(&place.join("bench/unix"), work)
    }
}
