//! The surroundings of trials: what differs from the machine on which they run, such as a missing system call.
//!
//! Trials that are declared inside [`inside`] have its word in front of their names. Before each of them runs, its
//! process is changed.

use std::cell::RefCell;
use std::ffi::OsString;
use std::sync::Arc;

use libtest_mimic::Trial;

/// Returns the reason why the trial with this name is skipped, if there is one.
type Skip = dyn Fn(&str) -> Option<String> + Send + Sync;

/// A change of the process of a trial.
#[derive(Clone)]
pub struct Surroundings {
    /// The first part of the names of the trials.
    pub word: String,
    /// The environment of the process and of its children.
    pub environment: Vec<(&'static str, OsString)>,
    /// Is called in the process before the trial, in the thread of the trial.
    pub prepare: Arc<dyn Fn() + Send + Sync>,
    /// Returns the reason why the trial with this name does not run in these surroundings, if there is one.
    pub skip: Arc<Skip>,
}

impl Surroundings {
    /// Surroundings without a change.
    pub fn named(word: &str) -> Self {
        Self { word: word.to_owned(), environment: Vec::new(), prepare: Arc::new(|| ()), skip: Arc::new(|_| None) }
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Surroundings>> = const { RefCell::new(None) };
}

/// Declares trials in these surroundings.
pub fn inside(surroundings: Surroundings, declare: impl FnOnce() -> Vec<Trial>) -> Vec<Trial> {
    let before = CURRENT.replace(Some(surroundings));
    let trials = declare();
    CURRENT.set(before);
    trials
}

/// Returns the surroundings of the trials that are being declared.
pub fn current() -> Option<Surroundings> {
    CURRENT.with_borrow(Clone::clone)
}
