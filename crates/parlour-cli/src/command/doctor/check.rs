//! One check of the doctor and its verdict.

use serde::Serialize;

/// Outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Everything is as it should be.
    Ok,
    /// It works, but something is slower, smaller or missing.
    Note,
    /// It must be mended.
    Problem,
    /// A directory that nobody may use as it is.
    Unsafe,
}

impl Verdict {
    pub(super) fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Problem => "PROBLEM",
            Verdict::Unsafe => "UNSAFE",
        }
    }
}

/// One thing that the doctor has looked at.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) check: String,
    pub(super) verdict: Verdict,
    pub(super) found: String,
    /// Advice to the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mend: Option<String>,
}

impl Check {
    pub(super) fn ok(check: impl Into<String>, found: impl Into<String>) -> Check {
        Check { check: check.into(), verdict: Verdict::Ok, found: found.into(), mend: None }
    }

    pub(super) fn but(
        verdict: Verdict,
        check: impl Into<String>,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Check {
        Check { check: check.into(), verdict, found: found.into(), mend: Some(mend.into()) }
    }
}
