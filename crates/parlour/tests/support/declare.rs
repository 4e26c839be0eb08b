//! Declaration of trials: [`trials!`] lists functions, and each trial is named after its function.

use std::cell::Cell;

use libtest_mimic::Trial;
use parlour::Transport;

use super::own_machine::no_own_machine;
use super::{alone, surroundings, trial_deadline};

/// Declares the trials of a file. Defines `pub fn trials() -> Vec<Trial>`.
///
/// ```ignore
/// trials! {
///     a_held_name_is_refused,
///     bases_come_in_order unless no_other_users(),
///     a_server_that_is_killed_in_its_step_blocks_no_other(step in ["start", "close"]);
///
///     for transport in Transport::ALL =>
///         a_live_name_cannot_be_taken,
///         the_number_of_waiting_clients_is_limited unless has_no_queue(transport);
///
///     for transport in [Transport::Unix], side in ["client", "server"] =>
///         junk_is_an_error;
///
///     #[own_machine]
///     root_serves_the_base_of_the_system unless no_other_users();
/// }
/// ```
///
/// - A function alone is one trial. The path of a function is also accepted: `python::objects_come_back`.
/// - `for NAME in VALUES` runs each trial of the list once per value. The value is the first argument, and its word is
///   a path prefix of the trial's name: `unix::client::junk_is_an_error`. Several values are the first arguments, in
///   order.
/// - `(NAME in VALUES)` after a function runs this trial once per value. The value is the last argument, and its word
///   replaces the word `NAME` in the function's name: `a_server_that_is_killed_in_its_close_blocks_no_other`.
/// - `unless REASON` is an `Option<impl Into<String>>`; `Some` skips the trial. The expression may use all of these
///   values. A skipped trial is ignored, with kind `skipped: REASON`. The expression is evaluated only in the parent
///   process.
///
/// - `#[own_machine]` before a list runs its trials where `/run` and `/tmp` are empty and private
///   ([`own_machine`](super::own_machine)). They are skipped where that is impossible.
///
/// Values are in a slice, an array or a vector. Each implements [`Value`] and `Copy`. A `;` ends a list.
macro_rules! trials {
    // A list, with the place where it runs.
    (@lists $out:ident) => {};
    (@lists $out:ident ;) => {};
    (@lists $out:ident #[own_machine] $($rest:tt)+) => {
        $crate::support::declare::set_place(true);
        $crate::support::trials!(@prefixed $out $($rest)+);
    };
    (@lists $out:ident $($rest:tt)+) => {
        $crate::support::declare::set_place(false);
        $crate::support::trials!(@prefixed $out $($rest)+);
    };
    // A list, with the values that are a prefix of its names.
    (@prefixed $out:ident for $($first:ident in $firsts:expr),+ => $($rest:tt)+) => {
        $crate::support::trials!(@list $out [$(($first $firsts))+] $($rest)+);
    };
    (@prefixed $out:ident $($rest:tt)+) => {
        $crate::support::trials!(@list $out [] $($rest)+);
    };
    (@list $out:ident $firsts:tt
        $(
            $($part:ident)::+ $(($($last:ident in $lasts:expr),+ $(,)?))? $(unless $reason:expr)?
        ),+ $(,)?;
        $($rest:tt)*
    ) => {
        $(
            $crate::support::trials!(
                @trials $out $firsts [$($(($last $lasts))+)?] [] [] ($($part)::+) ($($reason)?)
            );
        )+
        $crate::support::trials!(@lists $out $($rest)*);
    };
    // A function, with the values that remain to be iterated, and the variables of those that are bound.
    (@trials $out:ident [($first:ident $values:expr) $($more:tt)*] $lasts:tt [$($chosen:ident)*] $($rest:tt)+) => {
        for $first in $crate::support::declare::each(&$values) {
            $crate::support::trials!(@trials $out [$($more)*] $lasts [$($chosen)* $first] $($rest)+);
        }
    };
    (@trials $out:ident [] [($last:ident $values:expr) $($more:tt)*] $firsts:tt [$($chosen:ident)*] $($rest:tt)+) => {
        for $last in $crate::support::declare::each(&$values) {
            $crate::support::trials!(@trials $out [] [$($more)*] $firsts [$($chosen)* $last] $($rest)+);
        }
    };
    (@trials $out:ident [] [] [$($first:ident)*] [$($last:ident)*] ($($part:ident)::+) ($($reason:expr)?)) => {
        let name = $crate::support::declare::name(
            &[$(&$first),*],
            &[$(stringify!($part)),+],
            &[$((stringify!($last), &$last)),*],
        );
        let reason = || None::<String>$(.or_else(|| $reason.map(Into::into)))?;
        $out.push($crate::support::declare::trial(name, reason, move || $($part)::+($($first,)* $($last),*)));
    };
    ($($lists:tt)+) => {
        /// The trials of this file.
        pub fn trials() -> Vec<libtest_mimic::Trial> {
            let mut trials = Vec::new();
            $crate::support::trials!(@lists trials $($lists)+;);
            trials
        }
    };
}
pub(crate) use trials;

