//! What is measured.

use std::path::Path;

use anyhow::Result;

use crate::client::Client;
use crate::drive;
use crate::outcome::{Outcome, Turn};
use crate::work::Work;

/// One way to get messages from one process to another and back.
///
/// Its two ends run in two processes of the same executable. `place` is an empty directory made for them alone, with a
/// short path.
pub trait Contender: Sync {
    /// What it is called in tables and on the command line: lower case, with hyphens.
    fn name(&self) -> &str;

    /// The version of what is measured.
    fn version(&self) -> String;

    /// How it is configured for speed, and where its documentation advises that.
    fn advice(&self) -> &str;

    /// Whether it can do this work. What it cannot is left out.
    fn supports(&self, work: Work) -> bool;

    /// The server's side, in a process of its own. Calls [`Ready::tell`] when clients can connect, and goes on for as
    /// long as there may be clients; the process is ended from outside.
    ///
    /// # Errors
    ///
    /// What went wrong. That a client has gone is no error.
    fn serve(&self, place: &Path, work: Work, ready: Ready) -> Result<()>;

    /// The client's side: one connection.
    ///
    /// # Errors
    ///
    /// What went wrong.
    fn connect(&self, place: &Path, work: Work) -> Result<Box<dyn Client>>;

    /// Does the client's side of a turn. Only a contender whose client cannot be called message by message, one in
    /// another language, does this by itself: it warms up, calls `start`, measures, and says what came out.
    ///
    /// # Errors
    ///
    /// What went wrong.
    fn drive(&self, place: &Path, turn: Turn, start: &mut dyn FnMut() -> Result<()>) -> Result<Outcome> {
        drive::turn(|| self.connect(place, turn.work), turn, start)
    }

    /// Removes what it has left outside of `place`, in the process that has started the two, when both have ended. Only
    /// a contender that has to put something elsewhere does anything here: a server is killed, and cannot clean up.
    fn clean_up(&self, _place: &Path) {}
}

/// With this a server says that it can be connected to.
#[derive(Debug)]
pub struct Ready(pub(crate) ());

impl Ready {
    /// Says so, once, by a line on stdout. A server in another language prints that line, `ready`, by itself.
    pub fn tell(self) {
        println!("ready");
    }
}
