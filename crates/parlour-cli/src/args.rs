//! The definition of the command line.

mod recording;
mod tap;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use self::recording::{Record, Replay};
pub(crate) use self::tap::{Direction, Tap};
pub(crate) use self::values::{Idle, Transports};
use self::values::{bytes, count, duration, group, idle, interval, mode, transports};
use crate::exit;
use clap::{ArgAction, ArgGroup, CommandFactory, Parser, Subcommand, ValueEnum};

const ABOUT: &str = "Local client/server messaging by name";

const LONG_ABOUT: &str = "Local client/server messaging by name.\n\n\
    A server takes a name. Each client that connects to the name gets a private two-way channel of messages. There is \
    no configuration, no broker, and nothing to clean up after a crash.\n\n\
    An ADDRESS is [TRANSPORT:][/ABSOLUTE/DIRECTORY/]NAME. A NAME has up to 64 letters, digits, \
    '_', '-' and '.', and does not begin with a '.'. The transports are shm, packet, unix and fifo.\n\n\
    A DURATION is a number with a unit, such as 500ms, 10s or 1m; a number without a unit counts seconds.\n\n\
    Data goes to stdout; all other output goes to stderr.\n\n\
    Example: run `parlour serve wc -- wc -w` in one terminal and `echo one two | parlour connect wc` in another.";

/// The environment variables that the program reads, with their descriptions.
pub(crate) const ENVIRONMENT: [(&str, &str); 2] = [
    ("PARLOUR_DIR", "the only directory that holds names, instead of the default ones (see `parlour path`)"),
    ("PARLOUR_LOG", "log level on stderr: off, error, warn, info, debug or trace [default: off]"),
];

/// A parsed command line.
#[derive(Debug, Parser)]
#[command(name = "parlour", version, about = ABOUT, long_about = LONG_ABOUT, after_long_help = after_help())]
#[command(max_term_width = 110)]
pub(crate) struct Args {
    /// Log events to stderr: -v at level info, -vv at level debug, -vvv at level trace
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A subcommand with its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(Demo),
    Serve(Box<Serve>),
    Connect(Connect),
    Call(Call),
    Ping(Ping),
    List(List),
    Watch(Watch),
    Stats(Stats),
    Clients(Clients),
    Top(Top),
    Tap(Tap),
    Record(Record),
    Replay(Replay),
    Path(Path),
    Clean(Clean),
    Doctor(Doctor),
    Bench(Bench),
    Bridge(Bridge),
    Completions(Completions),
    Man(Man),
    /// Run one server process of the demo
    #[command(hide = true)]
    DemoServer(DemoServer),
    /// Run one client process of the demo
    #[command(hide = true)]
    DemoClient(DemoClient),
    /// Run one process of the benchmark
    #[command(hide = true)]
    BenchRole(BenchRole),
    /// Print the names with which a command can be completed
    #[command(hide = true)]
    CompleteNames(CompleteNames),
}

/// Check that every transport works on this machine, and how fast, in a few seconds
///
/// Starts real processes. For each transport, a server under its own name and four clients run; each client sends every
/// line of a text and checks every reply. Then, for each transport, a server is killed while a client talks to it, a
/// new server takes the name immediately, and a second server is rejected.
///
/// Works in a temporary directory, and leaves no file and no process. Exits with 0 only if every check passed.
///
/// Example: `parlour demo --input README.md` sends the lines of README.md.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// Send the lines of this file, or of stdin if FILE is - [default: a built-in text]
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,

    /// Print one JSON document at the end
    #[arg(long)]
    pub(crate) json: bool,
}

