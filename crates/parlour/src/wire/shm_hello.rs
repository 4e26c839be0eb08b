//! The handshake of `shm`: one datagram of fixed size in each direction, before any memory is shared.
//!
//! ```text
//!  0         8      9      10       12         16          24
//!  +---------+------+------+--------+----------+-----------+
//!  | parlour1| kind |reason| layout | features | ring size |
//!  +---------+------+------+--------+----------+-----------+
//! ```
//! Numbers are big-endian. The layout and the features describe the shared memory. Words in that memory have the byte
//! order of the machine, which both sides share.

use super::hello::Reason;

/// Length of the datagram in bytes.
pub(crate) const HELLO_LEN: usize = 24;

/// The minimum and the maximum size of a ring in bytes. In a smaller ring one `feed` would not fit. With a larger one,
/// a peer could make this process map memory that serves no purpose.
pub(crate) const RING_SIZE_MIN: usize = 64 * 1024;
pub(crate) const RING_SIZE_MAX: usize = 64 * 1024 * 1024;

const MAGIC: &[u8; 8] = b"parlour1";

/// The layout of the memory that docs/shm.md specifies.
const LAYOUT: u16 = 1;

/// Extensions that this side supports. An extension is active if both sides support it. Unknown bits are ignored. No
/// extension is defined yet.
const FEATURES: u32 = 0;

/// A greeting of either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// The datagram carries memory with a ring of this size.
    Hello { ring_size: usize },
    /// The server does not admit the client. The datagram carries no memory.
    Refused(Reason),
}

/// The reason for which a datagram is not a valid greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadGreeting(pub(crate) &'static str);

const MISMATCH: BadGreeting = BadGreeting("its kind, reason and ring size do not match");

/// Returns true if a ring may have this size. The size must be a power of two, so that free-running positions remain
/// correct when they wrap.
pub(crate) fn is_ring_size(size: usize) -> bool {
    size.is_power_of_two() && (RING_SIZE_MIN..=RING_SIZE_MAX).contains(&size)
}

impl Greeting {
    pub(crate) fn encode(self) -> [u8; HELLO_LEN] {
        let (kind, reason, ring_size) = match self {
            Self::Hello { ring_size } => (1, 0, ring_size as u64),
            Self::Refused(reason) => (2, reason.number(), 0),
        };
        let mut bytes = [0; HELLO_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = kind;
        bytes[9] = reason;
        bytes[10..12].copy_from_slice(&LAYOUT.to_be_bytes());
        bytes[12..16].copy_from_slice(&FEATURES.to_be_bytes());
        bytes[16..].copy_from_slice(&ring_size.to_be_bytes());
        bytes
    }

    pub(crate) fn parse(datagram: &[u8]) -> Result<Self, BadGreeting> {
        let bytes: &[u8; HELLO_LEN] = datagram.try_into().map_err(|_| BadGreeting("it has the wrong length"))?;
        let [m0, m1, m2, m3, m4, m5, m6, m7, kind, reason, l0, l1, _, _, _, _, ring_size @ ..] = *bytes;
        if [m0, m1, m2, m3, m4, m5, m6, m7] != *MAGIC {
            return Err(BadGreeting("it does not begin with the magic bytes of a greeting"));
        }
        if u16::from_be_bytes([l0, l1]) != LAYOUT {
            return Err(BadGreeting("its memory has a layout that this version does not support"));
        }
        let ring_size = u64::from_be_bytes(ring_size);
        match (kind, reason, ring_size) {
            (1, 0, size) => match usize::try_from(size) {
                Ok(ring_size) if is_ring_size(ring_size) => Ok(Self::Hello { ring_size }),
                _ => Err(BadGreeting("its ring has an invalid size")),
            },
            (2, number, 0) => Reason::of_number(number).map(Self::Refused).ok_or(MISMATCH),
            _ => Err(MISMATCH),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_greeting_is_these_bytes() {
        let bytes = Greeting::Hello { ring_size: 1 << 20 }.encode();
        assert_eq!(bytes, *b"parlour1\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00");
    }

    #[test]
    fn each_greeting_reads_back() {
        let sizes = (16..=26).map(|bits| Greeting::Hello { ring_size: 1 << bits });
        let refusals = [Reason::Denied, Reason::Busy, Reason::Failed].map(Greeting::Refused);
        for greeting in sizes.chain(refusals) {
            assert_eq!(Greeting::parse(&greeting.encode()), Ok(greeting));
        }
    }

    #[test]
    fn unknown_features_are_ignored() {
        let mut bytes = Greeting::Hello { ring_size: 1 << 20 }.encode();
        bytes[12..16].fill(0xff);
        assert_eq!(Greeting::parse(&bytes), Ok(Greeting::Hello { ring_size: 1 << 20 }));
    }

    #[test]
    fn every_other_value_of_the_first_twelve_bytes_is_rejected() {
        let hello = Greeting::Hello { ring_size: 1 << 20 }.encode();
        for place in 0..12 {
            for value in (0..=u8::MAX).filter(|&value| value != hello[place]) {
                let mut bytes = hello;
                bytes[place] = value;
                let parsed = Greeting::parse(&bytes);
                assert!(parsed.is_err(), "byte {place} as {value}: {parsed:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_greetings_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(Greeting::parse(&bytes).is_err());
        }

        #[test]
        fn only_valid_ring_sizes_are_accepted(size in any::<u64>()) {
            let mut bytes = Greeting::Hello { ring_size: 1 << 20 }.encode();
            bytes[16..].copy_from_slice(&size.to_be_bytes());
            let is_right = usize::try_from(size).is_ok_and(is_ring_size);
            prop_assert_eq!(Greeting::parse(&bytes).is_ok(), is_right);
        }
    }
}
