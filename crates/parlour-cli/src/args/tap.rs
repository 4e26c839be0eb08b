//! The arguments of `parlour tap`.

/// Print the messages of a running server, while they pass
///
/// Each message is a line: the time in UTC, the process id of the client, the direction (in: to the server, out: to the
/// client), the length in bytes, and the message. A message to a client is shown before it is sent; `not sent` follows
/// if the channel was full or the call failed. Characters that are not printable are escaped. `-- N not shown` tells
/// that N messages were lost, because this process was too slow for the server, or because two threads of the server
/// had messages at once.
///
/// The server is not stopped, delayed or restarted, and logs that it is tapped. It must run as the same user; root
/// names another one with --server-uid. Up to 1 MiB of a message can be shown.
///
/// Ends with exit code 0 after --count messages, at SIGINT, SIGTERM or SIGHUP, when the server ends, and when nobody
/// reads the output any more. After a hand-over, shows the messages of both servers, and says so on stderr.
///
/// With --json, each line is a JSON document. In it, `value` is the message if it is a JSON object or array, as typed
/// messages are with that encoding; else `text` is the message if it is UTF-8, and `hex` its bytes otherwise.
///
/// Example: `parlour tap echo --direction in --count 10`
#[derive(Debug, clap::Args)]
pub(crate) struct Tap {
    /// Name of the server, optionally with a directory
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    /// Process id of the client whose messages are shown [default: all]
    #[arg(long, value_name = "PID")]
    pub(crate) client: Option<u32>,

    /// Show one direction only: in (to the server) or out (to clients)
    #[arg(long, value_name = "DIRECTION", value_enum)]
    pub(crate) direction: Option<Direction>,

    /// Number of messages to print [default: no limit]
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<usize>,

    /// Numeric user id that the server must have [default: that of this process, or root]
    #[arg(long, value_name = "UID")]
    pub(crate) server_uid: Option<u32>,

    /// Print messages as text [default]
    #[arg(long, conflicts_with_all = ["hex", "json"])]
    pub(crate) text: bool,

    /// Print messages as hexadecimal digits
    #[arg(long, conflicts_with = "json")]
    pub(crate) hex: bool,

    /// Print a JSON document on each line
    #[arg(long)]
    pub(crate) json: bool,

    /// Number of bytes of a message to print at most [default: all that is recorded]
    #[arg(long, value_name = "BYTES")]
    pub(crate) max: Option<usize>,
}

/// A direction of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Direction {
    In,
    Out,
}
