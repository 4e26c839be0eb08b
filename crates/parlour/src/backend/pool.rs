//! A bounded pool of buffers.

/// A pool of at most `MAX` buffers that no connection uses at present.
///
/// A blocking connection keeps the buffers that it has allocated. A connection that is one of thousands is idle most of
/// the time. Its owner acquires a buffer for it while there is something to do, and releases the buffer when no bytes
/// wait in it. The memory in use then depends on how many connections are in the middle of a message.
#[derive(Debug)]
#[allow(clippy::vec_box, reason = "a connection without a buffer is small, and boxes move as they are")]
pub(crate) struct Pool<T, const MAX: usize> {
    idle: Vec<Box<T>>,
}

impl<T, const MAX: usize> Default for Pool<T, MAX> {
    fn default() -> Self {
        Self { idle: Vec::new() }
    }
}

impl<T, const MAX: usize> Pool<T, MAX> {
    /// Takes a buffer out of the pool, if one is idle.
    pub(super) fn acquire(&mut self) -> Option<Box<T>> {
        self.idle.pop()
    }

    /// Puts a buffer back into the pool. Drops it if the pool is full.
    pub(super) fn release(&mut self, buffer: Box<T>) {
        if self.idle.len() < MAX {
            self.idle.push(buffer);
        }
    }

    /// Returns the number of idle buffers.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.idle.len()
    }
}
