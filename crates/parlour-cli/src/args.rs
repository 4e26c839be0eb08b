//! What was typed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, ArgGroup, CommandFactory, Parser, Subcommand, ValueEnum};
use parlour::Transport;

use crate::exit;

const ABOUT: &str = "Local client/server messaging by name";

const LONG_ABOUT: &str = "Local client/server messaging by name.\n\n\
    A server takes a name. Clients that know the name find it, and each gets its own private two-way channel of \
    messages. There is nothing to configure, no broker, and nothing to clean up after a crash.\n\n\
    An ADDRESS is NAME, TRANSPORT:NAME or TRANSPORT:/ABSOLUTE/DIRECTORY/NAME; a NAME has up to 64 letters, digits, \
    '_', '-' and '.', and does not begin with a '.'. The transports are shm, packet, unix and fifo.\n\n\
    Data goes to stdout, everything else to stderr.";

/// The variables that the program reads.
pub(crate) const ENVIRONMENT: [(&str, &str); 2] = [
    ("PARLOUR_DIR", "the one directory to look for names in, instead of the usual ones (see `parlour path`)"),
    ("PARLOUR_LOG", "what to tell on stderr: off, error, warn, info, debug or trace"),
];

/// A whole command line.
#[derive(Debug, Parser)]
#[command(name = "parlour", version, about = ABOUT, long_about = LONG_ABOUT, after_long_help = after_help())]
#[command(disable_help_subcommand = true, max_term_width = 110)]
pub(crate) struct Args {
    /// Tell on stderr what happens; twice or three times tells more
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(Demo),
    Serve(Box<Serve>),
    Connect(Connect),
    Call(Call),
    List(List),
    Path(Path),
    Clean(Clean),
    Doctor(Doctor),
    Bench(Bench),
    Completions(Completions),
    Man(Man),
    /// One process of the demo
    #[command(hide = true)]
    DemoServer(DemoServer),
    /// One process of the demo
    #[command(hide = true)]
    DemoClient(DemoClient),
    /// One process of the benchmark
    #[command(hide = true)]
    BenchRole(BenchRole),
}

/// Show that all of it works here, in a few seconds, and how fast
///
/// Starts real processes: for each transport a server under a name of its own and four clients, each of which sends
/// every line of a text and checks every reply. Then a server is killed in the middle of a conversation, and another
/// takes its name at once; and a second server is refused. Works in a temporary directory; leaves no file and no
/// process. Exits with 0 only if all of it held.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// Send the lines of this file (- is stdin) instead of the text that the program carries
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,

    /// Print one JSON document at the end
    #[arg(long)]
    pub(crate) json: bool,
}

/// Take a name, and echo or run a program for each client
///
/// With a program, one process runs per client: each message is a line on its stdin, each line of its stdout is a
/// message, its stderr is ours. (A message that has newlines in it is as many lines.) When the client has sent its
/// last message the program's stdin is closed; when the program closes its stdout the client is told that nothing more
/// comes; when either is gone, so is the other: a program that stays although its client is gone gets SIGTERM one
/// second later, and SIGKILL two seconds after that. If this server itself is killed, its programs see the end of
/// their input.
///
/// The program's environment says who the client is. As s6-ipcserver sets them: PROTO (IPC), IPCREMOTEEUID,
/// IPCREMOTEEGID, IPCREMOTEPATH (empty), IPCCONNNUM (how many clients this user has, this one included). And:
/// PARLOUR_NAME, PARLOUR_TRANSPORT, PARLOUR_PEER_PID, PARLOUR_PEER_UID, PARLOUR_PEER_GID, and what vouches for each of
/// those three in PARLOUR_PEER_PID_VOUCHED and so on. What is not known is not set.
///
/// Prints one line when clients may come: `ready NAME TRANSPORTS DIRECTORY`.
///
/// SIGINT and SIGTERM stop it: the name is given up at once, so that the next server can take it; conversations that
/// are open may go on until --grace is over; then, or with a second signal, the programs are ended. The exit code is 0
/// in each case.
///
/// Under a service manager: with --activated it serves on the sockets of a socket unit, whose path says the name, such
/// as ListenStream=%t/parlour/NAME/unix. It tells the socket in $NOTIFY_SOCKET when clients may come (READY=1) and when
/// no more may (STOPPING=1), as Type=notify wants it.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("what").required(true).args(["echo", "program"]))]
#[command(override_usage = "parlour serve [OPTIONS] <ADDRESS> --echo\n       \
    parlour serve [OPTIONS] <ADDRESS> -- <PROGRAM> [ARGS]...\n       \
    parlour serve [OPTIONS] --activated -- <PROGRAM> [ARGS]...")]
