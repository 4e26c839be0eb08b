//! The main baseline: a blocking `SOCK_STREAM` socket.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::Result;
use rustix::event::PollFlags;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, sendmsg, socket_with,
};

use super::frame::{self, Reader};
use super::kernel::kernel;
use super::wait::{prepare, retried};
use crate::client::Client;
use crate::contender::{Contender, Ready};
use crate::work::{DONE, Work};

/// One sendmsg(2) per message. Reads go through a buffer of 64 KiB, and long messages are read directly into place.
#[derive(Debug)]
pub(crate) struct RawStream {
    /// True if a call that would wait is repeated a few times before it sleeps, as in parlour.
    pub(crate) spins: bool,
}

impl Contender for RawStream {
    fn name(&self) -> &str {
        if self.spins { "raw-stream-spin" } else { "raw-stream" }
    }

    fn version(&self) -> String {
        kernel()
    }

    fn advice(&self) -> &str {
        if self.spins {
            "as raw-stream, but non-blocking, with up to 40 sched_yield before poll: the way in which parlour waits"
        } else {
            "blocking SOCK_STREAM, 4-byte prefix, one sendmsg for each message, read through 64 KiB or in place (unix(7))"
        }
    }

    fn supports(&self, work: Work) -> bool {
        match work {
            Work::Crowd { .. } | Work::Calls { .. } => false,
            Work::RoundTrip { .. } => true,
            _ => !self.spins,
        }
    }

    fn serve(&self, place: &Path, work: Work, ready: Ready) -> Result<()> {
        let listener = listener(SocketType::STREAM, &place.join("s"))?;
        ready.tell();
        let mut message = Vec::new();
        loop {
            let client = accept_with(&listener, SocketFlags::CLOEXEC)?;
            prepare(&client, self.spins)?;
            let mut reader = Reader::new(work.size());
            let mut received = 0;
            // A client that disconnects at any point is not an error of the server.
            while reader.receive(&client, &mut message).unwrap_or(false) {
                received += 1;
                match work {
                    Work::Stream { batch, .. } if received % batch == 0 => send(&client, DONE)?,
                    Work::Stream { .. } => {}
                    _ => send(&client, &message)?,
                }
            }
        }
    }

    fn connect(&self, place: &Path, work: Work) -> Result<Box<dyn Client>> {
        let client = RawStreamClient::connect(&place.join("s"), work)?;
        prepare(&client.socket, self.spins)?;
        Ok(Box::new(client))
    }
}

/// Connects a client to any server with the wire format of `raw-stream`. Measurements of servers that share this client
/// differ only by the server.
///
/// # Errors
///
/// Returns an error if no server listens at `path`.
pub fn raw_stream_client(path: &Path, work: Work) -> Result<Box<dyn Client>> {
    Ok(Box::new(RawStreamClient::connect(path, work)?))
}

/// A client of any server with this framing.
#[derive(Debug)]
pub(crate) struct RawStreamClient {
    socket: OwnedFd,
    reader: Reader,
}

impl RawStreamClient {
    pub(crate) fn connect(path: &Path, work: Work) -> Result<Self> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        let expected = if matches!(work, Work::Stream { .. }) { 0 } else { work.size() };
        Ok(Self { socket, reader: Reader::new(expected) })
    }
}

impl Client for RawStreamClient {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        send(&self.socket, message)
    }

    fn receive(&mut self, reply: &mut Vec<u8>) -> Result<()> {
        anyhow::ensure!(self.reader.receive(&self.socket, reply)?, "the server disconnected");
        Ok(())
    }
}

pub(crate) fn send(socket: impl AsFd, message: &[u8]) -> Result<()> {
    frame::send(message, |parts| send_parts(&socket, parts))
}

pub(crate) fn send_parts(socket: impl AsFd, parts: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
    retried(&socket, PollFlags::OUT, || {
        sendmsg(&socket, parts, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
    })
}

/// Creates a socket that listens at `path`.
pub(crate) fn listener(kind: SocketType, path: &Path) -> Result<OwnedFd> {
    let listener = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    bind(&listener, &SocketAddrUnix::new(path)?)?;
    listen(&listener, 4096)?;
    Ok(listener)
}
