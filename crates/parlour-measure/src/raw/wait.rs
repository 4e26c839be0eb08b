//! Waiting for a descriptor that is not ready.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// The number of yields before a call sleeps, as in parlour with default options.
const SPINS: u32 = 40;

/// A yield that took longer gave the processor to an unrelated thread. The next waits then do not yield: at first as
/// many as the minimum, and twice as many each time, up to the maximum. Without this rule, which is parlour's, the loop
/// would be slower than parlour on a busy machine.
const SLICE: Duration = Duration::from_micros(200);
const RESTS_MIN: u16 = 32;
const RESTS_MAX: u16 = 2048;

thread_local! {
    /// The number of waits that remain without yielding, and the number after the next long yield.
    static RESTS: Cell<(u16, u16)> = const { Cell::new((0, RESTS_MIN)) };
}

/// Repeats a call until it does not fail with `EAGAIN`. Between two calls it yields the processor and, after some
/// yields, sleeps until the descriptor is ready. A call on a blocking descriptor is made once, and waits in the kernel.
pub(super) fn retried<T>(
    fd: impl AsFd,
    events: PollFlags,
    mut call: impl FnMut() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    match call() {
        Err(Errno::AGAIN) => {}
        done => return done,
    }
    let (rests, next) = RESTS.get();
    let mut left = if rests == 0 { SPINS } else { 0 };
    RESTS.set((rests.saturating_sub(1), next));
    loop {
        if left > 0 {
            left -= 1;
            let begin = Instant::now();
            thread::yield_now();
            let (rests, next) = RESTS.get();
            if begin.elapsed() > SLICE {
                left = 0;
                RESTS.set((next, next.saturating_mul(2).min(RESTS_MAX)));
            } else if left == 0 {
                // All yields of the wait were short.
                RESTS.set((rests, (next / 2).max(RESTS_MIN)));
            }
        } else {
            poll(&mut [PollFd::new(&fd, events)], None)?;
        }
        match call() {
            Err(Errno::AGAIN) => {}
            done => return done,
        }
    }
}

/// Makes the calls on a descriptor spin before they sleep, if `spins` is set.
pub(super) fn prepare(fd: impl AsFd, spins: bool) -> rustix::io::Result<()> {
    if spins { rustix::io::ioctl_fionbio(fd, true) } else { Ok(()) }
}
