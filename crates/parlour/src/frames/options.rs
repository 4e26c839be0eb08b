//! The options of a pool, and the limits of a reader.

use rustix::process::geteuid;

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::wire::frames::{BLOCK_LEN_MAX, BLOCKS_MAX, Geometry};

/// The options of a [`FramePool`](super::FramePool), with their defaults.
///
/// The pool has [`readers`](Self::readers) × [`share`](Self::share) blocks that readers may hold, and
/// [`own_blocks`](Self::own_blocks) more for the publisher: by default one, which is being filled. It never grows.
///
/// # Examples
///
/// ```
/// use parlour::frames::{AtShare, FramePoolOptions};
///
/// // 4 × 3 + 1 blocks.
/// let pool = FramePoolOptions::new(640 * 480).readers(4).share(3).at_share(AtShare::Refuse).create()?;
/// assert_eq!(pool.blocks(), 13);
/// # Ok::<(), parlour::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct FramePoolOptions {
    pub(super) block_len: usize,
    pub(super) readers: usize,
    pub(super) share: usize,
    pub(super) own_blocks: usize,
    pub(super) at_share: AtShare,
    pub(super) by_value_max: usize,
    pub(super) leases_max: usize,
    pub(super) leases_per_uid_max: Option<usize>,
    pub(super) readers_per_uid_max: Option<usize>,
    pub(super) any_user: bool,
}

impl FramePoolOptions {
    /// Returns the default options of a pool for frames of at most this many bytes: from 1 to 64 GiB.
    #[must_use]
    pub fn new(frame_len_max: usize) -> Self {
        Self {
            block_len: frame_len_max,
            readers: 4,
            share: 2,
            own_blocks: 1,
            at_share: AtShare::ByValue,
            by_value_max: 16 << 20,
            leases_max: 64,
            leases_per_uid_max: None,
            readers_per_uid_max: None,
            any_user: false,
        }
    }

    /// Sets the number of readers that can hold blocks at the same time. The default is 4, and the minimum 1. Further
    /// readers get their frames [by value](AtShare::ByValue).
    #[must_use]
    pub fn readers(mut self, count: usize) -> Self {
        self.readers = count;
        self
    }

    /// Sets the number of blocks that one reader can hold. The default is 2, and the minimum 1. No reader, however it
    /// behaves, holds more.
    #[must_use]
    pub fn share(mut self, blocks: usize) -> Self {
        self.share = blocks;
        self
    }

    /// Sets the number of blocks that the publisher itself can hold at a time, whatever its readers hold: the one that
    /// is being filled, and those of the frames that it keeps. The default and the minimum is 1. A publisher that holds
    /// as many waits for its readers when it lends the next one.
    #[must_use]
    pub fn own_blocks(mut self, blocks: usize) -> Self {
        self.own_blocks = blocks;
        self
    }

    /// Sets the treatment of a reader that holds its share. The default is [`AtShare::ByValue`].
    #[must_use]
    pub fn at_share(mut self, what: AtShare) -> Self {
        self.at_share = what;
        self
    }

    /// Sets the longest frame in bytes that is sent [by value](AtShare::ByValue). The default is 16 MiB. The
    /// [`message_max`](crate::ConnectOptions::message_max) of the connection applies as well.
    #[must_use]
    pub fn by_value_max(mut self, bytes: usize) -> Self {
        self.by_value_max = bytes;
        self
    }

    /// Sets the maximum number of readers, those included that have ended their connection and keep a frame. The
    /// default is 64. Each costs one descriptor.
    #[must_use]
    pub fn leases_max(mut self, count: usize) -> Self {
        self.leases_max = count;
        self
    }

    /// Sets the maximum number of readers of one user, counted like [`leases_max`](Self::leases_max). The default is
    /// `leases_max`, and with [`any_user`](Self::any_user) a quarter of it, so that one user cannot take the places of
    /// all.
    #[must_use]
    pub fn leases_per_uid_max(mut self, count: usize) -> Self {
        self.leases_per_uid_max = Some(count);
        self
    }