/// Take a name, and echo messages or run a program for each client
///
/// With a program, one process runs for each client. Each message from the client is a line on the program's stdin.
/// Each line of the program's stdout is a message to the client. The program's stderr is that of this server. (A
/// message that contains newlines becomes several lines; --frames keeps messages apart.)
///
/// When the client has sent its last message, the program's stdin is closed. When the program closes its stdout, the
/// client receives end of file. When the program exits, its client is disconnected. When the client disconnects, the
/// program reads the rest of its input; if it still runs one second later it gets SIGTERM, and SIGKILL two seconds
/// after that. If this server is killed, its programs read end of file on stdin.
///
/// A program leads a process group. When the program has exited, the processes that it left in the group get SIGTERM,
/// and SIGKILL two seconds later. A process that is to stay longer leaves the group: setsid(1). A program inherits
/// stdin, stdout, stderr, and the descriptors that the caller of this server opened for it, but none of a service
/// manager. The server raises its own limit on descriptors to the hard limit; its programs get the original one.
///
/// The program's environment identifies the client. These variables have the meaning that s6-ipcserver gives them:
/// PROTO (IPC), IPCREMOTEEUID, IPCREMOTEEGID, IPCREMOTEPATH (empty), IPCCONNNUM (the number of clients of this user,
/// including this one). Further variables are PARLOUR_NAME, PARLOUR_TRANSPORT, PARLOUR_PEER_PID, PARLOUR_PEER_UID and
/// PARLOUR_PEER_GID, and the source of each of the three ids in PARLOUR_PEER_PID_VOUCHED, PARLOUR_PEER_UID_VOUCHED and
/// PARLOUR_PEER_GID_VOUCHED. An id that is not known is not set.
///
/// Prints one line when clients can connect: `ready NAME TRANSPORTS DIRECTORY`. Before that it checks that the program
/// can be executed. Clients that are refused, and the reason, are printed on stderr: of each kind of reason at most one
/// line per second, with the number of the others.
///
/// SIGINT and SIGTERM stop the server. It serves the clients that have connected by then and no others, and releases
/// the name immediately, so that the next server can take it. Open connections may continue for the time given by
/// --grace. After that time, or at a second signal, the programs are ended. The exit code is 0 in each case. A signal
/// that is ignored when the server starts stays ignored, as SIGINT in a background job of a script.
///
/// With --take-over the server takes the name over from a live one, without a gap: no client is refused, and open
/// connections stay with the old server, which then stops as after SIGTERM. One signal ends it immediately. Every
/// server that runs as the same user allows this.
///
/// Under a service manager, --activated serves the sockets of a socket unit. Their path contains the name, such as
/// ListenStream=%t/parlour/NAME/unix. The server notifies the socket in $NOTIFY_SOCKET when clients can connect
/// (READY=1) and when it stops (STOPPING=1), as Type=notify requires. With --take-over it also sends its process id
/// (MAINPID=), and a server whose name was taken over does not send STOPPING=1, because the service goes on.
///
/// Example: `parlour serve wc -- wc -w` runs one `wc -w` for each client.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("what").required(true).args(["echo", "program"]))]
#[command(override_usage = "parlour serve [OPTIONS] <ADDRESS> --echo\n       \
    parlour serve [OPTIONS] <ADDRESS> -- <PROGRAM> [ARGS]...\n       \
    parlour serve [OPTIONS] --activated -- <PROGRAM> [ARGS]...")]
pub(crate) struct Serve {
    /// Name to take, optionally with a transport and a directory
    #[arg(value_name = "ADDRESS", required_unless_present = "activated")]
    pub(crate) address: Option<String>,

    /// Serve the sockets that the service manager passes (LISTEN_FDS); their paths give the name
    #[arg(long, conflicts_with_all = ["address", "mode", "group"])]
    pub(crate) activated: bool,

    /// Serve only the passed sockets with this descriptor name (FileDescriptorName= in the socket unit)
    #[arg(long, value_name = "NAME", requires = "activated", conflicts_with = "address")]
    pub(crate) fd_name: Option<String>,

