//! The buffers that the connections of one thread take turns with.

use std::cell::Cell;

use crate::backend::Spares;

thread_local! {
    /// A connection is polled by one thread at a time and needs them only then: so there is no lock, and there are as many
    /// buffers as there are threads, however many connections.
    static SPARES: Cell<Spares> = Cell::default();
}

/// Lends the buffers of this thread. (While the thread ends there are none to spare.)
pub(super) fn with<T>(work: impl FnOnce(&mut Spares) -> T) -> T {
    let mut spares = SPARES.try_with(Cell::take).unwrap_or_default();
    let done = work(&mut spares);
    // What cannot be kept is freed.
    let _ = SPARES.try_with(|cell| cell.set(spares));
    done
}
