//! Parking a thread, and the waker that unparks it.

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};

use crate::wait::Deadline;

/// Wakes a parked thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Parks this thread until it is unparked, or until the deadline. May return earlier.
pub(super) fn park_until(deadline: Deadline) {
    match deadline.left() {
        Some(left) => thread::park_timeout(left),
        None => thread::park(),
    }
}

/// Returns the waker that unparks this thread. It is made once for each thread.
pub(super) fn waker_of_this_thread() -> Waker {
    thread_local! {
        static WAKER: Waker = new_waker();
    }
    fn new_waker() -> Waker {
        Waker::from(Arc::new(Unpark(thread::current())))
    }
    // A thread that ends may have dropped its own already.
    WAKER.try_with(Waker::clone).unwrap_or_else(|_| new_waker())
}
