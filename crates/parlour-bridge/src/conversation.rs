//! A conversation at one bridge, after the exporter has accepted it, without I/O.
//!
//! A conversation joins a *local* side, which is the socket of a client or a server on this host, and a *remote* side,
//! which is the connection to the other bridge. Both bridges have the same state. The two directions end one by one:
//!
//! | on one side | on the other side |
//! |---|---|
//! | end of file of a local side | the remote side gets `close_notify` |
//! | the local side was reset | the remote side ends without `close_notify` |
//! | `close_notify` | the local side gets an end of file |
//! | the remote side ends without it, or its link is lost | the local side is aborted |
//! | a side does not take one direction any more | nothing: the other direction goes on |
//!
//! **Promise.** Each side receives a prefix of what the other sent, whole, in order, at most once. It receives a clean
//! end only if the other side has ended that direction and everything has arrived, and otherwise an error.
//!
//! To abort, the bridge passes on what has arrived, and then closes the local socket within a message. If the bytes so
//! far are whole messages, it first writes one byte `00`, a quarter of a length. A receiver then finds a truncated
//! message instead of a clean end, in every language.
//!
//! The driver reads into [`local_space`](Conversation::local_space) and [`remote_space`](Conversation::remote_space),
//! and carries out [`local_step`](Conversation::local_step) and [`remote_step`](Conversation::remote_step), until
//! [`status`](Conversation::status) says that the conversation is over.

use std::time::Duration;

use crate::boundary::{Boundary, Passed};
use crate::flow::{Flow, Sink, Source};

/// The time for which a conversation lingers at most.
pub const LINGER_MAX: Duration = Duration::from_secs(5);

/// The next step on one side.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Nothing can be done now.
    Wait,
    /// Writes some of these bytes.
    Write(&'a [u8]),
    /// Ends this direction cleanly: sends `close_notify`, or shuts the local socket down for writing.
    End,
    /// Ends the connection to the other bridge for writing, without `close_notify`.
    Cut,
    /// Closes the local socket.
    Close,
}

/// The state of a conversation as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It goes on.
    Open,
    /// Nothing is left to be passed on, but the other bridge may not have got everything. The driver reads and discards
    /// until the remote side has ended, has acknowledged everything, or [`LINGER_MAX`] has passed, and then calls
    /// [`Conversation::lingered`]. An earlier close would destroy what is on its way, because the kernel answers data
    /// that nobody reads with a reset.
    Lingering,
    /// The driver closes both sides.
    Over,
}

/// A conversation.
#[derive(Debug)]
pub struct Conversation {
    to_remote: Flow,
    to_local: Flow,
    /// The position in what was written to the local side.
    boundary: Boundary,
    /// The position in what was written to the remote side. It only counts.
    sent: Boundary,
    has_lingered: bool,
}

impl Default for Conversation {
    fn default() -> Self {
        Self::new()
    }
}

impl Conversation {
    /// Begins a conversation.
    #[must_use]
    pub fn new() -> Self {
        Self {
            to_remote: Flow::new(),
            to_local: Flow::new(),
            boundary: Boundary::default(),
            sent: Boundary::default(),
            has_lingered: false,
        }
    }

    /// Returns the space for bytes of the local side, or `None` if it is not to be read now.
    pub fn local_space(&mut self) -> Option<&mut [u8]> {
        match self.to_remote.sink {
            Sink::Open => self.to_remote.space(),
            Sink::Ended | Sink::Cut | Sink::Untaken => None,
        }
    }

    /// This many bytes of the local side were read into its space.
    pub fn local_filled(&mut self, count: usize) {
        self.to_remote.filled(count);
    }

    /// The local side has ended its direction.
    pub fn local_ended(&mut self) {
        self.to_remote.end(Source::Ended);
    }

    /// The local side was reset: it has closed its socket without having read everything.
    pub fn local_broke(&mut self) {
        self.to_remote.end(Source::Broken);
        self.to_local.refuse();
    }

    /// The local side does not take anything any more. Bytes that it has sent may still have to be read.
    pub fn local_refused(&mut self) {
        self.to_local.refuse();
    }

