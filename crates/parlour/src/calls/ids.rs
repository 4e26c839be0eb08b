//! Hashing of numbers that this side chooses.

use std::hash::Hasher;

/// The hash of a number that this side chooses, so that no peer can make two collide.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u64(&mut self, id: u64) {
        // The multiplier is that of Fibonacci hashing, 2^64 divided by the golden ratio. It spreads successive ids.
        self.0 = (self.0 ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
