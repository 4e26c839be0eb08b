//! The baseline for many clients in one thread: bare epoll(7).

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Result, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::{Errno, read};
use rustix::net::{SendFlags, SocketFlags, SocketType, accept_with, send};

use super::kernel::kernel;
use super::stream::{RawStreamClient, listener};
use crate::client::Client;
use crate::contender::{Contender, Ready};
use crate::work::Work;

/// A server that sends received bytes back, after it has checked that they are whole messages. All clients share one
/// buffer.
#[derive(Debug)]
pub(crate) struct RawEpoll;

impl Contender for RawEpoll {
    fn name(&self) -> &str {
        "raw-epoll"
    }

    fn version(&self) -> String {
        kernel()
    }

    fn advice(&self) -> &str {
        "level-triggered epoll over SOCK_STREAM, up to 1,024 events at once, one read and one send for each (epoll(7))"
    }

    fn supports(&self, work: Work) -> bool {
        matches!(work, Work::Crowd { .. })
    }

    fn serve(&self, place: &Path, work: Work, ready: Ready) -> Result<()> {
        let listener = listener(SocketType::STREAM, &place.join("s"))?;
        rustix::io::ioctl_fionbio(&listener, true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let this = listener.as_raw_fd() as u64;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(this), epoll::EventFlags::IN)?;
        ready.tell();
        let mut clients: HashMap<u64, OwnedFd> = HashMap::new();
        let mut events = Vec::with_capacity(1024);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            events.clear();
            epoll::wait(&epoll, spare_capacity(&mut events), None)?;
            for event in &events {
                let key = event.data.u64();
                if key == this {
                    accept_all(&listener, &epoll, &mut clients)?;
                } else if let Some(client) = clients.get(&key)
                    && !echo(client, work.size(), &mut buffer)?
                {
                    clients.remove(&key);
                }
            }
        }
    }

    fn connect(&self, place: &Path, work: Work) -> Result<Box<dyn Client>> {
        Ok(Box::new(RawStreamClient::connect(&place.join("s"), work)?))
    }
}

fn accept_all(listener: &OwnedFd, epoll: &OwnedFd, clients: &mut HashMap<u64, OwnedFd>) -> Result<()> {
    loop {
        match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(client) => {
                let key = client.as_raw_fd() as u64;
                epoll::add(epoll, &client, epoll::EventData::new_u64(key), epoll::EventFlags::IN)?;
                clients.insert(key, client);
            }
            Err(Errno::AGAIN) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Reads from a client and sends the bytes back. Returns false if the client has disconnected.
fn echo(client: &OwnedFd, size: usize, buffer: &mut [u8]) -> Result<bool> {
    let count = match read(client, &mut *buffer) {
        Ok(0) | Err(Errno::CONNRESET) => return Ok(false),
        Ok(count) => count,
        Err(errno) => return Err(errno.into()),
    };
    ensure!(count % (4 + size) == 0, "a read returned part of a short message");
    for message in buffer[..count].chunks_exact(4 + size) {
        ensure!(message[..4] == (size as u32).to_be_bytes(), "the length prefix of a message is not {size}");
    }
    match send(client, &buffer[..count], SendFlags::NOSIGNAL) {
        Ok(sent) => ensure!(sent == count, "a short message was sent in part"),
        Err(Errno::PIPE | Errno::CONNRESET) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    }
    Ok(true)
}
