//! Exit codes of the program, one for each outcome on which a script may branch.

use std::process::ExitCode;

use parlour::ErrorKind;

use crate::output;

/// Success.
pub(crate) const OK: u8 = 0;
/// An error without a code of its own.
pub(crate) const OTHER: u8 = 1;
/// The command line, a name or an option is invalid.
pub(crate) const USAGE: u8 = 2;
/// No server serves the name.
pub(crate) const NO_SERVER: u8 = 3;
/// Another process holds the name.
pub(crate) const NAME_IN_USE: u8 = 4;
/// The peer or the system denied access.
pub(crate) const DENIED: u8 = 5;
/// The deadline passed.
pub(crate) const TIMED_OUT: u8 = 6;
/// The peer disconnected early.
pub(crate) const DISCONNECTED: u8 = 7;
/// A message is longer than the limit.
pub(crate) const TOO_LONG: u8 = 8;
/// A directory has the wrong owner or mode.
pub(crate) const UNSAFE_DIRECTORY: u8 = 9;

/// stdout does not show exactly what the peer sent.
pub(crate) const INEXACT: u8 = 10;
/// The server answered a call with an error.
pub(crate) const CALL_FAILED: u8 = 11;

/// The codes with their meanings, as `--help` and the manual page print them.
pub(crate) const MEANINGS: [(u8, &str); 12] = [
    (OK, "success"),
    (OTHER, "another error, or a check of `parlour doctor` or `parlour demo` failed"),
    (USAGE, "the command line, a name or an option is invalid"),
    (NO_SERVER, "no server serves the name"),
    (NAME_IN_USE, "another process holds the name"),
    (DENIED, "access was denied, or the server does not admit the client"),
    (TIMED_OUT, "the operation timed out, or the server is busy, stopped or does not answer"),
    (DISCONNECTED, "the peer disconnected, between messages or mid-message"),
    (TOO_LONG, "a message is longer than the limit (7 if the limit is that of a server of another user)"),
    (UNSAFE_DIRECTORY, "a directory has the wrong owner or mode"),
    (INEXACT, "`call` received more than one reply, or a message with a newline in it was printed as several lines"),
    (CALL_FAILED, "the server answered a call with an error"),
];

/// Returns the exit code for a kind of library error.
///
/// The kinds are listed one by one, so that each new kind gets a code deliberately.
fn of_kind(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidName | ErrorKind::InvalidOption => USAGE,
        ErrorKind::NoServer => NO_SERVER,
        ErrorKind::NameInUse => NAME_IN_USE,
        ErrorKind::Denied | ErrorKind::Refused => DENIED,
        ErrorKind::TimedOut | ErrorKind::Busy => TIMED_OUT,
        ErrorKind::Disconnected | ErrorKind::Truncated | ErrorKind::Lost => DISCONNECTED,
        ErrorKind::MessageTooLong => TOO_LONG,
        ErrorKind::UnsafeDirectory => UNSAFE_DIRECTORY,
        ErrorKind::CallFailed => CALL_FAILED,
        ErrorKind::NameLost
        | ErrorKind::Protocol
        | ErrorKind::Encoding
        | ErrorKind::Unsupported
        | ErrorKind::Shutdown
        | ErrorKind::HandedOver
        | ErrorKind::Io => OTHER,
        // `ErrorKind` is non-exhaustive. A kind that this table does not list is "another error".
        _ => OTHER,
    }
}

/// A failure that this program detected, with its exit code.
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

/// Returns the exit code of an error, taken from the first cause in its chain that has one.
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

/// Prints what the parser returned: a usage error, the help or the version. Returns the exit code.
pub(crate) fn after_parsing(shown: &clap::Error) -> ExitCode {
    output::parsed(shown);
    ExitCode::from(if shown.use_stderr() { USAGE } else { OK })
}

/// Prints the error of a command, if any, as one line on stderr. Returns the exit code.
pub(crate) fn after_running(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::from(OK),
        // The reader of stdout closed the pipe, as in `parlour list | head -1`. This is not an error.
        Err(error) if output::is_stdout_closed(&error) => ExitCode::from(OK),
        Err(error) => {
            output::note(format_args!("{}", one_line(&error)));
            ExitCode::from(code(&error))
        }
    }
}

/// Formats an error and its causes as one line, without control characters. The text of a library error already
/// includes its causes.
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
    output::cell(text.replace('\n', " "))
}

/// Formats the table of exit codes, one line for each code.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes:\n");
    for (code, meaning) in MEANINGS {
        text.push_str(&format!("  {code}  {meaning}\n"));
    }
    text
}