/// The function that returns the trials of a file.
pub type TrialList = fn() -> Vec<Trial>;

/// Returns the trials of all these files.
pub fn all(files: &[TrialList]) -> Vec<Trial> {
    files.iter().flat_map(|trials| trials()).collect()
}

/// A parameter of a trial.
pub trait Value {
    /// Returns the word that identifies this value in the name of a trial.
    fn word(&self) -> String;
}

impl Value for &str {
    fn word(&self) -> String {
        self.replace('-', "_")
    }
}

impl Value for usize {
    fn word(&self) -> String {
        self.to_string()
    }
}

impl Value for Transport {
    fn word(&self) -> String {
        self.to_string()
    }
}

/// A word with additional data.
impl<A> Value for (&str, A) {
    fn word(&self) -> String {
        self.0.word()
    }
}

impl<A, B> Value for (&str, A, B) {
    fn word(&self) -> String {
        self.0.word()
    }
}

impl<A, B, C> Value for (&str, A, B, C) {
    fn word(&self) -> String {
        self.0.word()
    }
}

/// Iterates over these values.
pub fn each<T: Copy>(values: &[T]) -> impl Iterator<Item = T> {
    values.iter().copied()
}

/// Returns the name of a trial: the `firsts`, then the path of its function with each of the `lasts` in its place.
///
/// # Panics
///
/// Panics if `path` is empty, or if the name of one of the `lasts` is not a word of the function's name.
pub fn name(firsts: &[&dyn Value], path: &[&str], lasts: &[(&str, &dyn Value)]) -> String {
    let (function, modules) = path.split_last().unwrap();
    let mut words: Vec<String> = function.split('_').map(str::to_owned).collect();
    for (name, value) in lasts {
        let place = words.iter().position(|word| word == name);
        words[place.unwrap_or_else(|| panic!("`{function}` has no word `{name}`"))] = value.word();
    }
    let firsts = firsts.iter().map(|value| value.word());
    firsts
        .chain(modules.iter().map(|&module| module.to_owned()))
        .chain([words.join("_")])
        .collect::<Vec<_>>()
        .join("::")
}

thread_local! {
    /// True while a list is declared whose trials run on their own machine.
    static ON_OWN_MACHINE: Cell<bool> = const { Cell::new(false) };
}

/// Sets the place where the trials run that are declared next.
pub fn set_place(on_own_machine: bool) {
    ON_OWN_MACHINE.set(on_own_machine);
}

/// Creates a trial that fails if it panics, takes too long, or leaks; see [`alone`]. With a reason it is
/// ignored instead, with kind `skipped: REASON`.
pub fn trial(name: String, reason: impl FnOnce() -> Option<String>, test: impl FnOnce() + Send + 'static) -> Trial {
    let on_own_machine = ON_OWN_MACHINE.get();
    let around = surroundings::current();
    let name = around.as_ref().map_or_else(|| name.clone(), |around| format!("{}::{name}", around.word));
    // The parent of the process of a trial has evaluated the reason already.
    let reason = match alone::wanted() {
        Some(_) => None,
        None => around
            .as_ref()
            .and_then(|around| (around.skip)(&name))
            .or_else(reason)
            .or_else(|| if on_own_machine { no_own_machine() } else { None }),
    };
    let (environment, prepare) = around.map(|around| (around.environment, around.prepare)).unzip();
    let test = move || {
        if let Some(prepare) = prepare {
            prepare();
        }
        test();
    };
    match reason {
        None => alone::trial(trial_deadline(), on_own_machine, name, environment.unwrap_or_default(), test),
        Some(reason) => {
            let verdict = format!("skipped: {reason}");
            let kind = verdict.clone();
            Trial::test(name, move || Err(verdict.into())).with_kind(kind).with_ignored_flag(true)
        }
    }
}