    /// Returns the next step on the local side.
    pub fn local_step(&mut self) -> Step<'_> {
        if self.to_local.sink != Sink::Open {
            return Step::Wait;
        }
        let is_empty = self.to_local.pending().is_empty();
        if is_empty && self.to_local.source == Source::Broken && self.boundary.is_between_messages() {
            self.to_local.append(&[0]);
        }
        match (self.to_local.pending(), self.to_local.source) {
            ([], Source::Open) => Step::Wait,
            ([], Source::Ended) => Step::End,
            ([], Source::Broken) => Step::Close,
            (pending, _) => Step::Write(pending),
        }
    }

    /// This many bytes of a [`Step::Write`] were written to the local side.
    pub fn local_written(&mut self, count: usize) {
        let pending = self.to_local.pending();
        self.boundary.advance(pending.get(..count).unwrap_or(pending));
        self.to_local.written(count);
    }

    /// The [`Step::End`] or [`Step::Close`] of the local side was carried out.
    pub fn local_done(&mut self) {
        done(&mut self.to_local);
    }

    /// Returns the space for bytes of the remote side, or `None` if it is not to be read now.
    pub fn remote_space(&mut self) -> Option<&mut [u8]> {
        self.to_local.space()
    }

    /// Returns true if the bytes of the remote side are not kept: the local side does not take them any more.
    #[must_use]
    pub fn discards_remote(&self) -> bool {
        self.to_local.sink != Sink::Open
    }

    /// This many bytes of the remote side were read into its space.
    pub fn remote_filled(&mut self, count: usize) {
        self.to_local.filled(count);
    }

    /// `close_notify` has arrived.
    pub fn remote_ended(&mut self) {
        self.to_local.end(Source::Ended);
    }

    /// The remote side has ended without `close_notify`, or has failed, or its link is lost.
    pub fn remote_broke(&mut self) {
        self.to_local.end(Source::Broken);
        self.to_remote.refuse();
    }

    /// Writing to the remote side has failed. Bytes that it has sent may still have to be read.
    pub fn remote_refused(&mut self) {
        self.to_remote.refuse();
    }

    /// Returns the next step on the remote side.
    pub fn remote_step(&self) -> Step<'_> {
        if self.to_remote.sink != Sink::Open {
            return Step::Wait;
        }
        match (self.to_remote.pending(), self.to_remote.source) {
            ([], Source::Open) => Step::Wait,
            ([], Source::Ended) => Step::End,
            ([], Source::Broken) => Step::Cut,
            (pending, _) => Step::Write(pending),
        }
    }

    /// This many bytes of a [`Step::Write`] were written to the remote side.
    pub fn remote_written(&mut self, count: usize) {
        let pending = self.to_remote.pending();
        self.sent.advance(pending.get(..count).unwrap_or(pending));
        self.to_remote.written(count);
    }

    /// The [`Step::End`] or [`Step::Cut`] of the remote side was carried out.
    pub fn remote_done(&mut self) {
        done(&mut self.to_remote);
    }

    /// Returns what was written to the local side, and to the remote one, since the last call.
    pub fn take_passed(&mut self) -> (Passed, Passed) {
        (self.boundary.take_passed(), self.sent.take_passed())
    }

    /// The conversation has lingered for long enough.
    pub fn lingered(&mut self) {
        self.has_lingered = true;
    }

    /// Returns the state of the conversation.
    #[must_use]
    pub fn status(&self) -> Status {
        match (self.to_remote.sink, self.to_local.sink) {
            // The local socket is closed.
            (_, Sink::Cut) => Status::Over,
            (Sink::Open, _) | (_, Sink::Open) => Status::Open,
            (Sink::Untaken, _) | (Sink::Ended | Sink::Cut, Sink::Ended) => Status::Over,
            (Sink::Ended | Sink::Cut, Sink::Untaken) => {
                if self.to_local.source == Source::Open && !self.has_lingered {
                    Status::Lingering
                } else {
                    Status::Over
                }
            }
        }
    }

    /// Frees the buffers that are empty. A conversation that waits for both sides has none.
    pub fn release_buffers(&mut self) {
        self.to_remote.release();
        self.to_local.release();
    }
}

