//! One `poll(2)` over all descriptors of a pump.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// The role of a descriptor in the pump.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose {
    Stop,
    Program,
    Recv,
    Send,
    Source,
    Sink,
}

/// The result of `poll`.
#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) stop: bool,
    pub(super) program_gone: bool,
    pub(super) recv: bool,
    pub(super) send: bool,
    /// The peer no longer reads.
    pub(super) peer_gone: bool,
    pub(super) source: bool,
    pub(super) sink: bool,
    /// The reader of the sink has closed it.
    pub(super) sink_broken: bool,
}

/// The descriptors of one turn. There are at most six, and the selection changes from turn to turn.
#[derive(Default)]
pub(super) struct Watched<'a> {
    fds: Vec<PollFd<'a>>,
    whose: Vec<Whose>,
}

impl<'a> Watched<'a> {
    /// Watches a descriptor. Errors and hang-ups are reported in addition to the flags.
    pub(super) fn add(&mut self, whose: Whose, fd: BorrowedFd<'a>, flags: PollFlags) {
        self.fds.push(PollFd::from_borrowed_fd(fd, flags));
        self.whose.push(whose);
    }

    /// Waits until one of the descriptors is ready or the timeout has expired. A signal is a spurious wake-up.
    pub(super) fn poll(mut self, timeout: Option<Duration>) -> rustix::io::Result<Ready> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut self.fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(error),
        }
        let mut ready = Ready::default();
        for (fd, whose) in self.fds.iter().zip(&self.whose) {
            let found = fd.revents();
            let any = !found.is_empty();
            let broken = found.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
            match whose {
                Whose::Stop => ready.stop = any,
                Whose::Program => ready.program_gone = any,
                Whose::Recv => ready.recv = any,
                Whose::Send => {
                    ready.send = any;
                    ready.peer_gone = broken;
                }
                Whose::Source => ready.source = any,
                Whose::Sink => {
                    ready.sink = any;
                    ready.sink_broken = broken;
                }
            }
        }
        Ok(ready)
    }
}