    /// Take the name over from the server that has it, if one does, and wait for it up to this time, such as 500ms
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "10s",
        conflicts_with = "activated",
    )]
    pub(crate) take_over: Option<Duration>,

    /// Hand the name over to any other server of this user that wants it; it needs no --take-over for that
    #[arg(long, conflicts_with_all = ["activated", "take_over"])]
    pub(crate) yields: bool,

    /// Transports to offer, such as unix,fifo, or all [default: the one in ADDRESS, or unix]
    #[arg(long, value_name = "TRANSPORTS", value_parser = transports)]
    pub(crate) on: Option<Transports>,

    /// Send every message back to its client
    #[arg(long)]
    pub(crate) echo: bool,

    /// Pass bytes without line framing: one read of the program's stdout is one message, and no newline is added on its
    /// stdin
    #[arg(long, conflicts_with = "echo")]
    pub(crate) raw: bool,

    /// Pass messages unchanged: on the program's stdin and stdout, each message follows its length, a big-endian number
    /// of 4 bytes
    #[arg(long, conflicts_with_all = ["echo", "raw"])]
    pub(crate) frames: bool,

    /// Users that may connect, as an octal file mode: 0600 (this user), 0660 (also the group) or 0666 (every user)
    /// [default: 0600]
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub(crate) mode: Option<u32>,

    /// Group that owns the socket, by number, or by name as getent(1) looks it up [default: the group of this process]
    #[arg(long, value_name = "GROUP", value_parser = group)]
    pub(crate) group: Option<u32>,

    /// Maximum number of simultaneous clients, and so of programs; further clients are refused as busy [default: with a
    /// program 1024, or less if the hard limit on descriptors is low; with --echo what that limit allows]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) clients: Option<usize>,

    /// Maximum number of simultaneous clients of one user; further clients are refused as busy [default: as --clients;
    /// if other users may connect, with a program 32, with --echo a quarter]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) clients_per_user: Option<usize>,

    /// Maximum length of a message in bytes, or with the suffix K, M or G (powers of 1024) [default: 16M, or 1M if
    /// other users may connect]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) message_max: Option<usize>,

    /// Maximum time for the handshake of a client, such as 500ms or 10s [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) handshake_timeout: Option<Duration>,

    /// Disconnect a client if no message has passed in either direction for this time, or `never` [default: never for
    /// this user and root, 10m for other users]
    #[arg(long, value_name = "DURATION", value_parser = idle)]
    pub(crate) idle: Option<Idle>,

    /// Time that open connections may continue after SIGINT or SIGTERM; a second signal ends them immediately
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    pub(crate) grace: Duration,

    /// Policy for the socket file that a client on unix binds [default: check]
    #[arg(long, value_name = "POLICY", value_enum)]
    pub(crate) client_file: Option<ClientFile>,

    /// Program to run for each client, with its arguments
    #[arg(last = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

/// The policy for the socket file that a client binds.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ClientFile {
    /// Check the file if the client has one
    Check,
    /// Reject a client without a file
    Require,
    /// Ignore the file
    Ignore,
}

/// Send the lines of stdin to a server as messages, and print its replies as lines
///
/// Each line of stdin is a message, without its newline; a last line without a newline is one too. Each message from
/// the server is printed as a line. All other bytes pass unchanged. A message from the server that contains a newline
/// is printed as several lines; at the end, stderr tells how many there were, and the exit code is 10. If stdin has
/// NUL bytes, stderr tells that it was sent line by line. On a terminal, characters that could control it are printed
/// as escapes such as `\x1b`. The options --frames and --raw pass messages or bytes without any change.
///
/// At the end of stdin, the connection is half-closed and the remaining replies are printed. Exits with 7 if the server
/// disconnects before all of stdin was sent or, where the transport can tell (unix and packet), before the server has
/// read all of it.
///
/// With --reconnect, the end of the server ends neither the input nor the output. The message that could not be sent is
/// sent to the next server; those that may be lost are counted on stderr, and not sent again. The exit code is 6 if no
/// server appears within the time of --wait, and 5 if the server belongs to another user or does not admit this one.
/// Without --receive, the end of stdin is as above, over the last connection.
///
/// Examples: `parlour connect wc < README.md` prints the replies of the server `wc`. `ssh host parlour connect --frames
/// wc` gives a program on another machine the messages of that server.
#[derive(Debug, clap::Args)]
pub(crate) struct Connect {
    /// Name of the server, optionally with a transport and a directory
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    /// Pass bytes unchanged: one read of stdin is one message, and no newline is added on stdout
    #[arg(long)]
    pub(crate) raw: bool,

