//! The messages of a client that wait behind a block of shared memory, without I/O.
//!
//! The write buffer of a connection holds bytes. A block is a descriptor, so it waits here if the channel is full, and
//! every later message waits behind it.

use std::collections::VecDeque;

use super::parcel::Parcel;
use crate::wire::frame::HEADER_LEN;

/// Messages that wait, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    parcels: VecDeque<Parcel>,
    bytes: usize,
    blocks: usize,
}

impl Backlog {
    /// Returns the number of bytes that wait, with the header of each message.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// Returns true if so many further blocks may wait. If none waits, any number may.
    pub(super) fn has_room(&self, blocks: usize, blocks_max: usize) -> bool {
        self.blocks == 0 || blocks == 0 || self.blocks.saturating_add(blocks) <= blocks_max
    }

    pub(super) fn push(&mut self, parcel: Parcel) {
        self.add(&parcel);
        self.parcels.push_back(parcel);
    }

    /// Removes the oldest message.
    pub(super) fn pop(&mut self) -> Option<Parcel> {
        let parcel = self.parcels.pop_front()?;
        self.bytes -= HEADER_LEN + parcel.bytes.len();
        self.blocks -= parcel.blocks.len();
        Some(parcel)
    }

    /// Returns a message that was removed to its place.
    pub(super) fn put_back(&mut self, parcel: Parcel) {
        self.add(&parcel);
        self.parcels.push_front(parcel);
    }

    fn add(&mut self, parcel: &Parcel) {
        self.bytes += HEADER_LEN + parcel.bytes.len();
        self.blocks += parcel.blocks.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared_bytes::SharedBytes;

    fn parcel(bytes: &[u8], blocks: usize) -> Parcel {
        let block = SharedBytes::new(b"block").unwrap();
        Parcel { bytes: bytes.to_vec(), blocks: vec![block; blocks] }
    }

    #[test]
    fn bytes_and_blocks_are_counted_until_they_are_removed() {
        let mut backlog = Backlog::default();
        backlog.push(parcel(b"first", 2));
        backlog.push(parcel(b"", 0));
        assert_eq!((backlog.len(), backlog.blocks), (2 * HEADER_LEN + 5, 2));
        let first = backlog.pop().unwrap();
        assert_eq!((first.bytes.as_slice(), backlog.blocks), (&b"first"[..], 0));
        backlog.put_back(first);
        assert_eq!((backlog.len(), backlog.blocks), (2 * HEADER_LEN + 5, 2));
        assert_eq!(backlog.pop().unwrap().bytes, b"first");
        assert_eq!(backlog.pop().unwrap().bytes, b"");
        assert!(backlog.pop().is_none());
        assert_eq!((backlog.len(), backlog.blocks), (0, 0));
    }

    #[test]
    fn the_number_of_blocks_is_limited_unless_none_waits() {
        let mut backlog = Backlog::default();
        assert!(backlog.has_room(100, 2));
        backlog.push(parcel(b"", 0));
        assert!(backlog.has_room(100, 2));
        backlog.push(parcel(b"", 1));
        assert!(backlog.has_room(1, 2) && !backlog.has_room(2, 2));
        backlog.push(parcel(b"", 1));
        assert!(!backlog.has_room(1, 2));
        assert!(backlog.has_room(0, 2), "a message without blocks is limited by its bytes alone");
    }
}
