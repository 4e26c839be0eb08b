//! A bounded cache of buffers.

/// A cache of at most `MAX` idle buffers.
///
/// A blocking connection keeps the buffers that it has allocated. Connections of a hub or a tokio runtime borrow a
/// buffer only while bytes are buffered. The memory in use then depends on the number of connections that have
/// buffered bytes.
#[derive(Debug)]
#[allow(clippy::vec_box, reason = "a `Box` moves between pool and connection without copying the buffer")]
pub(crate) struct Pool<T, const MAX: usize> {
    idle: Vec<Box<T>>,
}

impl<T, const MAX: usize> Default for Pool<T, MAX> {
    fn default() -> Self {
        Self { idle: Vec::new() }
    }
}

impl<T, const MAX: usize> Pool<T, MAX> {
    /// Returns an idle buffer, or `None`; the caller then allocates one.
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
    pub(super) fn idle_len(&self) -> usize {
        self.idle.len()
    }
}