    /// Sets the maximum number of readers of one user that can hold blocks at the same time. Further readers of this
    /// user get their frames [by value](AtShare::ByValue). The default is [`readers`](Self::readers). With
    /// [`any_user`](Self::any_user) it is a quarter of them, at least 1, for users other than that of this process.
    #[must_use]
    pub fn readers_per_uid_max(mut self, count: usize) -> Self {
        self.readers_per_uid_max = Some(count);
        self
    }

    /// Admits readers of every user. The default is false: only readers of the user of this process are admitted.
    ///
    /// A reader that is admitted can read the whole pool for as long as it likes, also frames that were sent to others
    /// only. Make a pool for each audience.
    #[must_use]
    pub fn any_user(mut self, yes: bool) -> Self {
        self.any_user = yes;
        self
    }

    /// Returns the maximum number of leases of one user.
    pub(super) fn leases_of_user_max(&self) -> usize {
        let default = if self.any_user { (self.leases_max / 4).max(1) } else { self.leases_max };
        self.leases_per_uid_max.unwrap_or(default)
    }

    /// Returns the maximum number of readers of this user that hold blocks.
    pub(super) fn shares_of_user_max(&self, uid: Option<u32>) -> usize {
        let is_foreign = self.any_user && uid != Some(geteuid().as_raw());
        let default = if is_foreign { (self.readers / 4).max(1) } else { self.readers };
        self.readers_per_uid_max.unwrap_or(default)
    }

    /// Checks the options, and returns the geometry of the pool.
    pub(super) fn geometry(&self) -> Result<Geometry> {
        let invalid = |option: &str, detail: String| {
            Err(Error::new(ErrorKind::InvalidOption, Operation::SetOption, option, detail))
        };
        if !(1..=BLOCK_LEN_MAX).contains(&(self.block_len as u64)) {
            return invalid("frame_len_max", format!("it is {}; it must be from 1 to {BLOCK_LEN_MAX}", self.block_len));
        }
        if self.readers == 0 || self.share == 0 || self.own_blocks == 0 {
            return invalid("readers, share and own_blocks", "none may be 0".to_owned());
        }
        let blocks = self.readers.saturating_mul(self.share).saturating_add(self.own_blocks);
        match Geometry::new(blocks as u64, self.block_len as u64) {
            Some(geometry) => Ok(geometry),
            None => invalid(
                "readers, share and own_blocks",
                format!("{blocks} blocks are needed; the maximum is {BLOCKS_MAX}"),
            ),
        }
    }
}

/// The treatment of a reader that holds its share of blocks already, when the next frame is sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtShare {
    /// The message has a copy of the bytes of the frame. Nobody waits, and the reader sees no difference. Longer frames
    /// than [`by_value_max`](FramePoolOptions::by_value_max) are refused.
    ByValue,
    /// The call waits until the reader returns a block. A reader that never does so makes the publisher wait for ever:
    /// use [`FramePool::send_timeout`](super::FramePool::send_timeout) then.
    Wait,
    /// The call fails with [`ErrorKind::Busy`]. The caller may skip this frame for this reader.
    Refuse,
}

/// The limits of a [`FrameReader`](super::FrameReader): the memory of publishers that it maps.
///
/// The memory is charged to the publisher. A mapping costs the reader address space and page tables, about 2 KiB for
/// each MiB.
#[derive(Clone, Debug)]
pub struct FrameLimits {
    pub(super) frame_max: u64,
    pub(super) bytes_max: u64,
    pub(super) pools_max: u32,
}

impl FrameLimits {
    /// Returns the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self { frame_max: 256 << 20, bytes_max: 4 << 30, pools_max: 1 }
    }

    /// Sets the longest frame in bytes that this reader accepts. The default is 256 MiB. A pool of longer blocks is not
    /// mapped, and its frames come by value.
    #[must_use]
    pub fn frame_max(mut self, bytes: u64) -> Self {
        self.frame_max = bytes;
        self
    }

    /// Sets the maximum size in bytes of the memory that this reader maps. The default is 4 GiB. The frames of a larger
    /// pool come by value.
    #[must_use]
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = bytes;
        self
    }
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self::new()
    }
}
