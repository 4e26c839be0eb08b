//! Making a system call again that a signal interrupted, or for which the kernel had no memory.
//!
//! A lack of memory in the kernel usually passes: other processes free memory, and the kernel writes pages back. No
//! descriptor reports its end, so nobody can sleep until then.

use std::io;

use rustix::io::Errno;

/// The maximum number of times that a call is made again because of a lack of memory. The processor is yielded each
/// time.
const SHORTAGES_MAX: u32 = 1000;

/// The retries of one system call that does not wait.
#[derive(Default)]
pub(crate) struct Retry {
    shortages: u32,
}

impl Retry {
    /// Returns true if the call is to be made again at once. Yields the processor first, if the kernel had no memory.
    #[cold]
    pub(crate) fn is_due(&mut self, errno: Errno) -> bool {
        match errno {
            Errno::INTR => true,
            errno if is_shortage(errno) && self.shortages < SHORTAGES_MAX => {
                self.shortages += 1;
                std::thread::yield_now();
                true
            }
            _ => false,
        }
    }

    /// Returns true as [`is_due`](Self::is_due) does.
    pub(crate) fn is_due_after(&mut self, error: &io::Error) -> bool {
        match error.kind() {
            // The usual error.
            io::ErrorKind::WouldBlock => false,
            io::ErrorKind::Interrupted => true,
            _ => Errno::from_io_error(error).is_some_and(|errno| self.is_due(errno)),
        }
    }
}

/// Makes a system call that does not wait, until a retry is not due.
#[inline]
pub(crate) fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    let mut retry = Retry::default();
    loop {
        match call() {
            Err(errno) if retry.is_due(errno) => {}
            result => return result,
        }
    }
}

/// Makes a call as [`retry`] does.
pub(crate) fn retry_io<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut retry = Retry::default();
    loop {
        match call() {
            Err(error) if retry.is_due_after(&error) => {}
            result => return result,
        }
    }
}

/// Returns true if the kernel had no memory for a call.
pub(crate) fn is_shortage(errno: Errno) -> bool {
    matches!(errno, Errno::NOMEM | Errno::NOBUFS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_that_lasts_is_an_error_in_the_end() {
        let mut calls = 0;
        let failed = retry(|| {
            calls += 1;
            Err::<(), _>(Errno::NOBUFS)
        });
        assert_eq!((failed, calls), (Err(Errno::NOBUFS), 1 + SHORTAGES_MAX));
    }

    #[test]
    fn a_call_is_made_again_after_a_signal_and_after_a_shortage() {
        let mut errors = [Errno::INTR, Errno::NOMEM, Errno::NOBUFS, Errno::INTR].into_iter();
        assert_eq!(retry(|| errors.next().map_or(Ok(1), Err)), Ok(1));
        assert_eq!(retry(|| Err::<(), _>(Errno::AGAIN)), Err(Errno::AGAIN));
    }
}
