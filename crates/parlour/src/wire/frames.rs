//! Frames: the messages and datagrams by which a publisher lends blocks of its memory to readers.
//!
//! ```text
//!  0    1      2      4          8          12         16          24          32
//!  +----+------+------+----------+----------+----------+-----------+-----------+
//!  | c0 | 1    | 0  0 | version  | pools    | counts   | bytes     | frame     |  attach
//!  +----+------+------+----------+----------+----------+-----------+-----------+
//!  | c0 | 2    | 0  0 | version  |  lease, then the pool
//!  +----+------+------+----------+----------+----------+-----------+
//!  | c0 | 3    | 0  0 | pool     | blocks   | first    | block len |  pool
//!  +----+------+------+----------+----------+----------+-----------+
//!  | c0 | 4    | 0  0 | pool     | block    | generat. | length    |  frame, then the note
//!  +----+------+------+----------+----------+----------+-----------+
//!  | c0 | 5    | 0  0 | note len |  frame by value, then the note and the bytes
//!  +----+------+------+----------+
//! ```
//! Numbers are big-endian.

/// The first byte. It begins no text in UTF-8.
const MAGIC: u8 = 0xc0;

/// The version that this side speaks.
pub(crate) const VERSION: u32 = 1;

/// The maximum number of blocks of all pools that a reader knows: the number of its counts.
pub(crate) const BLOCKS_MAX: usize = 1024;

/// The longest block in bytes: 64 GiB. A pool of such blocks still has a length that fits in an address.
pub(crate) const BLOCK_LEN_MAX: u64 = 1 << 36;

const ATTACH: u8 = 1;
const LEASE: u8 = 2;
const POOL: u8 = 3;
const LENT: u8 = 4;
const BY_VALUE: u8 = 5;

pub(crate) const ATTACH_LEN: usize = 32;
pub(crate) const LEASE_LEN: usize = 8;
pub(crate) const POOL_LEN: usize = 24;
pub(crate) const LENT_LEN: usize = 24;
pub(crate) const BY_VALUE_LEN: usize = 8;

/// The reason for which bytes do not belong to this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadFrame(pub(crate) &'static str);

/// The number and the length of the blocks of a pool. Neither is 0 or more than its maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) blocks: usize,
    pub(crate) block_len: usize,
}

impl Geometry {
    pub(crate) fn new(blocks: u64, block_len: u64) -> Option<Self> {
        let fits = (1..=BLOCKS_MAX as u64).contains(&blocks) && (1..=BLOCK_LEN_MAX).contains(&block_len);
        let (blocks, block_len) = (usize::try_from(blocks).ok()?, usize::try_from(block_len).ok()?);
        fits.then_some(Self { blocks, block_len })
    }
}

/// The first message of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attach {
    pub(crate) version: u32,
    /// The maximum number of pools that the reader maps.
    pub(crate) pools_max: u32,
    /// The maximum number of bytes of all these pools.
    pub(crate) bytes_max: u64,
    /// The longest frame, in bytes.
    pub(crate) frame_max: u64,
}

impl Attach {
    pub(crate) fn encode(self) -> [u8; ATTACH_LEN] {
        let mut bytes = [0; ATTACH_LEN];
        bytes[..4].copy_from_slice(&[MAGIC, ATTACH, 0, 0]);
        bytes[4..8].copy_from_slice(&self.version.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.pools_max.to_be_bytes());
        bytes[12..16].copy_from_slice(&(BLOCKS_MAX as u32).to_be_bytes());
        bytes[16..24].copy_from_slice(&self.bytes_max.to_be_bytes());
        bytes[24..].copy_from_slice(&self.frame_max.to_be_bytes());
        bytes
    }

    /// Returns true if a message is an attach of any version.
    pub(crate) fn is_one(message: &[u8]) -> bool {
        message.len() >= ATTACH_LEN && message.starts_with(&[MAGIC, ATTACH, 0, 0])
    }

    /// Parses a message. Bytes behind it are ignored, for later versions.
    pub(crate) fn parse(message: &[u8]) -> Result<Self, BadFrame> {
        if !Self::is_one(message) {
            return Err(BadFrame("a message is not an attach to a frame pool"));
        }
        let mut rest = &message[4..];
        let (version, pools_max, counts) = (take_u32(&mut rest), take_u32(&mut rest), take_u32(&mut rest));
        let (bytes_max, frame_max) = (take_u64(&mut rest), take_u64(&mut rest));
        if version == 0 {
            return Err(BadFrame("an attach to a frame pool has version 0"));
        }
        if counts as usize != BLOCKS_MAX {
            return Err(BadFrame("an attach to a frame pool has an unknown number of counts"));
        }
        Ok(Self { version, pools_max, bytes_max, frame_max })
    }
}

