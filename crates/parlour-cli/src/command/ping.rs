//! `parlour ping`: checks that a server answers, and measures how fast.
//!
//! The answer is the end of the connection: the client ends its side without a message, and the server ends its own
//! once it has read that. So no server takes a ping for a request, and the whole way through the server is measured.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Connection, ErrorKind, Transport};
use rustix::net::{SocketAddrUnix, getsockname};
use serde::Serialize;

use super::holder::{self, Wanted};
use crate::args::Ping;
use crate::exit::{self, Failure};
use crate::output;

/// The result as `--json` prints it.
#[derive(Serialize)]
struct Report {
    address: String,
    /// `answered`, or how far the last connection got: `no-server`, `refused`, `busy`, `stopped`, `not-accepted`,
    /// `not-read`, `no-answer` or `failed`.
    state: &'static str,
    transport: Option<String>,
    /// The process and the user of the server, as the transport shows them.
    pid: Option<u32>,
    uid: Option<u32>,
    pings: Vec<Measured>,
}

/// The times of one connection that was answered.
#[derive(Serialize)]
struct Measured {
    /// The time to connect, in microseconds.
    connected_us: f64,
    /// The time from then to the answer, in microseconds.
    answered_us: f64,
}

/// A connection without an answer.
struct NoAnswer {
    state: &'static str,
    error: anyhow::Error,
}

pub(super) fn run(args: &Ping) -> anyhow::Result<()> {
    let address = args.address.clone();
    let mut report = Report { address, state: "answered", transport: None, pid: None, uid: None, pings: Vec::new() };
    let mut outcome = Ok(());
    for _ in 0..args.count {
        match ping(args, &mut report) {
            Ok(measured) if args.json => report.pings.push(measured),
            Ok(measured) => {
                print(&report, &measured)?;
                report.pings.push(measured);
            }
            Err(NoAnswer { state, error }) => {
                report.state = state;
                outcome = Err(error);
                break;
            }
        }
    }
    if args.json {
        output::json(&report)?;
    } else if report.pings.len() > 1 {
        output::line(summary(&report.pings))?;
    }
    outcome
}

/// Makes one connection and waits for the answer.
fn ping(args: &Ping, report: &mut Report) -> Result<Measured, NoAnswer> {
    let begin = Instant::now();
    let mut options = ConnectOptions::new().timeout(args.timeout);
    if let Some(uid) = args.server_uid {
        options = options.server_uid(uid);
    }
    let mut connection = options.connect(&args.address).map_err(|error| not_connected(args, error))?;
    let connected = begin.elapsed();
    report.transport = Some(connection.transport().to_string());
    (report.pid, report.uid) = (connection.peer().pid(), connection.peer().uid());

    let answer = answer(&mut connection, args.message.as_deref(), args.timeout.saturating_sub(connected));
    let answered = begin.elapsed().saturating_sub(connected);
    match answer {
        Ok(true) => Ok(Measured { connected_us: micros(connected), answered_us: micros(answered) }),
        Ok(false) => {
            let text = format!("the server of `{}` ({}) ended without an answer", args.address, connection.peer());
            Err(NoAnswer { state: "no-answer", error: Failure::new(exit::DISCONNECTED, text).into() })
        }
        Err(error) if error.kind() == ErrorKind::TimedOut => Err(silent(args, &connection)),
        Err(error) if error.kind() == ErrorKind::Refused => Err(NoAnswer { state: "refused", error: error.into() }),
        Err(error) if error.kind() == ErrorKind::Busy => Err(NoAnswer { state: "busy", error: error.into() }),
        Err(error) => Err(NoAnswer { state: "failed", error: error.into() }),
    }
}

/// Waits for the answer to a message, or else to the end of this side. Returns false if the server ends its side
/// without a reply to the message.
fn answer(connection: &mut Connection, message: Option<&OsStr>, timeout: Duration) -> parlour::Result<bool> {
    let deadline = Instant::now().checked_add(timeout);
    let left = || deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
    let sent = message.map_or(Ok(()), |message| connection.send_timeout(message.as_bytes(), timeout));
    match sent.and_then(|()| connection.finish_timeout(left())) {
        // A server may reply and disconnect without reading the message.
        Err(error) if error.kind() != ErrorKind::Disconnected => return Err(error),
        _ => {}
    }
    Ok(connection.recv_timeout(left())?.is_some() || message.is_none())
}

