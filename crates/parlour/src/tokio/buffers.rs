//! Buffers that the connections of one thread share.

use std::cell::Cell;

use crate::backend::halves::BufferPool;

thread_local! {
    /// A connection is polled by one thread at a time and needs them only then: so there is no lock, and there are as many
    /// buffers as there are threads, however many connections.
    static POOL: Cell<BufferPool> = Cell::default();
}

/// Runs `work` with the buffer pool of this thread. (An empty one while the thread ends.)
pub(super) fn with<T>(work: impl FnOnce(&mut BufferPool) -> T) -> T {
    let mut pool = POOL.try_with(Cell::take).unwrap_or_default();
    let done = work(&mut pool);
    // What cannot be kept is freed.
    let _ = POOL.try_with(|cell| cell.set(pool));
    done
}
