//! The memory of received messages that a thread uses again.
//!
//! The system maps and zeroes new memory for each long message, which costs more than to receive it.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

/// The length of the longest message whose memory a thread keeps.
const LEN_MAX: usize = 1 << 20;

thread_local! {
    static SPARE: Cell<Option<parlour::Message>> = const { Cell::new(None) };
}

/// A message to receive into. Its memory goes back to the thread.
///
/// A message that is longer than the limit gives its memory up, so what a thread keeps has held none of these.
pub(crate) struct Spare(parlour::Message);

impl Spare {
    /// Takes the memory of this thread, with the bytes of an earlier message in it.
    pub(crate) fn take() -> Self {
        // A signal handler may receive while the thread is in a call that has the memory.
        Self(SPARE.take().unwrap_or_default())
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let mut message = std::mem::take(&mut self.0);
        drop(message.take_fds());
        if message.len() <= LEN_MAX {
            // At the end of a thread there is no place for it.
            let _ = SPARE.try_with(|spare| spare.set(Some(message)));
        }
    }
}

impl Deref for Spare {
    type Target = parlour::Message;

    fn deref(&self) -> &parlour::Message {
        &self.0
    }
}

impl DerefMut for Spare {
    fn deref_mut(&mut self) -> &mut parlour::Message {
        &mut self.0
    }
}