    /// Pass messages unchanged: on stdin and stdout, each message follows its length, a big-endian number of 4 bytes
    #[arg(long, conflicts_with = "raw")]
    pub(crate) frames: bool,

    /// Keep the connection open at the end of stdin, and print messages until the server ends it
    #[arg(long)]
    pub(crate) receive: bool,

    /// Connect again when the server has gone, and tell on stderr how many messages may be lost. Nothing is sent twice.
    /// Waits for a server without a limit, or as long as --wait says
    #[arg(long, conflicts_with = "answer_timeout")]
    pub(crate) reconnect: bool,

    /// Maximum time to connect, such as 500ms or 10s [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,

    /// Maximum time that the server may stay silent after it was sent a message or, without --receive, after the end of
    /// stdin, such as 500ms or 10s [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) answer_timeout: Option<Duration>,

    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Send one message to a server, and print its reply
///
/// Half-closes the connection after the message and prints the first reply and a newline. Exits with 7 if the server
/// disconnects without a reply. If a second reply arrives within a second and before the server ends its side, stderr
/// tells that, and the exit code is 10; --all prints every reply. On a terminal, characters that could control it are
/// printed as escapes such as `\x1b`.
///
/// Example: `parlour call echo hello --timeout 2s` fails with exit code 6 if no reply arrives within two seconds.
#[derive(Debug, clap::Args)]
pub(crate) struct Call {
    /// Name of the server, optionally with a transport and a directory
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    /// Message to send; if it is missing or -, all of stdin is the message
    #[arg(value_name = "MESSAGE")]
    pub(crate) message: Option<OsString>,

    /// Print the bytes of a reply unchanged, also on a terminal, and no newline after it
    #[arg(long)]
    pub(crate) raw: bool,

    /// Print every reply until the server ends its side; none at all is not an error
    #[arg(long)]
    pub(crate) all: bool,

    /// Call a server that matches answers with requests (`Server::serve_calls`), and print every answer; exits with 11
    /// if the server answers with an error
    #[arg(long, conflicts_with = "all")]
    pub(crate) id: bool,

    /// Send MESSAGE as JSON, and print each reply as JSON on one line; both are checked
    #[arg(long, conflicts_with = "raw")]
    pub(crate) json: bool,

    /// Maximum time to connect and to receive the first reply, such as 500ms or 10s [default: 5s to connect, no limit
    /// for the reply]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,

    /// Maximum time to wait for a reply once the message was sent and, with --all, for each further reply and the end,
    /// such as 500ms or 10s [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) answer_timeout: Option<Duration>,

    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Check that a server answers, and measure how fast
///
/// Connects to the server, half-closes the connection without sending a message, and waits until the server ends it too
/// or sends something. The server takes no request for that: it sees a client that comes and leaves. (`parlour serve`
/// runs its program for it.) With --message, it sends this message like `parlour call` and waits for the reply.
///
/// Prints the time to connect and the time to the answer. Over shm and fifo, the server itself answers while the client
/// connects. Over unix and packet, the kernel does.
///
/// If no answer comes, the exit code is 6, and stderr tells how far the server got: it is stopped (by a signal or a
/// debugger); it does not accept (it is busy with other clients, or hangs); or it accepts but does not read (it hangs,
/// or it does not end a connection that its client has ended). Exits with 3 without a server. With --json, the field
/// `state` is answered, no-server, refused (it does not admit this user), busy (it cannot accept more clients),
/// stopped, not-accepted, not-read, no-answer (to a message, or of a server of another user, which shows less) or
/// failed.
///
/// Example: `parlour ping echo --count 10 --timeout 1s`
#[derive(Debug, clap::Args)]
pub(crate) struct Ping {
    /// Name of the server, optionally with a transport and a directory
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    /// Number of connections to make, one after the other; the first one that is not answered is the last
    #[arg(long, value_name = "N", value_parser = count, default_value = "1")]
    pub(crate) count: usize,

