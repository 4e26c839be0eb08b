//! Finding a server by its name: through the bases, through the transports on offer, and until it is there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fs::inotify;
use std::os::fd::{AsFd, OwnedFd};

use crate::address::Address;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind, Result};
use crate::name::lock::{self, Holder};
use crate::name::{self, Found, base};
use crate::options::ConnectOptions;
use crate::transport::{Attempt, ClientTerms, Link, Transport, connect as attempt};
use crate::wait::{Deadline, pause, wait_for};

/// How long to rest between two attempts at a server that is there and has no time: as short as a server that is about
/// to listen needs, and growing.
const REST_MIN: Duration = Duration::from_millis(1);
const REST_MAX: Duration = Duration::from_millis(200);

/// How often to look again where changes cannot be watched.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(crate) fn connect(address: &str, options: &ConnectOptions) -> Result<Connection> {
    let address = Address::parse(address)?;
    let terms = options.terms();
    let waiting = Deadline::after(options.wait_for_server);
    let mut deadline = Deadline::after(options.timeout);
    let mut rest = REST_MIN;
    let mut watch: Option<Watch> = None;
    let quoted: Arc<str> = format!("'{}'", address.name()).into();
    let failed = |error: std::io::Error| Error::io("connect to", &*quoted, error);
    loop {
        match try_bases(&address, &terms, deadline) {
            Ok(link) => {
                tracing::debug!(%address, transport = %link.transport, peer = %link.peer, "connected");
                return Ok(Connection::new(link, quoted, options.yields));
            }
            Err(Attempt::Failed(error)) => return Err(error),
            Err(Attempt::Again(error)) => {
                pause(rest, deadline).map_err(failed)?;
                rest = (rest * 2).min(REST_MAX);
                // An attempt without time would fail for that alone, and hide the reason.
                if deadline.is_over() {
                    return Err(error);
                }
            }
            Err(Attempt::Absent(error)) => {
                if waiting.is_over() {
                    return Err(error);
                }
                if let Some(watch) = &watch {
                    watch.wait(waiting).map_err(failed)?;
                    // The bases are busy directories at times; what happens there need not concern us.
                    pause(REST_MIN, waiting).map_err(failed)?;
                }
                // What appears between an attempt and the watch is found by the next attempt.
                watch.get_or_insert_with(Watch::new).renew(&address)?;
                deadline = Deadline::after(options.timeout);
                rest = REST_MIN;
            }
        }
    }
}

/// One attempt at each base in turn.
fn try_bases(address: &Address, terms: &ClientTerms, deadline: Deadline) -> Result<Link, Attempt> {
    let mut unsafe_base = None;
    let mut absent = None;
    let mut looked = Vec::new();
    for candidate in base::candidates(Some(address))? {
        let found = match name::find(&candidate, address.name(), &terms.trust()) {
            Ok(Some(found)) => found,
            Ok(None) => {
                looked.push(candidate.path.display().to_string());
                continue;
            }
            // A base that somebody else could tamper with is not entered. A server in a later one is still ours.
            Err(error) => {
                tracing::warn!(%error, "base passed over");
                unsafe_base.get_or_insert(error);
                continue;
            }
        };
        match try_transports(address, &found, terms, deadline) {
            Err(Attempt::Absent(error)) => absent = absent.or(Some(error)),
            outcome => return outcome,
        }
    }
    Err(match (absent, unsafe_base) {
        // Fail closed: whoever made that base may want us to believe that nobody is there.
        (_, Some(error)) => Attempt::Failed(error),
        (Some(error), None) => Attempt::Absent(error),
        (None, None) => Attempt::Absent(
            Error::new(
                ErrorKind::NoServer,
                "connect to",
                format!("'{}'", address.name()),
                format!("nobody has this name (looked in {})", looked.join(", ")),
            )
            .next("start the server, or see `parlour path` for where it would be"),
        ),
    })
}

/// One attempt at each transport that the address allows and the directory has, best first.
fn try_transports(address: &Address, found: &Found, terms: &ClientTerms, deadline: Deadline) -> Result<Link, Attempt> {
    if let Some(transport) = address.transport() {
        return attempt(transport, found, terms, deadline).map_err(|error| explain(error, transport, found));
    }
    let mut last = None;
    for &transport in Transport::ALL {
        match attempt(transport, found, terms, deadline) {
            Ok(link) => return Ok(link),
            Err(Attempt::Absent(error)) => {
                last.get_or_insert(Attempt::Absent(error));
            }
            // Somebody is there. That another transport may do is no reason to hide what is wrong with this one when it
            // does not.
            Err(outcome) => {
                let (Attempt::Again(error) | Attempt::Absent(error) | Attempt::Failed(error)) = &outcome;
                tracing::info!(%transport, %error, "falling back to the next transport");
                if !matches!(last, Some(Attempt::Again(_) | Attempt::Failed(_))) {
                    last = Some(outcome);
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| Attempt::Absent(nobody(found))))
}

fn nobody(found: &Found) -> Error {
    let path = found.path.display().to_string();
    Error::new(ErrorKind::NoServer, "connect to", path, "nobody serves it").next("start the server")
}

/// A server that is there and does not offer the transport is another thing than no server.
fn explain(outcome: Attempt, transport: Transport, found: &Found) -> Attempt {
    let Attempt::Absent(error) = outcome else { return outcome };
    match lock::look(&found.directory, &found.path) {
        Ok(Holder::Live(Some(owner))) if !owner.transports.contains(&transport) => {
            let offered: Vec<_> = owner.transports.iter().map(ToString::to_string).collect();
            let detail = format!("its server ({owner}) offers {} and not {transport}", offered.join(", "));
            let path = found.path.display().to_string();
            Attempt::Absent(
                Error::new(ErrorKind::NoServer, "connect to", path, detail)
                    .next(format!("connect without '{transport}:', or have the server offer it too")),
            )
        }
        _ => Attempt::Absent(error),
    }
}

/// Tells when something happens where the server could appear.
struct Watch {
    /// `None` where no more watches can be had: then the caller looks again from time to time.
    inotify: Option<OwnedFd>,
}

impl Watch {
    fn new() -> Self {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        Self { inotify: inotify::init(flags).ok() }
    }

    /// Watches what is there now. (Closing an inotify instance can take the kernel some milliseconds, so it is kept; a
    /// directory that is watched already stays so.)
    fn renew(&mut self, address: &Address) -> Result<()> {
        let Some(inotify) = &self.inotify else { return Ok(()) };
        let mut watched_all = true;
        for candidate in base::candidates(Some(address))? {
            let path = candidate.path.join(address.name());
            watched_all &= path.ancestors().any(|directory| add(inotify, directory));
        }
        if !watched_all {
            self.inotify = None;
        }
        Ok(())
    }

    fn wait(&self, deadline: Deadline) -> std::io::Result<()> {
        let Some(inotify) = &self.inotify else { return pause(LOOK_AGAIN, deadline) };
        wait_for(inotify.as_fd(), PollFlags::IN, deadline)?;
        // What happened is of no interest, only that something did.
        let mut events = [0; 4096];
        while matches!(rustix::io::read(inotify, &mut events), Ok(count) if count > 0) {}
        Ok(())
    }
}

/// Watches the nearest directory that is there: what is missing will appear in it.
fn add(inotify: &OwnedFd, directory: &Path) -> bool {
    use inotify::WatchFlags as Watch;
    let events = Watch::CREATE | Watch::MOVED_TO | Watch::ATTRIB | Watch::DELETE_SELF | Watch::MOVE_SELF;
    inotify::add_watch(inotify, directory, events | Watch::ONLYDIR).is_ok()
}