/// The end of a direction was passed on, if everything else was.
fn done(flow: &mut Flow) {
    if flow.sink == Sink::Open && flow.pending().is_empty() {
        match flow.source {
            Source::Open => {}
            Source::Ended => flow.sink = Sink::Ended,
            Source::Broken => flow.sink = Sink::Cut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `hello`, as a message.
    const HELLO: &[u8] = b"\0\0\0\x05hello";

    fn remote_sends(conversation: &mut Conversation, bytes: &[u8]) {
        conversation.remote_space().unwrap()[..bytes.len()].copy_from_slice(bytes);
        conversation.remote_filled(bytes.len());
    }

    fn local_sends(conversation: &mut Conversation, bytes: &[u8]) {
        conversation.local_space().unwrap()[..bytes.len()].copy_from_slice(bytes);
        conversation.local_filled(bytes.len());
    }

    /// Carries out all steps of the local side. Returns what it has got, and the last step.
    fn run_local(conversation: &mut Conversation) -> (Vec<u8>, &'static str) {
        let mut got = Vec::new();
        loop {
            let count = match conversation.local_step() {
                Step::Write(bytes) => {
                    got.push(bytes[0]);
                    1
                }
                Step::End => {
                    conversation.local_done();
                    return (got, "end");
                }
                Step::Close => {
                    conversation.local_done();
                    return (got, "close");
                }
                Step::Wait => return (got, "wait"),
                Step::Cut => panic!("cut"),
            };
            conversation.local_written(count);
        }
    }

    #[test]
    fn each_direction_ends_by_itself() {
        let mut conversation = Conversation::new();
        local_sends(&mut conversation, HELLO);
        conversation.local_ended();
        assert_eq!(conversation.remote_step(), Step::Write(HELLO));
        conversation.remote_written(HELLO.len());
        assert_eq!(conversation.remote_step(), Step::End);
        conversation.remote_done();
        assert_eq!((conversation.remote_step(), conversation.status()), (Step::Wait, Status::Open));
        remote_sends(&mut conversation, HELLO);
        conversation.remote_ended();
        assert_eq!(run_local(&mut conversation), (HELLO.to_vec(), "end"));
        assert_eq!(conversation.status(), Status::Over);
        let hello = Passed { messages: 1, bytes: 5 };
        assert_eq!(conversation.take_passed(), (hello, hello));
    }

    #[test]
    fn a_lost_remote_side_aborts_the_local_one_after_all_that_has_arrived() {
        let mut conversation = Conversation::new();
        remote_sends(&mut conversation, HELLO);
        conversation.remote_broke();
        assert_eq!(run_local(&mut conversation), ([HELLO, b"\0"].concat(), "close"));
        assert_eq!(conversation.status(), Status::Over);
    }

    #[test]
    fn within_a_message_an_abort_needs_no_further_byte() {
        for len in 1..HELLO.len() {
            let mut conversation = Conversation::new();
            remote_sends(&mut conversation, &HELLO[..len]);
            conversation.remote_broke();
            assert_eq!(run_local(&mut conversation), (HELLO[..len].to_vec(), "close"));
        }
    }

    #[test]
    fn a_conversation_that_is_lost_before_its_first_byte_is_aborted() {
        let mut conversation = Conversation::new();
        conversation.remote_broke();
        assert_eq!(conversation.local_space(), None);
        assert_eq!(conversation.remote_step(), Step::Wait);
        assert_eq!(run_local(&mut conversation), (b"\0".to_vec(), "close"));
        assert_eq!(conversation.status(), Status::Over);
    }

    #[test]
    fn a_loss_after_the_clean_end_changes_nothing_about_it() {
        let mut conversation = Conversation::new();
        remote_sends(&mut conversation, HELLO);
        conversation.remote_ended();
        conversation.remote_broke();
        assert_eq!(run_local(&mut conversation), (HELLO.to_vec(), "end"));
        assert_eq!(conversation.status(), Status::Over);
    }

    #[test]
    fn a_reset_is_passed_on_without_a_clean_end_and_after_all_that_was_sent() {
        let mut conversation = Conversation::new();
        local_sends(&mut conversation, HELLO);
        conversation.local_broke();
        assert_eq!(conversation.remote_step(), Step::Write(HELLO));
        conversation.remote_written(HELLO.len());
        assert_eq!(conversation.remote_step(), Step::Cut);
        conversation.remote_done();
        assert_eq!(conversation.status(), Status::Lingering);
        // Bytes that still arrive are read and discarded.
        remote_sends(&mut conversation, HELLO);
        assert_eq!(run_local(&mut conversation), (vec![], "wait"));
        conversation.remote_broke();
        assert_eq!(conversation.status(), Status::Over);
    }

    #[test]
    fn a_direction_that_nobody_takes_does_not_end_the_other_one() {
        let mut conversation = Conversation::new();
        remote_sends(&mut conversation, HELLO);
        conversation.local_refused();
        for _ in 0..3 {
            // However much it is.
            let len = conversation.remote_space().unwrap().len();
            conversation.remote_filled(len);
            local_sends(&mut conversation, HELLO);
            assert_eq!(conversation.remote_step(), Step::Write(HELLO));
            conversation.remote_written(HELLO.len());
        }
        conversation.local_ended();
        assert_eq!(conversation.remote_step(), Step::End);
        conversation.remote_done();
        assert_eq!(conversation.status(), Status::Lingering);
        conversation.lingered();
        assert_eq!(conversation.status(), Status::Over);
    }

    #[test]
    fn a_remote_side_that_takes_nothing_is_still_read() {
        let mut conversation = Conversation::new();
        local_sends(&mut conversation, HELLO);
        conversation.remote_refused();
        assert_eq!(conversation.remote_step(), Step::Wait);
        assert_eq!(conversation.local_space(), None);
        remote_sends(&mut conversation, HELLO);
        conversation.remote_broke();
        assert_eq!(run_local(&mut conversation), ([HELLO, b"\0"].concat(), "close"));
    }

    #[test]
    fn a_full_buffer_stops_reading_until_something_is_written() {
        let mut conversation = Conversation::new();
        while let Some(len) = conversation.remote_space().map(|space| space.len()) {
            conversation.remote_filled(len);
        }
        let Step::Write(bytes) = conversation.local_step() else { panic!("nothing to write") };
        assert_eq!(bytes.len(), crate::spare::BUFFER_LEN);
        conversation.local_written(1);
        assert!(conversation.remote_space().is_some());
    }
}
