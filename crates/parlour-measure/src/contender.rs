//! The interface of everything that can be measured.

use std::path::Path;

use anyhow::Result;

use crate::client::Client;
use crate::drive;
use crate::outcome::{Outcome, Turn};
use crate::work::Work;

/// A means of exchanging messages between two processes.
///
/// The server and the client run in two processes of the same executable. `place` is an empty directory with a short
/// path, created for these two processes alone.
pub trait Contender: Sync {
    /// Returns the name in tables and on the command line: lower case, with hyphens.
    fn name(&self) -> &str;

    /// Returns the version of the software that is measured.
    fn version(&self) -> String;

    /// Describes how the contender is configured for speed, and where its documentation advises that.
    fn advice(&self) -> &str;

    /// Returns true if the contender can do this work. Other work is left out for this contender.
    fn supports(&self, work: Work) -> bool;

    /// Runs the server, in a process of its own. Calls [`Ready::tell`] when clients can connect, and serves for as long
    /// as there may be clients. The process is ended from outside.
    ///
    /// # Errors
    ///
    /// Returns an error if the server cannot serve. A client that disconnects is not an error.
    fn serve(&self, place: &Path, work: Work, ready: Ready) -> Result<()>;

    /// Opens one connection to the server.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection cannot be opened.
    fn connect(&self, place: &Path, work: Work) -> Result<Box<dyn Client>>;

    /// Runs the client's side of a turn. Only a contender whose client cannot be called message by message, such as one
    /// in another language, implements this: it warms up, calls `start`, measures, and returns its measurements.
    ///
    /// # Errors
    ///
    /// Returns an error if the turn cannot be completed.
    fn drive(&self, place: &Path, turn: Turn, start: &mut dyn FnMut() -> Result<()>) -> Result<Outcome> {
        drive::turn(|| self.connect(place, turn.work), turn, start)
    }

    /// Removes files that the contender left outside of `place`. The process that started the server and the client
    /// calls this when both have ended. Only a contender that must create files elsewhere implements this: a server is
    /// killed and cannot clean up.
    fn clean_up(&self, _place: &Path) {}
}

/// The means by which a server reports that clients can connect.
#[derive(Debug)]
pub struct Ready(pub(crate) ());

impl Ready {
    /// Reports readiness, once, by the line `ready` on stdout. A server in another language prints that line itself.
    pub fn tell(self) {
        println!("ready");
    }
}
