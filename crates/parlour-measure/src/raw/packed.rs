//! The baseline for small messages that are packed into datagrams: a blocking `SOCK_SEQPACKET` socket.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Result, ensure};
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::net::{accept_with, connect, recv, socket_with};

use super::kernel::kernel;
use super::stream::{listener, send_parts};
use crate::client::Client;
use crate::contender::{Contender, Ready};
use crate::work::{DONE, Work};

/// The length of the buffers of both sides.
const PACK_MAX: usize = 64 * 1024;

/// The length of the number in front of each message.
const PREFIX: usize = 4;

/// One sendmsg(2) and one recv(2) for as many messages as fit in 64 KiB.
#[derive(Debug)]
pub(crate) struct RawPacked;

impl Contender for RawPacked {
    fn name(&self) -> &str {
        "raw-packet-packed"
    }

    fn version(&self) -> String {
        kernel()
    }

    fn advice(&self) -> &str {
        "blocking SOCK_SEQPACKET, 4-byte prefix, one sendmsg and one recv for 64 KiB of messages (unix(7))"
    }

    fn supports(&self, work: Work) -> bool {
        matches!(work, Work::Stream { size, .. } if size <= PACK_MAX - PREFIX)
    }

    fn serve(&self, place: &Path, work: Work, ready: Ready) -> Result<()> {
        let Work::Stream { batch, .. } = work else { return Ok(()) };
        let listener = listener(SocketType::SEQPACKET, &place.join("q"))?;
        ready.tell();
        let mut datagram = vec![0; PACK_MAX];
        let mut message = Vec::new();
        loop {
            let client = accept_with(&listener, SocketFlags::CLOEXEC)?;
            let mut received = 0;
            // A client that disconnects at any point is not an error of the server.
            while let Ok((count @ 1.., _)) = recv(&client, &mut datagram[..], RecvFlags::empty()) {
                let mut rest = &datagram[..count];
                while let Some((prefix, behind)) = rest.split_first_chunk() {
                    let length = u32::from_be_bytes(*prefix) as usize;
                    ensure!(length <= behind.len(), "a message was sent in part");
                    message.clear();
                    message.extend_from_slice(&behind[..length]);
                    rest = &behind[length..];
                    received += 1;
                    if received % batch == 0 {
                        send_parts(&client, &[IoSlice::new(DONE)])?;
                    }
                }
            }
        }
    }

    fn connect(&self, place: &Path, _work: Work) -> Result<Box<dyn Client>> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &SocketAddrUnix::new(place.join("q"))?)?;
        Ok(Box::new(RawPackedClient { socket, pack: Vec::with_capacity(PACK_MAX) }))
    }
}

struct RawPackedClient {
    socket: OwnedFd,
    pack: Vec<u8>,
}

impl RawPackedClient {
    fn flush(&mut self) -> Result<()> {
        let sent = send_parts(&self.socket, &[IoSlice::new(&self.pack)])?;
        ensure!(sent == self.pack.len(), "a packet was sent in part");
        self.pack.clear();
        Ok(())
    }
}

impl Client for RawPackedClient {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        if self.pack.len() + PREFIX + message.len() > PACK_MAX {
            self.flush()?;
        }
        self.pack.extend_from_slice(&(message.len() as u32).to_be_bytes());
        self.pack.extend_from_slice(message);
        Ok(())
    }

    /// Sends what was packed before.
    fn receive(&mut self, reply: &mut Vec<u8>) -> Result<()> {
        self.flush()?;
        reply.resize(DONE.len(), 0);
        let (count, _) = recv(&self.socket, &mut reply[..], RecvFlags::empty())?;
        ensure!(count > 0, "the server disconnected");
        Ok(())
    }
}