pub(crate) struct Serve {
    /// The name to take
    #[arg(value_name = "ADDRESS", required_unless_present = "activated")]
    pub(crate) address: Option<String>,

    /// Serve on the sockets that the service manager hands over (LISTEN_FDS); where they lie says which name
    #[arg(long, conflicts_with_all = ["address", "mode", "group"])]
    pub(crate) activated: bool,

    /// Of the sockets handed over, only those with this name (FileDescriptorName= in the socket unit)
    #[arg(long, value_name = "NAME", requires = "activated", conflicts_with = "address")]
    pub(crate) fd_name: Option<String>,

    /// The transports to offer, such as unix,fifo, or all of them: all. Otherwise the one in the address, or unix
    #[arg(long, value_name = "TRANSPORTS", value_parser = transports)]
    pub(crate) on: Option<Transports>,

    /// Send every message back
    #[arg(long)]
    pub(crate) echo: bool,

    /// Pass bytes as they come: a message is what one read of the program's stdout gave, and nothing is added to what
    /// its stdin gets
    #[arg(long, conflicts_with = "echo")]
    pub(crate) raw: bool,

    /// Who may connect, as a file mode: 0600 (the same user) unless told otherwise, 0660 (the group too), 0666
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub(crate) mode: Option<u32>,

    /// The group that owns the socket: a name or a number
    #[arg(long, value_name = "GROUP", value_parser = group)]
    pub(crate) group: Option<u32>,

    /// Clients at once; more are refused
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) clients: Option<usize>,

    /// Clients at once of one user; more are refused
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) clients_per_user: Option<usize>,

    /// The longest message, in bytes, or with K, M or G after the number
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) message_max: Option<usize>,

    /// How long a client may take to connect, such as 5s
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) handshake_timeout: Option<Duration>,

    /// How long open conversations may go on after SIGINT or SIGTERM; a second signal ends them at once
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    pub(crate) grace: Duration,

    /// Whether a client on unix shows a socket file of its own: checked if it does, required, or ignored
    #[arg(long, value_name = "POLICY", value_enum)]
    pub(crate) client_file: Option<ClientFile>,

    /// The program to run for each client, and its arguments
    #[arg(last = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

/// A list of transports: one argument, whatever their number.
#[derive(Clone, Debug)]
pub(crate) struct Transports(pub(crate) Vec<Transport>);

/// What is asked of the file that a client binds.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ClientFile {
    /// Check it when there is one
    Check,
    /// Refuse a client without one
    Require,
    /// Do not look at it
    Ignore,
}

/// Talk to a server: lines of stdin are messages, replies are lines on stdout
///
/// At the end of stdin the server is told that nothing more comes, and the rest of its replies is printed. A last line
/// without a newline is a message too; bytes that are not UTF-8 pass as they are. Exits with 7 when the server goes
/// away before all of stdin was sent, or, where the transport can tell (unix), before it has read all of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Connect {
    /// The server's name
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Send one message and print the one reply
#[derive(Debug, clap::Args)]
pub(crate) struct Call {
    /// The server's name
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    /// The message; all of stdin, as it is, if there is none or it is -
    #[arg(value_name = "MESSAGE")]
    pub(crate) message: Option<OsString>,

    /// Print the reply without a newline after it
    #[arg(long)]
    pub(crate) raw: bool,

    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// How to reach a server.
#[derive(Debug, clap::Args)]
pub(crate) struct Reach {
    /// Give up after this long, such as 500ms or 10s. `connect` counts until it is connected (5s unless told
    /// otherwise), `call` until it has its reply (connecting takes 5s at most unless told otherwise)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,

    /// Wait this long for a server that is not there yet
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,

    /// Talk only to a server of this uid, instead of one of our own or of root
    #[arg(long, value_name = "UID")]
    pub(crate) server_uid: Option<u32>,

    /// The longest message to send or to receive, in bytes, or with K, M or G after the number
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) message_max: Option<usize>,
}