/// Returns the result for a server to which no connection came about.
fn not_connected(args: &Ping, error: parlour::Error) -> NoAnswer {
    let state = match error.kind() {
        ErrorKind::NoServer => "no-server",
        ErrorKind::Refused | ErrorKind::Denied => "refused",
        ErrorKind::TimedOut | ErrorKind::Busy if holder::is_stopped(holder::of(args.into()).as_ref()) => "stopped",
        ErrorKind::Busy => "busy",
        ErrorKind::TimedOut => "not-accepted",
        _ => "failed",
    };
    NoAnswer { state, error: holder::explain(args.into(), None, error.into()) }
}

/// Returns the result for a server that stays silent on a connection.
fn silent(args: &Ping, connection: &Connection) -> NoAnswer {
    let holder = holder::of(args.into());
    let (state, what) = match is_queued(args.into(), connection) {
        _ if holder::is_stopped(holder.as_ref()) => ("stopped", "does not answer"),
        Some(true) => ("not-accepted", "does not accept the connection"),
        Some(false) if args.message.is_some() => ("no-answer", "has accepted the connection, but does not reply"),
        Some(false) => {
            ("not-read", "has accepted the connection, but does not read (or does not end it with its client)")
        }
        None => ("no-answer", "does not answer"),
    };
    let timeout = humantime::format_duration(args.timeout);
    let who = match &holder {
        Some(holder) => holder::condition(holder),
        None => format!("the server is {}", connection.peer()),
    };
    let text = format!("the server of `{}` {what} within {timeout}: {who}", args.address);
    NoAnswer { state, error: Failure::new(exit::TIMED_OUT, text).into() }
}

/// Returns true if the connection still waits for the server to accept it. Returns `None` if that cannot be seen.
///
/// Over `shm` and `fifo`, the server takes part in the handshake. Over `unix` and `packet`, the kernel connects, and
/// the server removes the file of the client when it accepts (docs/wire.md). A client of another user has no file.
fn is_queued(wanted: Wanted<'_>, connection: &Connection) -> Option<bool> {
    if !matches!(connection.transport(), Transport::Unix | Transport::Packet) {
        return Some(false);
    }
    let own = SocketAddrUnix::try_from(getsockname(connection.recv_fd()).ok()?).ok()?;
    let file = Path::new(OsStr::from_bytes(own.path_bytes()?)).file_name()?.to_owned();
    let name = holder::resolve(wanted).ok()?.client.ok()?;
    name.join("c").join(file).try_exists().ok()
}

fn print(report: &Report, Measured { connected_us, answered_us }: &Measured) -> anyhow::Result<()> {
    let transport = output::or_dash(report.transport.as_ref());
    let (pid, uid) = (output::or_dash(report.pid), output::or_dash(report.uid));
    let (connected, answered) = (Micros(*connected_us), Micros(*answered_us));
    output::line(format_args!(
        "{}: pid {pid}, uid {uid}, {transport}: connected in {connected}, answered in {answered}",
        report.address
    ))
}

fn summary(pings: &[Measured]) -> String {
    let mut times: Vec<f64> = pings.iter().map(|ping| ping.answered_us).collect();
    times.sort_by(f64::total_cmp);
    let at = |index: usize| Micros(times.get(index).copied().unwrap_or_default());
    let (fastest, median, slowest) = (at(0), at(times.len() / 2), at(times.len() - 1));
    format!("answers: {}, fastest {fastest}, median {median}, slowest {slowest}", times.len())
}

fn micros(time: Duration) -> f64 {
    // One decimal: the times of two pings differ by more than that.
    (time.as_secs_f64() * 1e7).round() / 10.0
}

/// A number of microseconds, for people.
struct Micros(f64);

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            us if us < 1e3 => write!(f, "{us:.1} \u{b5}s"),
            us if us < 1e6 => write!(f, "{:.2} ms", us / 1e3),
            us => write!(f, "{:.2} s", us / 1e6),
        }
    }
}