    /// Send this message and wait for the reply
    #[arg(long, value_name = "TEXT")]
    pub(crate) message: Option<OsString>,

    /// Maximum time for one connection and its answer, such as 500ms or 10s
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    pub(crate) timeout: Duration,

    /// Numeric user id that the server must have [default: that of this process, or root]
    #[arg(long, value_name = "UID")]
    pub(crate) server_uid: Option<u32>,

    /// Print one JSON document at the end
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options for connecting to a server.
#[derive(Debug, clap::Args)]
pub(crate) struct ConnectArgs {
    /// Maximum time to wait for a server that is not running yet, such as 500ms or 10s [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,

    /// Numeric user id that the server must have [default: that of this process, or root]
    #[arg(long, value_name = "UID")]
    pub(crate) server_uid: Option<u32>,

    /// Maximum length of a message, sent or received, in bytes, or with the suffix K, M or G (powers of 1024)
    /// [default: 16M]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) message_max: Option<usize>,
}

/// List the names with their servers and states
///
/// Dead names are listed with `--all` only. Root lists the names of another user with `--server-uid`. STATE is one of:
/// live (a server holds the name), waiting (a service manager listens, and starts the server when a client connects),
/// dead (the server was killed; the next server can take the name), foreign (the name belongs to another user, so that
/// its state is not known) or unsafe (the directory has the wrong owner or mode, and is not used). For a dead name, the
/// table shows the server that was killed. With `--json`, a path is a string, or an array of its bytes if it is not
/// UTF-8.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "ls")]
pub(crate) struct List {
    /// List dead names, too
    #[arg(long, short)]
    pub(crate) all: bool,

    /// Show clients, messages and bytes of each second as well, measured for half a second
    #[arg(long, short)]
    pub(crate) long: bool,

    /// Numeric id of another user whose servers are listed, too
    #[arg(long, value_name = "UID")]
    pub(crate) server_uid: Option<u32>,

    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print the counters of a server
///
/// Prints clients, refusals, messages and bytes since the server began, and the clients that are stuck. The counters
/// are read from memory of the server, which does nothing for it and need not be running. Only the user of the server
/// can read them, and root, who names that user with --server-uid.
///
/// A client is stuck if the server has waited for a second for the rest of a message of it, or for it to read.
///
/// Example: `parlour stats echo --openmetrics` for Prometheus
#[derive(Debug, clap::Args)]
pub(crate) struct Stats {
    /// Name of the server, optionally with a directory
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    /// Numeric user id that the server must have [default: that of this process, or root]
    #[arg(long, value_name = "UID")]
    pub(crate) server_uid: Option<u32>,

    /// Print JSON, with the clients
    #[arg(long, conflicts_with = "openmetrics")]
    pub(crate) json: bool,

    /// Print the text format of OpenMetrics
    #[arg(long)]
    pub(crate) openmetrics: bool,
}

/// List the clients of a server
///
/// RECEIVED and SENT are the messages of the server's side, each with its BYTES. HELD is the number of bytes that the
/// server holds for a client that does not read. STATE is one of: idle (the server waits for a message), active, or
/// stuck (for a second, the server has waited for the rest of a message, or for the client to read). Over fifo, PID is
/// what the client has stated. Only the user of the server can list its clients, and root, who names that user with
/// --server-uid.
///
/// Example: `parlour clients echo`
#[derive(Debug, clap::Args)]
pub(crate) struct Clients {
    /// Name of the server, optionally with a directory
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    /// Numeric user id that the server must have [default: that of this process, or root]
    #[arg(long, value_name = "UID")]
    pub(crate) server_uid: Option<u32>,

    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print a line for each change of a name: a server comes, goes, or is replaced
///
/// The first line is the present state. Each line has the time in UTC, the state, and for a server the process, the
/// user, the transports, and the program. STATE is one of: live (a server holds the name), waiting (a service manager
/// listens, and starts the server when a client connects), foreign (the name belongs to another user, so that its state
/// is not known) or absent (no server serves the name). A state that is over within a moment may get no line.
///
/// Waits without polling. Ends with exit code 0 after --count lines, at SIGINT, SIGTERM or SIGHUP, and when nobody
/// reads the output any more. With --json, each line is a JSON document, with the fields of `parlour list --json`.
///
/// Example: `parlour watch wc --json | jq --unbuffered -r .state`
#[derive(Debug, clap::Args)]
pub(crate) struct Watch {
    /// Name to watch, optionally with a transport and a directory
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    /// Number of lines to print, the first one included [default: no limit]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) count: Option<usize>,

