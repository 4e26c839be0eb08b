//! The requests for the counters and for the messages of a server, at its socket `control`: for a process to which
//! `/proc` does not lead.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::event::PollFlags;

use super::control::{self, Received};
use crate::sys::fork::ParentOnly;
use crate::wait::{Deadline, wait_for};
use crate::wire::control::Frame;

/// The memory that a process asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// The counters.
    Counters,
    /// The counters, the page of requests to tap the server, and the ring if there is one.
    Tap,
}

/// The answer of a server.
pub(crate) enum Answer {
    /// At least one descriptor, which the server says is what was asked for.
    Given(Vec<ParentOnly>),
    /// The server has no such socket, refuses this process, or has ended.
    Nothing,
    /// The server did not answer before the deadline: no thread of it waits for clients or messages.
    Late,
}

/// A request that was sent.
pub(crate) struct Asked {
    socket: ParentOnly,
    asks: Asks,
}

impl Asked {
    /// Sends a request to the server that holds a name. Returns the answer if there is no need to wait for it.
    pub(crate) fn begin(
        directory: impl AsFd,
        path: &Path,
        asks: Asks,
        deadline: Deadline,
    ) -> io::Result<Result<Self, Answer>> {
        let Some(socket) = control::reach(directory, path, deadline)? else { return Ok(Err(Answer::Nothing)) };
        let Some(socket) = socket else { return Ok(Err(Answer::Late)) };
        let frame = match asks {
            Asks::Counters => Frame::AskCounters,
            Asks::Tap => Frame::AskTap,
        };
        // A server that refuses this process may have closed the socket. Its answer can be received nevertheless.
        let _ = control::send(&socket, &frame, &[]);
        Ok(Ok(Self { socket, asks }))
    }

    /// Returns the answer, or `None` if it has not come yet.
    pub(crate) fn answer(&self) -> io::Result<Option<Answer>> {
        let (received, descriptors) = ParentOnly::receive(|| control::receive(&self.socket))?;
        Ok(Some(match (self.asks, received) {
            (_, Received::Nothing) => return Ok(None),
            (Asks::Counters, Received::Frame(Ok(Frame::Counters))) if descriptors.len() == 1 => {
                Answer::Given(descriptors)
            }
            (Asks::Tap, Received::Frame(Ok(Frame::Tap))) if matches!(descriptors.len(), 2 | 3) => {
                Answer::Given(descriptors)
            }
            (_, Received::Truncated) => return Err(rustix::io::Errno::MFILE.into()),
            (_, Received::Frame(_) | Received::End) => Answer::Nothing,
        }))
    }
}

/// Asks the server that holds a name, and waits for the answer.
pub(crate) fn ask(directory: impl AsFd, path: &Path, asks: Asks, deadline: Deadline) -> io::Result<Answer> {
    let asked = match Asked::begin(directory, path, asks, deadline)? {
        Ok(asked) => asked,
        Err(answer) => return Ok(answer),
    };
    loop {
        if let Some(answer) = asked.answer()? {
            return Ok(answer);
        }
        if !wait_for(asked.socket.as_fd(), PollFlags::IN, deadline)? {
            return Ok(Answer::Late);
        }
    }
}
