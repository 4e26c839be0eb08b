//! A client of the FIFO transport that makes one system call or step of its handshake at a time, and may stop after
//! each.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fs::{CWD, Mode, OFlags, mkfifoat, open};
use rustix::io::Errno;

use super::Id;
use crate::support::base::leaves_files;
use crate::support::{DEADLINE, wait};

const COMMON: OFlags = OFlags::NONBLOCK.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

#[derive(Debug)]
pub struct FifoClient {
    /// The directory of the server's name.
    path: PathBuf,
    pub id: Id,
    pub from_server: Option<OwnedFd>,
    pub to_server: Option<OwnedFd>,
}

impl FifoClient {
    /// Creates a client that has not made any system call yet.
    pub fn new(path: &Path) -> Self {
        Self::with_id(path, Id::new())
    }

    pub fn with_id(path: &Path, id: Id) -> Self {
        Self { path: path.to_owned(), id, from_server: None, to_server: None }
    }

    /// Creates a client that has created both FIFOs with mkfifo(2), opened `s2c` for reading, and written its request.
    pub fn asking(path: &Path) -> Self {
        let mut client = Self::new(path);
        client.make_s2c();
        client.make_c2s();
        client.open_s2c();
        client.ask();
        client
    }

    /// Like [`asking`](Self::asking); the client has also read the server's `hello`, but not opened `c2s` or written
    /// `ack`.
    pub fn greeted(path: &Path) -> Self {
        let mut client = Self::asking(path);
        client.expect_hello();
        client
    }

    pub fn s2c(&self) -> PathBuf {
        self.path.join("c").join(self.id.s2c())
    }

    pub fn c2s(&self) -> PathBuf {
        self.path.join("c").join(self.id.c2s())
    }

    pub fn make_s2c(&self) {
        make_fifo(&self.s2c());
    }

    pub fn make_c2s(&self) {
        make_fifo(&self.c2s());
    }

    pub fn open_s2c(&mut self) {
        self.from_server = Some(open(self.s2c(), OFlags::RDONLY | COMMON, Mode::empty()).unwrap());
    }

    pub fn ask(&self) {
        write_request(&self.path, &self.id.request());
    }

    /// Reads the next line from the server, with its newline. Returns `None` at end of file.
    pub fn answer(&mut self) -> Option<String> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            match self.read(1) {
                bytes if bytes.is_empty() => return None,
                bytes => line.extend(bytes),
            }
        }
        Some(String::from_utf8(line).unwrap())
    }

    pub fn expect_hello(&mut self) {
        assert_eq!(self.answer(), Some(self.id.hello()));
    }

    pub fn open_c2s(&mut self) {
        self.to_server = Some(open(self.c2s(), OFlags::WRONLY | COMMON, Mode::empty()).unwrap());
    }

    pub fn unlink(&self) {
        fs::remove_file(self.s2c()).unwrap();
        fs::remove_file(self.c2s()).unwrap();
    }

    pub fn acknowledge(&self) {
        self.write(self.id.ack().as_bytes());
    }

    /// Writes to the server. Panics unless one non-blocking write(2) takes all bytes.
    pub fn write(&self, bytes: &[u8]) {
        let count = rustix::io::write(self.to_server.as_ref().unwrap(), bytes).unwrap();
        assert_eq!(count, bytes.len());
    }

    /// Waits for bytes from the server and reads at most `count`. Returns an empty vector at end of file.
    pub fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let from_server = self.from_server.as_ref().unwrap();
        loop {
            assert!(wait::readable(from_server), "the server did not answer");
            match rustix::io::read(from_server, &mut bytes) {
                Ok(count) => {
                    bytes.truncate(count);
                    return bytes;
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => panic!("read: {errno}"),
            }
        }
    }

    /// Returns true if the server closes the FIFO of this client within the timeout.
    pub fn is_dropped_within(&self, timeout: Duration) -> bool {
        wait::ready(self.from_server.as_ref().unwrap(), PollFlags::empty(), timeout)
    }

    pub fn assert_dropped(&self) {
        assert!(self.is_dropped_within(DEADLINE), "the server still holds this client");
    }

    /// Returns true if one of the two FIFOs still has its name in `c/`.
    pub fn has_files(&self) -> bool {
        [self.s2c(), self.c2s()].iter().any(|path| fs::symlink_metadata(path).is_ok())
    }
}

/// Creates a FIFO with exactly mode 0600, whatever the umask is.
pub fn make_fifo(path: &Path) {
    leaves_files();
    make_fifo_with(path, 0o600);
}

pub fn make_fifo_with(path: &Path, mode: u32) {
    mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).unwrap();
    super::place::chmod(path, mode);
}

/// Opens `fifo`, the well-known FIFO of a server, for writing.
pub fn open_well_known(path: &Path) -> OwnedFd {
    open(path.join("fifo"), OFlags::WRONLY | COMMON, Mode::empty()).unwrap()
}

/// Writes these bytes into the well-known FIFO of a server with one write(2).
pub fn write_request(path: &Path, bytes: &[u8]) {
    let fifo = open_well_known(path);
    assert!(wait::ready(fifo.as_fd(), PollFlags::OUT, DEADLINE));
    assert_eq!(rustix::io::write(&fifo, bytes), Ok(bytes.len()));
}

/// Fills the well-known FIFO of a server until write(2) would block. Returns the write end.
pub fn flood(path: &Path) -> OwnedFd {
    let fifo = open_well_known(path);
    for piece in [4096, 1] {
        let junk = vec![b'x'; piece];
        loop {
            match rustix::io::write(&fifo, &junk) {
                Ok(_) => {}
                Err(Errno::AGAIN) => break,
                Err(errno) => panic!("write: {errno}"),
            }
        }
    }
    fifo
}
