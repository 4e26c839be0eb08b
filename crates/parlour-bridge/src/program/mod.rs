//! The commands of the program, and their output.

pub(crate) mod demo;
pub(crate) mod man;
pub(crate) mod run;
mod signals;
pub(crate) mod status;

use std::fmt::Display;
use std::io::{ErrorKind, Write};

pub(crate) use parlour_bridge::files::finding::Finding;
use parlour_bridge::files::finding::Severity;

/// The result of a command. Each finding is one line on stderr.
pub(crate) type Done = Result<(), Vec<Finding>>;

/// Returns a failure.
pub(crate) fn failed(place: &str, problem: impl Display, remedy: &str) -> Vec<Finding> {
    let (place, problem, remedy) = (place.to_owned(), problem.to_string(), remedy.to_owned());
    vec![Finding { severity: Severity::Mistake, place, problem, remedy }]
}

/// Prints one line on stderr. If nobody reads it, it is lost.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "parlour-bridge: {line}");
}

/// Prints text on stdout. A reader that has gone, as in `| head -1`, wants no more.
pub(crate) fn print(text: &str) -> Done {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(failed("stdout", error, "write to another file or device"))
        }
        _ => Ok(()),
    }
}
