//! `parlour clean`: removes the files that dead servers left.

use anyhow::Context as _;
use parlour::inspect::{self, NameState, NameStatus};

use super::list;
use crate::args::Clean;
use crate::exit::{self, Failure};
use crate::output;

pub(super) fn run(args: &Clean) -> anyhow::Result<()> {
    let all = inspect::names()?;
    for name in &args.names {
        // This rejects an invalid name.
        parlour::Address::parse(name)?;
        if !all.iter().any(|status| status.name == *name) {
            output::note(format_args!("`{name}` does not exist; nothing to remove"));
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
            // A name that cannot be removed does not prevent the removal of the others.
            if let Some(earlier) = first_error.replace(error) {
                output::note(earlier);
            }
        }
    }
    first_error.map_or(Ok(()), Err)
}

/// Removes one name if its server is dead. Any other state is an error only if the user gave the name.
fn clean(status: &NameStatus, named: bool) -> anyhow::Result<()> {
    let path = inspect::escaped(&status.path);
    let removed = match status.state {
        // The library takes the lock of the name, so that a server that has started in the meantime is not affected.
        NameState::Dead => inspect::clean(status).with_context(|| format!("removing {path}"))?,
        _ => false,
    };
    if removed {
        let last = match &status.owner {
            Some(owner) => format!("last held by {owner}"),
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
            (exit::NAME_IN_USE, "a service manager listens on its sockets; stop the socket unit first".to_owned())
        }
        NameState::Unsafe(error) => (exit::UNSAFE_DIRECTORY, error.to_string()),
        other => (exit::DENIED, format!("its state is {}", list::state(other))),
    };
    Err(Failure::new(code, format!("`{name}` ({path}) was not removed: {why}")).into())
}