/// Show every name, who holds it, and whether it is live
///
/// STATE is live, waiting (a service manager listens, and starts the server when a client comes), dead (its server has
/// ended or was killed: the next one simply takes the name), foreign (another user's: whether it is served cannot be
/// told) or unsafe (wrong owner or mode: nothing will use it). Of a dead name the table shows who held it last if that
/// server was killed.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "ls")]
pub(crate) struct List {
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show what a name resolves to, and why
#[derive(Debug, clap::Args)]
pub(crate) struct Path {
    /// The name
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Remove what dead servers left, and nothing else
///
/// This is never needed for a server to start. Only what is proven dead is removed: a server that holds its name, a
/// name of another user and a directory that is not safe stay untouched.
#[derive(Debug, clap::Args)]
pub(crate) struct Clean {
    /// The names to look at, all if none is given
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// Check directories, limits and the kernel, and say how to mend what is wrong
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Measure how fast messages go on this machine, over each transport
///
/// Two processes send messages there and back, and one way, over each transport in turn and over a bare UNIX socket,
/// in shuffled rounds; the ratios to that socket are taken within a round. Takes less than a minute, and leaves no file
/// and no process. What else runs on the machine is measured as well: let it be quiet.
#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// How often each transport has a turn at each kind of work: more of them make the figures steadier
    #[arg(long, value_name = "N", default_value = "5")]
    pub(crate) rounds: u32,

    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print the completions for a shell
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Print the manual page, for `man -l -`
#[derive(Debug, clap::Args)]
pub(crate) struct Man {}

/// One server process of the demo.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoServer {
    pub(crate) address: String,
}

/// One client process of the demo.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoClient {
    pub(crate) address: String,
    /// The lines to send.
    pub(crate) input: PathBuf,
    /// Start again with the first line for as long as the server is there.
    #[arg(long)]
    pub(crate) endless: bool,
}

/// One process of the benchmark.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchRole {
    pub(crate) role: String,
}

/// Parses this process's command line. The error is also how help and version come out.
pub(crate) fn parse() -> Result<Args, clap::Error> {
    Args::try_parse()
}

/// The definition as users see it, for completions and the manual page: without the demo's own processes.
pub(crate) fn definition() -> clap::Command {
    let mut whole = Args::command();
    whole.build();
    let shown: Vec<_> = whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect();
    clap::Command::new("parlour")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .after_long_help(after_help())
        .disable_help_subcommand(true)
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

/// `unix,fifo`, or `all`.
fn transports(text: &str) -> Result<Transports, String> {
    if text == "all" {
        return Ok(Transports(Transport::ALL.to_vec()));
    }
    let parse = |name: &str| name.parse().map_err(|error: parlour::ParseTransportError| error.to_string());
    text.split(',').map(parse).collect::<Result<_, _>>().map(Transports)
}

/// `500ms`, `1m 30s`, or a plain number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string());
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; write 500ms, 10s or 1m"))
}

/// An octal file mode.
fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("not an octal file mode of at most 0777, such as 0660".to_owned()),
    }
}

/// At least one.
fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("not a number of at least 1".to_owned()),
    }
}

/// A number of bytes, `64K`, `16M` or `1G` (of 1024 each).
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

/// A group's number, or its name as `/etc/group` has it.
fn group(text: &str) -> Result<u32, String> {
    if let Ok(gid) = text.parse() {
        return Ok(gid);
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    groups
        .lines()
        .filter_map(|line| line.split(':').collect::<Vec<_>>().try_into().ok())
        .find_map(|[name, _password, gid, _members]: [&str; 4]| (name == text).then(|| gid.parse().ok())?)
        .ok_or_else(|| "no such group in /etc/group; give its number".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
        definition().debug_assert();
    }

    #[test]
    fn sizes_and_times_are_read_as_people_write_them() {
        assert_eq!(bytes("65536"), Ok(65536));
        assert_eq!(bytes("64K"), Ok(65536));
        assert_eq!(bytes("16M"), Ok(16 << 20));
        assert!(bytes("K").is_err() && bytes("-1").is_err() && bytes("99999999999999G").is_err());
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert!(duration("soon").is_err() && duration("-1").is_err());
        assert_eq!(mode("0660"), Ok(0o660));
        assert!(mode("rw").is_err() && mode("1777").is_err());
        assert_eq!(group("0"), Ok(0));
        assert_eq!(transports("unix,fifo").unwrap().0, [Transport::Unix, Transport::Fifo]);
        assert_eq!(transports("all").unwrap().0, Transport::ALL);
        assert!(transports("unix,pigeon").is_err() && transports("").is_err());
    }
}
