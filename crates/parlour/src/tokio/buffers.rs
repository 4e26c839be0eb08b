//! The buffer pool that the connections of one thread share.

use std::cell::Cell;

use crate::backend::halves::BufferPool;

thread_local! {
    /// A connection is polled by one thread at a time, and needs buffers only then. Therefore no lock is needed, and
    /// the number of buffers depends on the number of threads and not on the number of connections.
    static POOL: Cell<BufferPool> = Cell::default();
}

/// Calls `work` with the buffer pool of this thread. While the thread ends, the pool is empty.
pub(super) fn with<T>(work: impl FnOnce(&mut BufferPool) -> T) -> T {
    let mut pool = POOL.try_with(Cell::take).unwrap_or_default();
    let done = work(&mut pool);
    // While the thread ends, the buffers are freed.
    let _ = POOL.try_with(|cell| cell.set(pool));
    done
}
