//! The definition of the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, ArgGroup, CommandFactory, Parser, Subcommand, ValueEnum};
use parlour::Transport;

use crate::{exit, sys};

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
    Path(Path),
    Clean(Clean),
    Doctor(Doctor),
    Bench(Bench),
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
/// Under a service manager, --activated serves the sockets of a socket unit. Their path contains the name, such as
/// ListenStream=%t/parlour/NAME/unix. The server notifies the socket in $NOTIFY_SOCKET when clients can connect
/// (READY=1) and when it stops (STOPPING=1), as Type=notify requires.
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

/// A list of transports, given as one argument.
#[derive(Clone, Debug)]
pub(crate) struct Transports(pub(crate) Vec<Transport>);

/// A limit on the time without a message, or `None` for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Idle(pub(crate) Option<Duration>);

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
/// Dead names are listed with `--all` only. STATE is one of: live (a server holds the name), waiting (a service manager
/// listens, and starts the server when a client connects), dead (the server was killed; the next server can take the
/// name), foreign (the name belongs to another user, so that its state is not known) or unsafe (the directory has the
/// wrong owner or mode, and is not used). For a dead name, the table shows the server that was killed. With `--json`, a
/// path is a string, or an array of its bytes if it is not UTF-8.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "ls")]
pub(crate) struct List {
    /// List dead names, too
    #[arg(long, short)]
    pub(crate) all: bool,

    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
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
/// a minute, and leaves no file and no process. Other load on the machine distorts the results.
#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// Number of measurements of each kind of work over each transport; more rounds give steadier figures
    #[arg(long, value_name = "N", default_value = "5")]
    pub(crate) rounds: u32,

    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
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

/// Parses a list of transports such as `unix,fifo`, or `all`.
fn transports(text: &str) -> Result<Transports, String> {
    if text == "all" {
        return Ok(Transports(Transport::ALL.to_vec()));
    }
    let parse = |name: &str| name.parse().map_err(|error: parlour::ParseTransportError| error.to_string());
    text.split(',').map(parse).collect::<Result<_, _>>().map(Transports)
}

/// Parses a duration such as `500ms` or `1m 30s`, or a number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string());
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; use a form such as 500ms, 10s or 1m"))
}

/// Parses a duration of more than zero, or `never`.
fn idle(text: &str) -> Result<Idle, String> {
    match text {
        "never" => Ok(Idle(None)),
        _ => match duration(text)? {
            Duration::ZERO => Err("a time of zero would disconnect every client; use never for no limit".to_owned()),
            limit => Ok(Idle(Some(limit))),
        },
    }
}

/// Parses an octal file mode.
fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        // Connecting to a socket takes the right to write.
        Ok(mode) if mode <= 0o777 && [mode >> 3 & 6, mode & 6].iter().any(|bits| !matches!(bits, 0 | 6)) => {
            Err("other users need both read and write (6) to connect, or neither (0), such as 0660 or 0666".to_owned())
        }
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("not an octal file mode of at most 0777, such as 0660".to_owned()),
    }
}

/// Parses a number of at least 1.
fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("not a whole number of at least 1".to_owned()),
    }
}

/// Parses a number of bytes, such as `65536`, `64K`, `16M` or `1G` (powers of 1024).
fn bytes(text: &str) -> Result<usize, String> {
    let (number, factor) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(number) if text.ends_with('K') => (number, 1 << 10),
        Some(number) if text.ends_with('M') => (number, 1 << 20),
        Some(number) => (number, 1 << 30),
        None => (text, 1),
    };
    number
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| "not a number of bytes, such as 65536, 64K or 16M".to_owned())
}

/// Parses the number of a group, or its name in the databases of the system.
fn group(text: &str) -> Result<u32, String> {
    match text.parse() {
        // chown(2) takes this number, (gid_t) -1, for "leave the group unchanged".
        Ok(u32::MAX) => Err("this number is not a group".to_owned()),
        Ok(gid) => Ok(gid),
        Err(_) => match sys::group_id(text) {
            Ok(Some(gid)) => Ok(gid),
            Ok(None) => Err("no such group; `getent group` lists the groups of this machine".to_owned()),
            Err(error) => Err(format!("looking up the group: {error}; use its number")),
        },
    }
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

    #[test]
    fn values_with_units_are_parsed() {
        assert_eq!(bytes("65536"), Ok(65536));
        assert_eq!(bytes("64K"), Ok(65536));
        assert_eq!(bytes("16M"), Ok(16 << 20));
        assert!(bytes("K").is_err() && bytes("-1").is_err() && bytes("99999999999999G").is_err());
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert!(duration("soon").is_err() && duration("-1").is_err());
        assert_eq!(mode("0660"), Ok(0o660));
        assert!(mode("rw").is_err() && mode("1777").is_err());
        assert_eq!((group("0"), group("root")), (Ok(0), Ok(0)));
        assert!(group("4294967295").is_err() && group("4294967296").is_err() && group("no such group").is_err());
        assert_eq!((idle("never"), idle("1m")), (Ok(Idle(None)), Ok(Idle(Some(Duration::from_secs(60))))));
        assert!(idle("0s").is_err() && idle("soon").is_err());
        assert_eq!(transports("unix,fifo").unwrap().0, [Transport::Unix, Transport::Fifo]);
        assert_eq!(transports("all").unwrap().0, Transport::ALL);
        assert!(transports("unix,pigeon").is_err() && transports("").is_err());
    }
}
