//! `parlour clean`: removes what dead servers left, and nothing else.

use anyhow::Context as _;
use parlour::inspect::{self, NameState, NameStatus};

use super::list;
use crate::args::Clean;
use crate::exit::{self, Failure};
use crate::output;

pub(super) fn run(args: &Clean) -> anyhow::Result<()> {
    let all = inspect::names()?;
    for name in &args.names {
        // Only for its complaint about a name that cannot be one.
        parlour::Address::parse(name)?;
        if !all.iter().any(|status| status.name == *name) {
            output::note(format_args!("`{name}` is nowhere; nothing to remove"));
        }
    }
    let mut first_error = None;
    for status in &all {
        let named = args.names.contains(&status.name);
        if !args.names.is_empty() && !named {
            continue;
        }
        let outcome = clean(status, named);
        if let Err(error) = outcome {
            if output::is_stdout_closed(&error) {
                return Err(error);
            }
            // One that cannot be removed does not keep the others from it.
            if let Some(earlier) = first_error.replace(error) {
                output::note(earlier);
            }
        }
    }
    first_error.map_or(Ok(()), Err)
}

/// Removes one name if its server is dead. To find it in use is a failure only for a name that was asked for.
fn clean(status: &NameStatus, named: bool) -> anyhow::Result<()> {
    let path = status.path.display();
    let removed = match status.state {
        // The library asks for the lock again: a server that has come back in the meantime is safe.
        NameState::Dead => inspect::clean(status).with_context(|| format!("removing {path}"))?,
        _ => false,
    };
    if removed {
        let last = match &status.owner {
            Some(owner) => format!("held last by {owner}"),
            None => "released by its last server".to_owned(),
        };
        return output::line(format_args!("removed {path} ({last})"));
    }
    if !named {
        return Ok(());
    }
    let name = &status.name;
    let holder = status.owner.as_ref().map_or_else(|| "another server".to_owned(), ToString::to_string);
    let (code, why) = match &status.state {
        NameState::Live => (exit::NAME_IN_USE, format!("it is held by {holder}")),
        NameState::Dead => (exit::NAME_IN_USE, "a server has just taken it".to_owned()),
        NameState::Waiting => {
            (exit::NAME_IN_USE, "a service manager listens there; stop its socket unit first".to_owned())
        }
        NameState::Unsafe(error) => (exit::UNSAFE_DIRECTORY, error.to_string()),
        other => (exit::DENIED, format!("it is {}", list::state(other))),
    };
    Err(Failure::new(code, format!("`{name}` ({path}) stays: {why}")).into())
}
