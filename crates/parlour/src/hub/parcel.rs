//! A message that waits in a hub, with what is attached to it.

use crate::payload::Payload;
use crate::shared_bytes::SharedBytes;

/// A message that waits. It owns its bytes, and shares its blocks with the caller.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    pub(super) bytes: Vec<u8>,
    pub(super) blocks: Vec<SharedBytes>,
}

impl Parcel {
    pub(super) fn new(payload: &Payload<'_>) -> Self {
        Self { bytes: payload.to_vec(), blocks: payload.blocks().iter().map(|block| (*block).clone()).collect() }
    }

    /// Calls `work` with the message.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Payload<'_>) -> T) -> T {
        let payload = Payload::new(&self.bytes);
        if self.blocks.is_empty() {
            return work(&payload);
        }
        let blocks: Vec<&SharedBytes> = self.blocks.iter().collect();
        work(&payload.shared(&blocks))
    }
}