/// Returns the datagram that brings the lease, and the pool if it is within the limits of the reader.
pub(crate) fn encode_lease(pool: Option<Announced>) -> Vec<u8> {
    let mut datagram = vec![MAGIC, LEASE, 0, 0];
    datagram.extend(VERSION.to_be_bytes());
    datagram.extend(pool.iter().flat_map(|pool| pool.encode()));
    datagram
}

/// Parses the datagram that brings the lease.
pub(crate) fn parse_lease(datagram: &[u8]) -> Result<Option<Announced>, BadFrame> {
    match datagram.split_at_checked(LEASE_LEN) {
        Some(([MAGIC, LEASE, 0, 0, version @ ..], pool)) if *version == VERSION.to_be_bytes() => match pool {
            [] => Ok(None),
            pool => Announced::parse(pool).map(Some),
        },
        _ => Err(BadFrame("the answer to an attach is malformed")),
    }
}

/// The announcement of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) pool: u32,
    pub(crate) geometry: Geometry,
    /// The reader's count of the pool's first block. Those of the others follow.
    pub(crate) first: usize,
}

impl Announced {
    pub(crate) fn encode(self) -> [u8; POOL_LEN] {
        let mut bytes = [0; POOL_LEN];
        bytes[..4].copy_from_slice(&[MAGIC, POOL, 0, 0]);
        bytes[4..8].copy_from_slice(&self.pool.to_be_bytes());
        bytes[8..12].copy_from_slice(&(self.geometry.blocks as u32).to_be_bytes());
        bytes[12..16].copy_from_slice(&(self.first as u32).to_be_bytes());
        bytes[16..].copy_from_slice(&(self.geometry.block_len as u64).to_be_bytes());
        bytes
    }

    pub(crate) fn parse(datagram: &[u8]) -> Result<Self, BadFrame> {
        if datagram.len() != POOL_LEN || !datagram.starts_with(&[MAGIC, POOL, 0, 0]) {
            return Err(BadFrame("the announcement of a frame pool is malformed"));
        }
        let mut rest = &datagram[4..];
        let (pool, blocks, first) = (take_u32(&mut rest), take_u32(&mut rest), take_u32(&mut rest));
        let geometry = Geometry::new(blocks.into(), take_u64(&mut rest))
            .ok_or(BadFrame("a frame pool has no blocks, too many, or blocks that are too long"))?;
        let first = usize::try_from(first).ok().filter(|first| first.saturating_add(geometry.blocks) <= BLOCKS_MAX);
        let first = first.ok_or(BadFrame("the blocks of all frame pools are too many"))?;
        Ok(Self { pool, geometry, first })
    }
}

/// The front of a message that lends a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lent {
    pub(crate) pool: u32,
    pub(crate) block: u32,
    pub(crate) generation: u32,
    pub(crate) length: u64,
}

impl Lent {
    pub(crate) fn encode(self) -> [u8; LENT_LEN] {
        let mut bytes = [0; LENT_LEN];
        bytes[..4].copy_from_slice(&[MAGIC, LENT, 0, 0]);
        bytes[4..8].copy_from_slice(&self.pool.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.block.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.generation.to_be_bytes());
        bytes[16..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }
}

/// Returns the front of a message that has the bytes of a frame itself.
pub(crate) fn encode_by_value(note_len: u32) -> [u8; BY_VALUE_LEN] {
    let [a, b, c, d] = note_len.to_be_bytes();
    [MAGIC, BY_VALUE, 0, 0, a, b, c, d]
}

/// A message with a frame. The note of a lent frame begins at [`LENT_LEN`], that of the other kind at
/// [`BY_VALUE_LEN`], and its bytes follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameMessage {
    Lent(Lent),
    ByValue { note_len: usize },
}

