//! A mistake in the files of a bridge, and its remedy.

use std::fmt;
use std::io;

/// The weight of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The bridge works now. Soon it may not.
    Warning,
    /// The bridge cannot work like this.
    Mistake,
}

/// A mistake, or something that will become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its weight.
    pub severity: Severity,
    /// The place: a file, or a key of the configuration.
    pub place: String,
    /// The problem, as a lower-case fragment.
    pub problem: String,
    /// The remedy, as an imperative.
    pub remedy: String,
}

impl Finding {
    pub(crate) fn mistake(place: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (place, problem, remedy) = (place.into(), problem.into(), remedy.into());
        Self { severity: Severity::Mistake, place, problem, remedy }
    }

    pub(crate) fn warning(place: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::mistake(place, problem, remedy) }
    }
}

/// Returns the remedy for a file that cannot be read. `missing` is the one for a file that does not exist.
pub(crate) fn unreadable(error: &io::Error, missing: &str) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => missing,
        io::ErrorKind::PermissionDenied => "let the user of the bridge read it, and enter the directories above it",
        io::ErrorKind::IsADirectory => "name a file",
        io::ErrorKind::InvalidData => "write it in UTF-8",
        _ => "correct the path, or restore the file",
    }
    .to_owned()
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning: ",
            Severity::Mistake => "",
        };
        write!(f, "{severity}{}: {}; {}", self.place, self.problem, self.remedy)
    }
}
