//! A server of the FIFO transport that makes one system call or step of the handshake at a time, and may stop after
//! each.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::fifo_client::make_fifo;
use super::{Id, Place};
use crate::support::{Base, wait};

const COMMON: OFlags = OFlags::NONBLOCK.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

#[derive(Debug)]
pub struct FifoServer {
    pub place: Place,
    pub requests: OwnedFd,
}

impl FifoServer {
    pub fn new(base: &Base, name: &str) -> Self {
        Self::at(&base.name(name))
    }

    pub fn at(path: &Path) -> Self {
        let place = Place::held_at(path);
        make_fifo(&place.path().join("fifo"));
        let requests = open(place.path().join("fifo"), OFlags::RDWR | COMMON, Mode::empty()).unwrap();
        Self { place, requests }
    }

    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// Waits for the request line of a client and parses it.
    pub fn request(&self) -> Id {
        Id::parse_request(&line(&self.requests))
    }

    /// Opens the FIFO from the server to the client for writing.
    pub fn open_s2c(&self, id: &Id) -> OwnedFd {
        open(self.place.clients().join(id.s2c()), OFlags::WRONLY | COMMON, Mode::empty()).unwrap()
    }

    /// Opens the FIFO from the server to the client as [`open_s2c`](Self::open_s2c) does. Returns `None` if the client
    /// has given up and removed it.
    pub fn find_s2c(&self, id: &Id) -> Option<OwnedFd> {
        open(self.place.clients().join(id.s2c()), OFlags::WRONLY | COMMON, Mode::empty()).ok()
    }

    /// Opens the FIFO from the client to the server for reading.
    pub fn open_c2s(&self, id: &Id) -> OwnedFd {
        open(self.place.clients().join(id.c2s()), OFlags::RDONLY | COMMON, Mode::empty()).unwrap()
    }
}

/// Waits for a line and reads exactly that line. Returns it without its newline.
pub fn line(fd: &OwnedFd) -> String {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        assert!(wait::readable(fd), "the client did not write");
        match rustix::io::read(fd, &mut byte) {
            Ok(0) => panic!("end of file after {:?}", String::from_utf8_lossy(&line)),
            Ok(_) if byte[0] == b'\n' => return String::from_utf8(line).unwrap(),
            Ok(_) => line.push(byte[0]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => panic!("read: {errno}"),
        }
    }
}
