//! Messages on a byte stream: four bytes of length, in network byte order, then the message.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::AsFd;

use anyhow::{Result, ensure};
use rustix::event::PollFlags;
use rustix::io::{read, readv};

use super::wait::retried;

/// The size of the read buffer.
const BUFFER_LEN: usize = 64 * 1024;

/// The minimum length of messages that are read directly into place instead of through the buffer.
const DIRECT_MIN: usize = BUFFER_LEN / 2;

/// Writes one message with as few calls as possible: one call, unless the channel is full. `write` is writev(2) or
/// sendmsg(2).
pub(crate) fn send(message: &[u8], mut write: impl FnMut(&[IoSlice<'_>]) -> rustix::io::Result<usize>) -> Result<()> {
    let header = (message.len() as u32).to_be_bytes();
    let mut sent = write(&[IoSlice::new(&header), IoSlice::new(message)])?;
    while sent < header.len() + message.len() {
        sent += match sent.checked_sub(header.len()) {
            Some(sent) => write(&[IoSlice::new(&message[sent..])])?,
            None => write(&[IoSlice::new(&header[sent..]), IoSlice::new(message)])?,
        };
    }
    Ok(())
}

/// A reader of messages.
#[derive(Debug)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
    /// The expected length of messages, which selects the way of reading. Messages may still have any length.
    expected: usize,
}

impl Reader {
    pub(crate) fn new(expected: usize) -> Self {
        Self { buffer: vec![0; BUFFER_LEN], begin: 0, end: 0, expected }
    }

    /// Receives the next message into `message`, replacing its contents. Returns false at end of file.
    pub(crate) fn receive(&mut self, fd: impl AsFd, message: &mut Vec<u8>) -> Result<bool> {
        if self.begin == self.end && self.expected >= DIRECT_MIN {
            return self.receive_directly(fd, message);
        }
        while self.end - self.begin < 4 {
            if !self.fill(&fd)? {
                ensure!(self.begin == self.end, "the stream ended mid-message");
                return Ok(false);
            }
        }
        let len = self.header();
        self.begin += 4;
        let here = len.min(self.end - self.begin);
        message.clear();
        message.extend_from_slice(&self.buffer[self.begin..self.begin + here]);
        self.begin += here;
        fill_up(fd, message, here, len)?;
        Ok(true)
    }

    fn header(&self) -> usize {
        let mut header = [0; 4];
        header.copy_from_slice(&self.buffer[self.begin..self.begin + 4]);
        u32::from_be_bytes(header) as usize
    }

    fn fill(&mut self, fd: impl AsFd) -> Result<bool> {
        self.buffer.copy_within(self.begin..self.end, 0);
        self.end -= self.begin;
        self.begin = 0;
        let count = retried(&fd, PollFlags::IN, || read(&fd, &mut self.buffer[self.end..]))?;
        self.end += count;
        Ok(count > 0)
    }

    /// Receives the header and the message with one call if all of their bytes have arrived.
    fn receive_directly(&mut self, fd: impl AsFd, message: &mut Vec<u8>) -> Result<bool> {
        let mut header = [0; 4];
        message.resize(self.expected, 0);
        let mut count =
            retried(&fd, PollFlags::IN, || readv(&fd, &mut [IoSliceMut::new(&mut header), IoSliceMut::new(message)]))?;
        if count == 0 {
            return Ok(false);
        }
        while count < 4 {
            let more = retried(&fd, PollFlags::IN, || read(&fd, &mut header[count..]))?;
            ensure!(more > 0, "the stream ended mid-message");
            count += more;
        }
        let len = u32::from_be_bytes(header) as usize;
        ensure!(count - 4 <= len, "a message is shorter than expected");
        fill_up(fd, message, count - 4, len)?;
        Ok(true)
    }
}

/// Reads the missing rest of a message.
fn fill_up(fd: impl AsFd, message: &mut Vec<u8>, mut have: usize, len: usize) -> Result<()> {
    message.resize(len, 0);
    while have < len {
        let count = retried(&fd, PollFlags::IN, || read(&fd, &mut message[have..]))?;
        ensure!(count > 0, "the stream ended mid-message");
        have += count;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_received_whole_whatever_the_partial_writes() {
        for expected in [0, DIRECT_MIN] {
            let (reading, writing) = std::os::unix::net::UnixStream::pair().unwrap();
            let lens = [0, 1, 64, BUFFER_LEN - 4, BUFFER_LEN, 3 * BUFFER_LEN];
            let lens: Vec<usize> =
                lens.into_iter().map(|len| if expected > 0 { len.max(expected) } else { len }).collect();
            let sent = lens.clone();
            let writer = std::thread::spawn(move || {
                for len in sent {
                    // The first calls write only a few bytes.
                    let message = vec![len as u8; len];
                    let mut calls = 0;
                    send(&message, |parts| {
                        calls += 1;
                        match parts.iter().find(|part| !part.is_empty()) {
                            Some(part) if calls < 4 => Ok(rustix::io::write(&writing, &part[..part.len().min(3)])?),
                            _ => rustix::io::writev(&writing, parts),
                        }
                    })
                    .unwrap();
                }
            });
            let mut reader = Reader::new(expected);
            let mut message = Vec::new();
            for len in lens {
                assert!(reader.receive(&reading, &mut message).unwrap());
                assert!(message.len() == len && message.iter().all(|&byte| byte == len as u8), "{len} of {expected}");
            }
            writer.join().unwrap();
            assert!(!reader.receive(&reading, &mut message).unwrap());
        }
    }
}
