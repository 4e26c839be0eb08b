//! One direction of a conversation at one bridge: a buffer between the side that is read and the side that is written.

use crate::spare::{self, BUFFER_LEN};

/// The side that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Open,
    /// It has ended, and everything that it sent has been read.
    Ended,
    /// It ended without saying so: more may have been sent.
    Broken,
}

/// The side that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    Open,
    /// The end was passed on, after everything else.
    Ended,
    /// The loss was passed on, after everything that arrived before it.
    Cut,
    /// Nobody takes this direction any more.
    Untaken,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Empty, or of `BUFFER_LEN` bytes. The bytes `start..end` are to be written.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    pub(crate) source: Source,
    pub(crate) sink: Sink,
}

impl Flow {
    pub(crate) fn new() -> Self {
        Self { buffer: Vec::new(), start: 0, end: 0, source: Source::Open, sink: Sink::Open }
    }

    /// Returns the space for the next bytes, or `None` if nothing is to be read. If nobody takes the bytes, they are
    /// read to find the end behind them.
    pub(crate) fn space(&mut self) -> Option<&mut [u8]> {
        if self.source != Source::Open || (self.start == 0 && self.end == BUFFER_LEN) {
            return None;
        }
        if self.buffer.is_empty() {
            self.buffer = spare::take();
        }
        if self.end == BUFFER_LEN {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        self.buffer.get_mut(self.end..)
    }

    /// This many bytes were read into the space.
    pub(crate) fn filled(&mut self, count: usize) {
        if self.sink == Sink::Open {
            self.end = (self.end + count).min(self.buffer.len());
        }
    }

    /// Returns the bytes that are to be written.
    pub(crate) fn pending(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// This many of the pending bytes were written.
    pub(crate) fn written(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Puts bytes behind those that are pending, if there is space for them.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if self.buffer.is_empty() {
            self.buffer = spare::take();
        }
        if let Some(space) = self.buffer.get_mut(self.end..self.end + bytes.len()) {
            space.copy_from_slice(bytes);
            self.end += bytes.len();
        }
    }

    /// Nobody takes this direction any more. Does nothing if its end was passed on already.
    pub(crate) fn refuse(&mut self) {
        if self.sink == Sink::Open {
            self.sink = Sink::Untaken;
            (self.start, self.end) = (0, 0);
        }
    }

    /// The side that is read has ended, unless its end is known already.
    pub(crate) fn end(&mut self, how: Source) {
        if self.source == Source::Open {
            self.source = how;
        }
    }

    /// Gives the buffer back if it is empty.
    pub(crate) fn release(&mut self) {
        if self.start == self.end {
            spare::give(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        #[test]
        fn the_bytes_come_out_as_they_went_in(steps in prop::collection::vec((0..70_000usize, 0..70_000usize), 1..40)) {
            let (mut flow, mut next, mut expected) = (Flow::new(), 0u8, 0u8);
            for (fill, write) in steps {
                if let Some(space) = flow.space() {
                    prop_assert!(!space.is_empty());
                    let count = fill.min(space.len());
                    for byte in &mut space[..count] {
                        *byte = next;
                        next = next.wrapping_add(1);
                    }
                    flow.filled(count);
                } else {
                    prop_assert_eq!(flow.pending().len(), BUFFER_LEN);
                }
                let count = write.min(flow.pending().len());
                for byte in &flow.pending()[..count] {
                    prop_assert_eq!(*byte, expected);
                    expected = expected.wrapping_add(1);
                }
                flow.written(count);
                flow.release();
            }
        }
    }
}