    /// Numeric user id that the server must have [default: that of this process, or root]
    #[arg(long, value_name = "UID")]
    pub(crate) server_uid: Option<u32>,

    /// Print a JSON document on each line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Watch names, or the clients of one, with their traffic
///
/// Without an ADDRESS, shows the names, and Enter opens the clients of one. The columns are those of `parlour list
/// --long` and of `parlour clients`; rates are those of the time since the reading before. HELD is the number of bytes
/// that the server holds for clients that do not read. A graph shows the messages of the last minute. A client is stuck
/// if the server has waited for a second for the rest of a message of it, or for it to read; it comes first, and a line
/// above the table names the one that has been stuck for the longest time. A client that was stopped by a signal comes
/// next and is shown so, if the server sees the same processes as this program. Among thousands it is found within
/// seconds.
///
/// The counters are read from memory of the servers, which do nothing for it and need not be running.
///
/// Keys: Up, Down, PageUp, PageDown, Home, End, j and k select a row. Enter opens a name, and Esc goes back. `s` sorts
/// by the next column, and `r` in reverse. `/` begins a filter; Enter keeps it, and Esc clears it. `t` shows only what
/// is stuck. Space pauses, Ctrl-L draws anew, Ctrl-Z suspends, and `q` ends, as do Ctrl-C, SIGTERM, and the end of the
/// terminal, all with exit code 0.
///
/// With --once, prints the rows as a text and ends. This needs no terminal.
///
/// Examples: `parlour top`, `parlour top echo --sort held`, and `parlour top echo --once --interval 5s`.
#[derive(Debug, clap::Args)]
pub(crate) struct Top {
    /// Name of the server whose clients are shown, optionally with a directory [default: all names]
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: Option<String>,

    /// Print the rows as a text, after one interval
    #[arg(long)]
    pub(crate) once: bool,

    /// Time between two readings, from 100ms on
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "500ms")]
    pub(crate) interval: Duration,

    /// Order of the rows [default: stuck]
    #[arg(long, value_name = "ORDER", value_enum)]
    pub(crate) sort: Option<TopOrder>,

    /// Show only rows that contain this text: the name, the server, or the process, program or transport of the client
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,

