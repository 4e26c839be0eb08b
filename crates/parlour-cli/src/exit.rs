//! Exit codes: one for each outcome that a script would branch on.

use std::process::ExitCode;

use parlour::ErrorKind;

use crate::output;

/// Everything went as asked.
pub(crate) const OK: u8 = 0;
/// What has no code of its own.
pub(crate) const OTHER: u8 = 1;
/// The command line cannot be meant like this.
pub(crate) const USAGE: u8 = 2;
/// Nobody serves the name.
pub(crate) const NO_SERVER: u8 = 3;
/// Another process holds the name.
pub(crate) const NAME_IN_USE: u8 = 4;
/// The other side, or the system, does not want us.
pub(crate) const DENIED: u8 = 5;
/// The deadline passed.
pub(crate) const TIMED_OUT: u8 = 6;
/// The other side went away before the conversation was over.
pub(crate) const DISCONNECTED: u8 = 7;
/// A message is longer than the limit.
pub(crate) const TOO_LONG: u8 = 8;
/// A directory is not as safe as it must be.
pub(crate) const UNSAFE_DIRECTORY: u8 = 9;

/// The table that `--help` and the manual page print.
pub(crate) const MEANINGS: [(u8, &str); 10] = [
    (OK, "everything went as asked"),
    (OTHER, "another error; a check of `parlour doctor` or `parlour demo` failed"),
    (USAGE, "the command line is wrong, or a name or an option is not valid"),
    (NO_SERVER, "nobody serves this name"),
    (NAME_IN_USE, "another process holds this name"),
    (DENIED, "denied or refused"),
    (TIMED_OUT, "timed out, or the server is busy"),
    (DISCONNECTED, "the other side went away, between messages or inside one"),
    (TOO_LONG, "a message is longer than the limit"),
    (UNSAFE_DIRECTORY, "a directory has the wrong owner or mode"),
];

/// The exit code of a kind of error of the library.
///
/// The kinds are matched one by one, so that a new one is given a code on purpose and not by accident.
fn of_kind(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidName | ErrorKind::InvalidOption => USAGE,
        ErrorKind::NoServer => NO_SERVER,
        ErrorKind::NameInUse => NAME_IN_USE,
        ErrorKind::Denied | ErrorKind::Refused => DENIED,
        ErrorKind::TimedOut | ErrorKind::Busy => TIMED_OUT,
        ErrorKind::Disconnected | ErrorKind::Truncated => DISCONNECTED,
        ErrorKind::MessageTooLong => TOO_LONG,
        ErrorKind::UnsafeDirectory => UNSAFE_DIRECTORY,
        ErrorKind::NameLost
        | ErrorKind::Protocol
        | ErrorKind::Encoding
        | ErrorKind::Unsupported
        | ErrorKind::Shutdown
        | ErrorKind::Io => OTHER,
        // The library may learn further kinds; until this table does, they are "another error".
        _ => OTHER,
    }
}

/// A failure that the program itself found, with the exit code that it means.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The exit code of an error, taken from the first cause that has one.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.code;
        }
        if let Some(error) = cause.downcast_ref::<parlour::Error>() {
            return of_kind(error.kind());
        }
    }
    OTHER
}

/// After the command line was not understood, or help or the version was asked for.
pub(crate) fn after_parsing(shown: &clap::Error) -> ExitCode {
    // Nobody is left to tell when even this cannot be written.
    let _ = shown.print();
    ExitCode::from(if shown.use_stderr() { USAGE } else { OK })
}

/// After a command ran: says what went wrong in one line on stderr.
pub(crate) fn after_running(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::from(OK),
        // Whoever read our output has seen enough: that is no error (`parlour list | head -1`).
        Err(error) if output::is_stdout_closed(&error) => ExitCode::from(OK),
        Err(error) => {
            output::note(format_args!("{}", one_line(&error)));
            ExitCode::from(code(&error))
        }
    }
}

/// The error and its causes in one line. An error of the library says everything itself, its causes included.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let part = cause.to_string();
        if !text.contains(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
        if cause.is::<parlour::Error>() {
            break;
        }
    }
    text.replace('\n', " ")
}

/// The table of exit codes as text, one line each.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes:\n");
    for (code, meaning) in MEANINGS {
        text.push_str(&format!("  {code}  {meaning}\n"));
    }
    text
}
