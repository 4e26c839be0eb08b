//! A process that asks for a name, frame by frame (docs/wire.md, Hand-over).

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg, socket_with,
};

use crate::support::wait;

/// The frames without a body, and those that the tests send.
pub const WELCOME: &[u8] = b"parlour1\x02\x01\0\0";
pub const DENIED: &[u8] = b"parlour1\x03\x01\0\0\x01";
pub const OTHER_VERSION: &[u8] = b"parlour1\x03\x01\0\0\x02";
pub const READY: &[u8] = b"parlour1\x04\x01\0\0";
pub const ACK: &[u8] = b"parlour1\x06\x01\0\0";

/// Returns the hello of a server that wants every transport with the default mode.
pub fn hello() -> Vec<u8> {
    let group = rustix::process::getegid().as_raw().to_be_bytes();
    [&b"parlour1\x01\x01\0\0\x0f\0\0\0"[..], &0o600u32.to_be_bytes(), &group].concat()
}

/// The socket of a candidate.
#[derive(Debug)]
pub struct Candidate(OwnedFd);

impl Candidate {
    /// Connects to the holder of the name with this directory.
    pub fn connect(path: &Path) -> Result<Self, Errno> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        connect(&socket, &SocketAddrUnix::new(path.join("control")).unwrap())?;
        Ok(Self(socket))
    }

    /// Sends a datagram, with a descriptor or without one. The holder may have ended the attempt because of an earlier
    /// one.
    pub fn send(&self, datagram: &[u8], descriptor: Option<&File>) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<_> = descriptor.iter().map(|file| file.as_fd()).collect();
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        }
        match sendmsg(&self.0, &[IoSlice::new(datagram)], &mut control, SendFlags::NOSIGNAL) {
            Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => {}
            Err(errno) => panic!("{errno}"),
        }
    }

    /// Sends the hello with the proof of a process that may write.
    pub fn greet(&self, path: &Path) {
        let lock = File::options().read(true).write(true).open(path.join("lock")).unwrap();
        self.send(&hello(), Some(&lock));
    }

    /// Receives a datagram with its descriptors. At the end it is empty.
    pub fn receive(&self) -> (Vec<u8>, Vec<OwnedFd>) {
        assert!(wait::readable(&self.0), "the holder said nothing");
        let mut bytes = [0; 200];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = loop {
            match recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
                Ok(received) => break received,
                Err(Errno::CONNRESET) => {}
                Err(errno) => panic!("{errno}"),
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

    /// Goes through the steps up to `grant`. Returns its bytes and descriptors.
    pub fn take_grant(&self, path: &Path) -> (Vec<u8>, Vec<OwnedFd>) {
        self.greet(path);
        assert_eq!(self.receive().0, WELCOME);
        self.send(READY, None);
        self.receive()
    }
}