    /// Numeric user id that the server must have, or whose servers are shown, too [default: that of this process, or
    /// root]
    #[arg(long, value_name = "UID")]
    pub(crate) server_uid: Option<u32>,
}

/// The order of the rows of `parlour top`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TopOrder {
    /// Stuck for the longest time first
    Stuck,
    /// Most messages per second first
    Messages,
    /// Most bytes per second first
    Bytes,
    /// Most bytes that the server holds first
    Held,
    /// Names: most clients first
    Clients,
    /// Names: by name
    Name,
    /// Clients: connected for the longest time first
    Age,
    /// Clients: by process id
    Pid,
}

/// Show the directory that a name resolves to, and why
///
/// Prints the directory through which a client would connect, the directory that a server would take, and every
/// directory that is searched, in order. Exits with 3 if no server serves the name.
///
/// Example: `parlour path echo`
#[derive(Debug, clap::Args)]
pub(crate) struct Path {
    /// Name to resolve, optionally with a transport and a directory
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    /// Numeric user id that the server must have [default: that of this process, or root]
    #[arg(long, value_name = "UID")]
    pub(crate) server_uid: Option<u32>,

    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Remove the files that dead servers left
///
/// A server never needs this command to start. Only names that are proven dead are removed. A name that a server holds,
/// a name of another user and an unsafe directory are left unchanged.
#[derive(Debug, clap::Args)]
pub(crate) struct Clean {
    /// Names to clean [default: every name]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// Check directories, limits and kernel features, and print how to fix problems
///
/// Exits with 1 if there is a problem, and with 9 if a directory is unsafe.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Measure the latency and throughput of each transport on this machine
///
/// Two processes exchange round trips and one-way streams of messages, over each transport and over a bare UNIX socket.
/// The order is shuffled in each round, and the ratios to the bare socket are computed within a round. Takes less than
/// a minute, and leaves no process and no file but the report of `--html`. Other load on the machine distorts the
/// results.
#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// Number of measurements of each kind of work over each transport; more rounds give steadier figures
    #[arg(long, value_name = "N", default_value = "5")]
    pub(crate) rounds: u32,

    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,

    /// Also write a report with charts to this file, which needs no other file and no network
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) html: Option<PathBuf>,
}

/// Print the completion script for a shell
///
/// The scripts for bash, zsh and fish also complete the names that exist.
///
/// Example: `parlour completions bash > ~/.local/share/bash-completion/completions/parlour`
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// Shell to complete in
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Let clients reach servers of other hosts under the same names, with the program parlour-bridge
///
/// Executes the program `parlour-bridge` with all arguments. It is searched beside this program, and then in $PATH.
/// `parlour bridge help` lists its commands, and `parlour bridge help COMMAND` describes one. docs/bridge.md is the
/// guide.
///
/// Example: `parlour bridge demo` shows three hosts on this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Bridge {
    /// Arguments of parlour-bridge
    #[arg(value_name = "ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

/// Print the manual page in roff format
///
/// Example: `parlour man | man -l -`
#[derive(Debug, clap::Args)]
pub(crate) struct Man {}

/// Arguments of one server process of the demo.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoServer {
    pub(crate) address: String,
}

/// Arguments of one client process of the demo.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoClient {
    pub(crate) address: String,
    /// File with the lines to send.
    pub(crate) input: PathBuf,
    /// Send the lines again and again until the server disconnects.
    #[arg(long)]
    pub(crate) endless: bool,
}

/// Arguments of one process of the benchmark.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchRole {
    pub(crate) role: String,
}

/// Arguments of the call by a completion script.
#[derive(Debug, clap::Args)]
pub(crate) struct CompleteNames {
    /// Command whose argument is completed.
    pub(crate) command: String,
}

/// Parses the command line of this process.
///
/// # Errors
///
/// An invalid command line, or a request for help or the version.
pub(crate) fn parse() -> Result<Args, clap::Error> {
    Args::try_parse()
}

/// Returns the definition for completions and the manual page, which excludes the hidden subcommands.
pub(crate) fn definition() -> clap::Command {
    let mut whole = Args::command();
    whole.build();
    // The `help` of `whole` also lists the hidden subcommands. clap generates a new one for the shown subcommands.
    let is_shown = |command: &&clap::Command| !command.is_hide_set() && command.get_name() != "help";
    let shown: Vec<_> = whole.get_subcommands().filter(is_shown).cloned().collect();
    clap::Command::new("parlour")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .after_long_help(after_help())
        .args(Args::command().get_arguments().cloned())
        .subcommand_required(true)
        .subcommands(shown)
}

fn after_help() -> String {
    let mut text = exit::help();
    text.push_str("\nEnvironment:\n");
    for (variable, meaning) in ENVIRONMENT {
        text.push_str(&format!("  {variable}  {meaning}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_definition_passes_the_checks_of_clap() {
        Args::command().debug_assert();
        definition().debug_assert();
    }
}
