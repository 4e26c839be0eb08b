//! The baseline for packets: a blocking `SOCK_SEQPACKET` socket.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Result, ensure};
use rustix::event::PollFlags;
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, connect, recv, socket_with, sockopt,
};

use super::kernel::kernel;
use super::stream::{listener, send_parts};
use super::wait::{prepare, retried};
use crate::client::Client;
use crate::contender::{Contender, Ready};
use crate::work::{DONE, Work};

/// The length of the pieces in which a longer message is sent. The send buffer of 2 MiB holds two of them.
const PIECE_LEN: usize = 1 << 20;

/// One sendmsg(2) and one recv(2) per message.
#[derive(Debug)]
pub(crate) struct RawPacket {
    /// True if a call that would wait is repeated a few times before it sleeps, as in parlour.
    pub(crate) spins: bool,
}

impl Contender for RawPacket {
    fn name(&self) -> &str {
        if self.spins { "raw-packet-spin" } else { "raw-packet" }
    }

    fn version(&self) -> String {
        kernel()
    }

    fn advice(&self) -> &str {
        if self.spins {
            "as raw-packet, but non-blocking, with up to 40 sched_yield before poll: the way in which parlour waits"
        } else {
            "blocking SOCK_SEQPACKET, one sendmsg and one recv for each MiB of a message, SO_SNDBUF 2 MiB from 64 KiB on (unix(7))"
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
        let listener = listener(SocketType::SEQPACKET, &place.join("p"))?;
        ready.tell();
        let mut message = Vec::new();
        loop {
            let client = Packets::new(accept_with(&listener, SocketFlags::CLOEXEC)?, work, self.spins)?;
            let mut received = 0;
            // A client that disconnects at any point is not an error of the server.
            while client.receive(work.size(), &mut message).unwrap_or(false) {
                received += 1;
                match work {
                    Work::Stream { batch, .. } if received % batch == 0 => client.send(DONE)?,
                    Work::Stream { .. } => {}
                    _ => client.send(&message)?,
                }
            }
        }
    }

    fn connect(&self, place: &Path, work: Work) -> Result<Box<dyn Client>> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &SocketAddrUnix::new(place.join("p"))?)?;
        let answer_len = if matches!(work, Work::Stream { .. }) { DONE.len() } else { work.size() };
        Ok(Box::new(RawPacketClient { packets: Packets::new(socket, work, self.spins)?, answer_len }))
    }
}

struct RawPacketClient {
    packets: Packets,
    answer_len: usize,
}

impl Client for RawPacketClient {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        self.packets.send(message)
    }

    fn receive(&mut self, reply: &mut Vec<u8>) -> Result<()> {
        ensure!(self.packets.receive(self.answer_len, reply)?, "the server disconnected");
        Ok(())
    }
}

/// One end of a connection.
struct Packets(OwnedFd);

impl Packets {
    fn new(socket: OwnedFd, work: Work, spins: bool) -> Result<Self> {
        prepare(&socket, spins)?;
        if work.size() >= 64 * 1024 {
            // The kernel doubles the value. Only root may exceed net.core.wmem_max.
            sockopt::set_socket_send_buffer_size_force(&socket, PIECE_LEN)
                .or_else(|_| sockopt::set_socket_send_buffer_size(&socket, PIECE_LEN))?;
        }
        Ok(Self(socket))
    }

    fn send(&self, message: &[u8]) -> Result<()> {
        for piece in message.chunks(PIECE_LEN) {
            let sent = send_parts(&self.0, &[IoSlice::new(piece)])?;
            ensure!(sent == piece.len(), "a packet was sent in part");
        }
        Ok(())
    }

    /// Receives a message of length `len`. Returns false at end of file.
    fn receive(&self, len: usize, message: &mut Vec<u8>) -> Result<bool> {
        message.resize(len, 0);
        let mut have = 0;
        while have < len {
            let end = len.min(have + PIECE_LEN);
            let (count, _) =
                retried(&self.0, PollFlags::IN, || recv(&self.0, &mut message[have..end], RecvFlags::empty()))?;
            if count == 0 {
                return Ok(false);
            }
            have += count;
        }
        Ok(true)
    }
}
