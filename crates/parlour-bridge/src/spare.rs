//! Buffers that are not in use. A conversation that waits for both sides has no buffer, so one is taken and given back
//! for each message of a slow one. A new one each time would have to be zeroed.

use std::cell::RefCell;

/// The length of a buffer, in bytes. A longer one makes no difference to throughput, and a message needs no more: it
/// flows through.
pub const BUFFER_LEN: usize = 64 * 1024;

/// The number of buffers that a thread keeps: those of two conversations at work.
const SPARE_MAX: usize = 8;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Returns a buffer of [`BUFFER_LEN`] bytes. They may be those of anybody: only what was read into it may be used.
pub(crate) fn take() -> Vec<u8> {
    let spare = SPARE.try_with(|spare| spare.try_borrow_mut().ok().and_then(|mut spare| spare.pop()));
    spare.ok().flatten().unwrap_or_else(|| vec![0; BUFFER_LEN])
}

/// Gives a buffer back. An empty one is none.
pub(crate) fn give(buffer: Vec<u8>) {
    if buffer.len() != BUFFER_LEN {
        return;
    }
    // Without the storage of the thread, which ends, the buffer is freed.
    let _ = SPARE.try_with(|spare| {
        if let Ok(mut spare) = spare.try_borrow_mut()
            && spare.len() < SPARE_MAX
        {
            spare.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_a_few_buffers() {
        std::thread::spawn(|| {
            let mut first = take();
            first[0] = 1;
            give(first);
            assert_eq!(take()[0], 1, "it is the same one");
            (0..2 * SPARE_MAX).for_each(|_| give(vec![0; BUFFER_LEN]));
            give(Vec::new());
            assert_eq!(SPARE.with_borrow(Vec::len), SPARE_MAX);
        })
        .join()
        .unwrap();
    }
}
