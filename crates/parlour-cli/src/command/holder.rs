//! The holder of a name, for the errors about a server that does not answer or does not take a message.

use parlour::inspect::{self, NameState, Owner, Resolution};
use parlour::{ConnectOptions, Connection, ErrorKind};

use crate::args::{Call, Connect, Path, Ping, Watch};
use crate::exit::{self, Failure};
use crate::output;

/// The server that a client looks for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) address: &'a str,
    /// The user that the server must have; `None` for the user of this process, or root.
    pub(super) server_uid: Option<u32>,
}

impl<'a> From<&'a Connect> for Wanted<'a> {
    fn from(args: &'a Connect) -> Self {
        Self { address: &args.address, server_uid: args.connect.server_uid }
    }
}

impl<'a> From<&'a Call> for Wanted<'a> {
    fn from(args: &'a Call) -> Self {
        Self { address: &args.address, server_uid: args.connect.server_uid }
    }
}

impl<'a> From<&'a Ping> for Wanted<'a> {
    fn from(args: &'a Ping) -> Self {
        Self { address: &args.address, server_uid: args.server_uid }
    }
}

impl<'a> From<&'a Path> for Wanted<'a> {
    fn from(args: &'a Path) -> Self {
        Self { address: &args.address, server_uid: args.server_uid }
    }
}

impl<'a> From<&'a Watch> for Wanted<'a> {
    fn from(args: &'a Watch) -> Self {
        Self { address: &args.address, server_uid: args.server_uid }
    }
}

/// Returns the options of a client that looks for a server of this user, or of its own or root.
pub(super) fn options(server_uid: Option<u32>) -> ConnectOptions {
    let options = ConnectOptions::new();
    match server_uid {
        Some(uid) => options.server_uid(uid),
        None => options,
    }
}

/// Resolves the address as a client does that looks for this server.
pub(super) fn resolve(wanted: Wanted<'_>) -> parlour::Result<Resolution> {
    inspect::resolve_with(wanted.address, &options(wanted.server_uid))
}

/// Returns the owner record of the process that holds the name to which a client connects. `None` if there is none, or
/// if this process may not read it.
pub(super) fn of(wanted: Wanted<'_>) -> Option<Owner> {
    let resolution = resolve(wanted).ok()?;
    resolution.found().filter(|name| matches!(name.state, NameState::Live))?.owner.clone()
}

/// Adds the holder of the name, and whether it is stopped, to an error about a server that does not answer. Leaves
/// every other error as it is.
pub(super) fn explain(wanted: Wanted<'_>, connection: Option<&Connection>, error: anyhow::Error) -> anyhow::Error {
    if exit::code(&error) != exit::TIMED_OUT {
        return error;
    }
    let holder = of(wanted);
    // A server that says that it is busy does not hang.
    let is_busy = error.downcast_ref::<parlour::Error>().is_some_and(|error| error.kind() == ErrorKind::Busy);
    if is_busy && !is_stopped(holder.as_ref()) {
        return error;
    }
    let about = match (holder, connection) {
        (Some(holder), _) => condition(&holder),
        (None, Some(connection)) => format!("the server is {}", connection.peer()),
        (None, None) => return error,
    };
    let text = exit::one_line(&error);
    let address = wanted.address;
    let of = if text.contains(address) { String::new() } else { format!("`{address}`: ") };
    Failure::new(exit::TIMED_OUT, format!("{of}{text}; {about}")).into()
}

/// Returns an error if a message that was sent is longer than the limit of the server, which then has not received it.
/// Returns `None` if the limit is not known: only the user of the server and root may read it.
pub(super) fn message_too_long(wanted: Wanted<'_>, length: usize) -> Option<anyhow::Error> {
    let limit = of(wanted)?.message_max?;
    let address = wanted.address;
    let text = format!(
        "the server of `{address}` did not receive a message of {length} bytes: its limit is {limit} bytes; raise it \
         there (`parlour serve --message-max`), or send shorter messages"
    );
    (length > limit).then(|| Failure::new(exit::TOO_LONG, text).into())
}

/// Returns true if this process is known to be stopped.
pub(super) fn is_stopped(holder: Option<&Owner>) -> bool {
    holder.and_then(Owner::is_stopped) == Some(true)
}

/// Returns a sentence about the process that holds a name.
pub(super) fn condition(holder: &Owner) -> String {
    // The record is a text of its writer.
    let shown = output::cell(holder);
    match holder.is_stopped() {
        Some(true) => format!(
            "the server ({shown}) is stopped by a signal or a debugger; continue it with `kill -CONT {}`",
            holder.pid
        ),
        Some(false) => format!("the server ({shown}) is not stopped; it may be busy or hang"),
        None => format!("the server ({shown}) holds the name"),
    }
}
