//! The options and the counts of a caller.

use super::exchange::{Exchange, Limits};

/// The default limit on what is kept for the caller and not taken yet, for each call and for pushed messages: several
/// times what a burst is, and little enough that many callers do no harm.
const BUFFER_MAX_DEFAULT: usize = 1024 * 1024;

/// Options of a [`Caller`](crate::Caller). Every setter documents its default and its unit.
///
/// ```no_run
/// use parlour::Connection;
/// use parlour::calls::CallerOptions;
///
/// let caller = CallerOptions::new().push_buffer_max(64 * 1024).caller(Connection::connect("notes")?)?;
/// # Ok::<(), parlour::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CallerOptions {
    stream_buffer_max: usize,
    push_buffer_max: usize,
}

impl Default for CallerOptions {
    fn default() -> Self {
        Self { stream_buffer_max: BUFFER_MAX_DEFAULT, push_buffer_max: BUFFER_MAX_DEFAULT }
    }
}

impl CallerOptions {
    /// Returns the default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the maximum number of bytes of items that are kept for one call and not taken yet. Each item counts 64
    /// bytes more than its length, and the first one is always kept. Default: 1 MiB.
    ///
    /// Items arrive while any thread waits for a message of the connection. If more arrive than are kept, the call
    /// ends with [`Busy`](crate::ErrorKind::Busy) after the items that are kept, and the server is told. A caller that
    /// only takes the items of one call never exceeds the limit, because it receives an item when it takes one.
    #[must_use]
    pub fn stream_buffer_max(mut self, bytes: usize) -> Self {
        self.stream_buffer_max = bytes;
        self
    }

    /// Sets the maximum number of bytes of pushed messages that are kept and not taken yet. Each message counts 64
    /// bytes more than its length, and the newest one is always kept. The oldest ones are dropped and counted
    /// ([`CallerStats::pushes_dropped`]). Default: 1 MiB.
    #[must_use]
    pub fn push_buffer_max(mut self, bytes: usize) -> Self {
        self.push_buffer_max = bytes;
        self
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits { items: self.stream_buffer_max, pushes: self.push_buffer_max }
    }
}

/// The counts of a caller since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallerStats {
    /// Calls that are open now.
    pub open: usize,
    /// Messages that answered no open call, and were dropped: the call had timed out, or was dropped. A server that has
    /// been told so sends no answer, so this counts answers that were on their way by then.
    pub late_answers: u64,
    /// Pushed messages that were dropped because nobody took them
    /// ([`push_buffer_max`](CallerOptions::push_buffer_max)).
    pub pushes_dropped: u64,
}

impl CallerStats {
    pub(crate) fn of(exchange: &Exchange) -> Self {
        let counts = exchange.counts();
        Self { open: exchange.open(), late_answers: counts.late, pushes_dropped: counts.pushes_dropped }
    }
}
