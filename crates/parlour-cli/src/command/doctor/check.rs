//! One check of the doctor and its verdict.

use serde::Serialize;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// No problem was found.
    Ok,
    /// The feature works, but something is slower, smaller or missing.
    Note,
    /// The problem must be fixed.
    Problem,
    /// A directory is unsafe and cannot be used.
    Unsafe,
}

impl Verdict {
    /// Returns the word for the table.
    pub(super) fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Problem => "PROBLEM",
            Verdict::Unsafe => "UNSAFE",
        }
    }
}

/// One check, with its result.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) check: String,
    pub(super) verdict: Verdict,
    pub(super) found: String,
    /// The advice for fixing the problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mend: Option<String>,
}

impl Check {
    /// Creates a check that found no problem.
    pub(super) fn ok(check: impl Into<String>, found: impl Into<String>) -> Check {
        Check { check: check.into(), verdict: Verdict::Ok, found: found.into(), mend: None }
    }

    /// Creates a check with another verdict and advice for fixing the problem.
    pub(super) fn but(
        verdict: Verdict,
        check: impl Into<String>,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Check {
        Check { check: check.into(), verdict, found: found.into(), mend: Some(mend.into()) }
    }
}
