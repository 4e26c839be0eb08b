//! A client of the `shm` transport written with system calls: a SEQPACKET socket, the hello of docs/wire.md, and a
//! memfd.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::event::PollFlags;
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg, socket_with,
};

use crate::support::{DEADLINE, wait};

pub const CONTROL: usize = 4096;
pub const RING: usize = 64 * 1024;

pub const ALL_SEALS: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);

/// Encodes a hello: `parlour1`, kind 1, reason 0, layout 1, features 0, and the ring size in big-endian order.
pub fn hello(ring: u64) -> [u8; 24] {
    let mut bytes = *b"parlour1\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    bytes[16..].copy_from_slice(&ring.to_be_bytes());
    bytes
}

/// Creates sealed memory whose first `written` bytes were written. The rest is a hole.
pub fn memfd(length: usize, written: usize, seals: SealFlags) -> OwnedFd {
    memfd_with(MemfdFlags::empty(), length as u64, seals, |file| file.write_all_at(&vec![0; written], 0).unwrap())
}

/// Creates sealed memory of this length with the content that `fill` gives it.
pub fn memfd_with(flags: MemfdFlags, length: u64, seals: SealFlags, fill: impl FnOnce(&File)) -> OwnedFd {
    let memfd = memfd_create("by-hand", flags | MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&memfd, length).unwrap();
    let file = File::from(memfd);
    fill(&file);
    fcntl_add_seals(&file, seals).unwrap();
    file.into()
}

/// Creates sealed memory of this length that has as many blocks as it has pages, and holes nevertheless. Each is
/// returned with its description.
pub fn memory_with_holes(length: u64, seals: SealFlags) -> Vec<(&'static str, OwnedFd)> {
    let end = length.next_multiple_of(4096);
    let allocate = |file: &File, offset, count| fallocate(file, FallocateFlags::KEEP_SIZE, offset, count).unwrap();
    let write = |file: &File, range: std::ops::Range<u64>| {
        file.write_all_at(&vec![1; (range.end - range.start) as usize], range.start).unwrap();
    };
    let made = |fill: &dyn Fn(&File)| memfd_with(MemfdFlags::empty(), length, seals, fill);
    vec![
        ("all blocks past the end", made(&|file| allocate(file, end, end))),
        ("all blocks far past the end", made(&|file| allocate(file, 1 << 40, end))),
        ("allocated pages that were never written", made(&|file| allocate(file, 0, end))),
        (
            "a first page only, and blocks past the end",
            made(&|file| {
                write(file, 0..4096);
                allocate(file, end, end);
            }),
        ),
        (
            "no last page, and a block past the end",
            made(&|file| {
                write(file, 0..end - 4096);
                allocate(file, end, 4096);
            }),
        ),
        (
            "a hole in the middle, and a block past the end",
            made(&|file| {
                write(file, 0..4096);
                write(file, 8192..length);
                allocate(file, end, 4096);
            }),
        ),
    ]
}

/// Creates memory that a server accepts: the right size, each page written, and with all required seals.
pub fn good_memfd() -> OwnedFd {
    memfd(CONTROL + RING, CONTROL + RING, ALL_SEALS)
}

pub fn dial(path: &Path) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    connect(&socket, &SocketAddrUnix::new(path.join("shm")).unwrap()).unwrap();
    socket
}

pub fn say(socket: &OwnedFd, bytes: &[u8], descriptors: &[&OwnedFd]) {
    try_say(socket, bytes, descriptors).unwrap();
}

pub fn try_say(socket: &OwnedFd, bytes: &[u8], descriptors: &[&OwnedFd]) -> Result<usize, rustix::io::Errno> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(300))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
}

/// Receives the next datagram with its descriptors. The bytes are empty at end of file.
pub fn hear(socket: &OwnedFd) -> (Vec<u8>, Vec<OwnedFd>) {
    assert!(wait::readable(socket), "no datagram arrived within {DEADLINE:?}");
    let mut bytes = [0; 100];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::CONNRESET) => {}
            received => break received.unwrap(),
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    (bytes[..received.bytes].to_vec(), descriptors)
}

/// Checks that the server closes the socket, with or without a refusal, and sends no memory.
#[track_caller]
pub fn assert_refused(socket: &OwnedFd) {
    let (said, descriptors) = hear(socket);
    assert!(descriptors.is_empty(), "a refusal came with a descriptor");
    if !said.is_empty() {
        assert_eq!(said[..9], *b"parlour1\x02", "the datagram is a refusal");
        assert_eq!(hear(socket).0, b"");
    }
    assert!(wait::ready(socket, PollFlags::empty(), DEADLINE), "the socket is hung up");
}

/// A client that has completed the handshake.
pub struct ByHand {
    pub socket: OwnedFd,
    pub theirs: std::fs::File,
}

pub const HEAD: u64 = 0;
pub const TAIL: u64 = 128;

impl ByHand {
    /// Connects a client whose memory has the content that `fill` writes, and does not change afterwards.
    pub fn connect(path: &Path, fill: impl FnOnce(&std::fs::File)) -> Self {
        let length = CONTROL + RING;
        let mine = memfd_with(MemfdFlags::empty(), length as u64, ALL_SEALS, |file| {
            file.write_all_at(&vec![0; length], 0).unwrap();
            fill(file);
        });
        let socket = dial(path);
        say(&socket, &hello(RING as u64), &[&mine]);
        let (said, mut descriptors) = hear(&socket);
        assert_eq!(said[..12], hello(0)[..12]);
        assert_eq!(descriptors.len(), 1);
        let theirs = std::fs::File::from(descriptors.pop().unwrap());
        Self { socket, theirs }
    }

    pub fn their_word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.theirs.read_exact_at(&mut bytes, at).unwrap();
        u64::from_ne_bytes(bytes)
    }
}

pub fn put_word(file: &std::fs::File, at: u64, value: u64) {
    file.write_all_at(&value.to_ne_bytes(), at).unwrap();
}