impl FrameMessage {
    pub(crate) fn parse(message: &[u8]) -> Result<Self, BadFrame> {
        let short = BadFrame("a message is shorter than the front of a frame");
        match message {
            [MAGIC, LENT, 0, 0, rest @ ..] if message.len() >= LENT_LEN => {
                let mut rest = rest;
                let (pool, block, generation) = (take_u32(&mut rest), take_u32(&mut rest), take_u32(&mut rest));
                Ok(Self::Lent(Lent { pool, block, generation, length: take_u64(&mut rest) }))
            }
            [MAGIC, BY_VALUE, 0, 0, rest @ ..] if message.len() >= BY_VALUE_LEN => {
                let mut rest = rest;
                let note_len = usize::try_from(take_u32(&mut rest)).unwrap_or(usize::MAX);
                match note_len <= rest.len() {
                    true => Ok(Self::ByValue { note_len }),
                    false => Err(BadFrame("the note of a frame is longer than its message")),
                }
            }
            [MAGIC, LENT | BY_VALUE, 0, 0, ..] => Err(short),
            _ => Err(BadFrame("a message is not a frame")),
        }
    }
}

/// Takes a number from the front. The caller has checked the length; missing bytes count as 0.
fn take_u32(bytes: &mut &[u8]) -> u32 {
    let Some((first, rest)) = bytes.split_first_chunk::<4>() else { return 0 };
    *bytes = rest;
    u32::from_be_bytes(*first)
}

fn take_u64(bytes: &mut &[u8]) -> u64 {
    let high = take_u32(bytes);
    u64::from(high) << 32 | u64::from(take_u32(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_parses_from_its_own_bytes() {
        let attach = Attach { version: 1, pools_max: 2, bytes_max: 3 << 32, frame_max: 4 };
        assert_eq!(Attach::parse(&attach.encode()), Ok(attach));
        assert_eq!(Attach::parse(&[&attach.encode()[..], b"later"].concat()), Ok(attach));
        let geometry = Geometry::new(9, 1 << 20).unwrap();
        let announced = Announced { pool: 7, geometry, first: 1015 };
        for pool in [None, Some(announced)] {
            assert_eq!(parse_lease(&encode_lease(pool)), Ok(pool));
        }
        assert_eq!(Announced::parse(&announced.encode()), Ok(announced));
        let lent = Lent { pool: 7, block: 8, generation: 9, length: 1 << 33 };
        assert_eq!(FrameMessage::parse(&[&lent.encode()[..], b"note"].concat()), Ok(FrameMessage::Lent(lent)));
        let by_value = [&encode_by_value(4)[..], b"notebytes"].concat();
        assert_eq!(FrameMessage::parse(&by_value), Ok(FrameMessage::ByValue { note_len: 4 }));
    }

    #[test]
    fn bytes_that_are_no_frame_are_refused() {
        let lent = Lent { pool: 7, block: 8, generation: 9, length: 1 << 33 }.encode();
        for short in 0..lent.len() {
            assert!(FrameMessage::parse(&lent[..short]).is_err(), "{short} bytes");
        }
        assert!(FrameMessage::parse(&encode_by_value(1)).is_err());
        assert!(FrameMessage::parse(&encode_by_value(u32::MAX)).is_err());
        assert!(FrameMessage::parse(b"hello").is_err());
        assert!(FrameMessage::parse(&encode_lease(None)).is_err());
    }

    #[test]
    fn pools_that_do_not_fit_are_refused() {
        let geometry = Geometry::new(9, 4096).unwrap();
        assert!(Announced::parse(&Announced { pool: 0, geometry, first: 1015 }.encode()).is_ok());
        assert!(Announced::parse(&Announced { pool: 0, geometry, first: 1016 }.encode()).is_err());
        for (blocks, block_len) in [(0, 1), (1, 0), (1025, 1), (1, BLOCK_LEN_MAX + 1), (u64::MAX, 1), (1, u64::MAX)] {
            assert_eq!(Geometry::new(blocks, block_len), None);
        }
    }

    #[test]
    fn an_attach_with_other_counts_or_version_0_is_refused() {
        let attach = Attach { version: 1, pools_max: 2, bytes_max: 3, frame_max: 4 };
        let mut bytes = attach.encode();
        bytes[14] = 8;
        assert!(Attach::parse(&bytes).is_err());
        assert!(Attach::parse(&Attach { version: 0, ..attach }.encode()).is_err());
        assert!(Attach::parse(&attach.encode()[..31]).is_err());
    }
}
