//! One round through the places where a server can be: each base in order, and in each base the transports on offer.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::vec;

use rustix::fs::{AtFlags, statat};

use crate::address::Address;
use crate::backend::attempt::Attempt;
use crate::backend::config::ConnectConfig;
use crate::backend::{self, ConnectProgress, Handshake};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::limits;
use crate::name::base::{self, Candidate};
use crate::name::keeper::Kept;
use crate::name::lock::{self, Holder};
use crate::name::{self, Found};
use crate::transport::Transport;
use crate::wait::Deadline;

/// The divisor of the remaining time that a transport gets to answer if there are others to fall back to.
///
/// A server that is in `accept` answers within a millisecond, and on a crowded machine within some tens of
/// milliseconds. A server that is busy for longer may be so for ever, while another transport may not need an answer at
/// all. A fifth of the default timeout of 5 seconds is long enough for the former and leaves most of the time for a
/// transport that may succeed.
const SHARE: u32 = 5;

/// The state of one round.
pub(super) struct Round {
    candidates: vec::IntoIter<Candidate>,
    /// The base that is being tried.
    place: Option<Place>,
    /// The first error of a base, or of a directory of the name, that did not pass the checks.
    unsafe_place: Option<Error>,
    /// The first error of a system call that could not inspect a base. Nothing that happens in a directory heals it.
    failed: Option<Error>,
    /// The first error of a base without a server that can be reached.
    absent: Option<Error>,
    /// The bases that do not have the name.
    looked: Vec<String>,
    is_kept: bool,
}

impl Round {
    pub(super) fn new(address: &Address, config: &ConnectConfig) -> Result<Self> {
        Ok(Self {
            candidates: base::candidates_for_client(address, config.server_uid)?.into_iter(),
            place: None,
            unsafe_place: None,
            failed: None,
            absent: None,
            looked: Vec::new(),
            is_kept: false,
        })
    }

    /// Creates a round through the one place that is kept.
    pub(super) fn in_kept(kept: Arc<Kept>, address: &Address) -> Self {
        Self {
            candidates: Vec::new().into_iter(),
            place: Some(Place::new(Where::Kept(kept), address)),
            unsafe_place: None,
            failed: None,
            absent: None,
            looked: Vec::new(),
            is_kept: true,
        }
    }

    /// Returns true if the round leads through the one place that is kept.
    pub(super) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Continues the round, with the handshake that the caller waited for. Returns when a connection is established,
    /// when a handshake has to wait, or when no place is left.
    pub(super) fn go_on(
        &mut self,
        address: &Address,
        config: &ConnectConfig,
        deadline: Deadline,
        mut handshake: Option<Handshake>,
    ) -> Result<ConnectProgress, Attempt> {
        loop {
            let place = match &mut self.place {
                Some(place) => place,
                None => match self.next_place(address, config) {
                    Some(place) => self.place.insert(place),
                    None => return Err(self.nobody(address)),
                },
            };
            match place.go_on(config, deadline, handshake.take()) {
                Err(Attempt::Absent(error)) => {
                    self.absent.get_or_insert(error);
                    self.place = None;
                }
                outcome => return outcome,
            }
        }
    }

    fn next_place(&mut self, address: &Address, config: &ConnectConfig) -> Option<Place> {
        for candidate in self.candidates.by_ref() {
            match name::find(&candidate, address.name(), &config.trust()) {
                Ok(Some(found)) => return Some(Place::new(Where::Found(found), address)),
                Ok(None) => self.looked.push(candidate.path.display().to_string()),
                // A base that another user could tamper with is not entered. A server in a later base may still be
                // genuine.
                Err(error) => {
                    tracing::warn!(%error, "base directory skipped");
                    match error.kind() {
                        ErrorKind::UnsafeDirectory | ErrorKind::Denied => self.unsafe_place.get_or_insert(error),
                        _ => self.failed.get_or_insert(error),
                    };
                }
            }
        }
        None
    }

    /// Returns the error for a round that has found no server. An unsafe directory is one that another user may have
    /// created, to end the search or to hide the server. Therefore it ends neither the round nor the wait for a server,
    /// and the error names it.
    fn nobody(&mut self, address: &Address) -> Attempt {
        if let Some(error) = self.failed.take() {
            return Attempt::Failed(error);
        }
        let searched = match &self.looked[..] {
            [] => String::new(),
            // The caller has chosen it.
            [only] if !Path::new(only).exists() => format!(" (searched {only}, which does not exist)"),
            several => format!(" (searched {})", several.join(", ")),
        };
        Attempt::Absent(match (self.unsafe_place.take(), self.absent.take()) {
            (Some(error), None) if self.looked.is_empty() => error,
            (Some(error), _) => error.note(format!("elsewhere no server has the name '{}'{searched}", address.name())),
            (None, Some(error)) => error,
            (None, None) => Error::new(
                ErrorKind::NoServer,
                Operation::Connect,
                format!("'{}'", address.name()),
                format!("no server has this name{searched}"),
            )
            .next("start the server, or run `parlour path` to see where it would be"),
        })
    }
}

/// A directory of the name.
#[allow(clippy::large_enum_variant, reason = "a client has one of them, and a box would be one more allocation")]
enum Where {
    /// One that this round has found.
    Found(Found),
    /// One that an earlier search has found, to which nothing has happened since.
    Kept(Arc<Kept>),
}

impl Deref for Where {
    type Target = Found;

    fn deref(&self) -> &Found {
        match self {
            Self::Found(found) => found,
            Self::Kept(kept) => kept.found(),
        }
    }
}

/// The directory of the name in one base, and the transports that are tried in it, best first.
struct Place {
    found: Where,
    /// The address demands a transport.
    demanded: bool,
    transports: Vec<Transport>,
    /// The number of transports that were tried.
    tried: usize,
    /// The first failure of a transport whose server exists.
    failure: Option<Attempt>,
}

impl Place {
    fn new(found: Where, address: &Address) -> Self {
        let demanded = address.transport();
        let transports = demanded.map_or_else(|| Transport::ALL.to_vec(), |transport| vec![transport]);
        Self { found, demanded: demanded.is_some(), transports, tried: 0, failure: None }
    }

    fn go_on(
        &mut self,
        config: &ConnectConfig,
        deadline: Deadline,
        mut handshake: Option<Handshake>,
    ) -> Result<ConnectProgress, Attempt> {
        loop {
            let (transport, outcome) = match handshake.take() {
                Some(handshake) => (handshake.transport(), handshake.step(&self.found, config)),
                None => {
                    let Some(&transport) = self.transports.get(self.tried) else {
                        return Err(self.failure.take().unwrap_or_else(|| Attempt::Absent(nobody(&self.found))));
                    };
                    self.tried += 1;
                    let may_take_long = transport.needs_accept() || config.may_sleep;
                    let deadline = match may_take_long && self.has_others() {
                        true => deadline.or_after(share_of(deadline)),
                        false => deadline,
                    };
                    (transport, backend::connect(transport, &self.found, config, deadline))
                }
            };
            match outcome {
                Ok(progress) => return Ok(progress),
                Err(attempt) if self.demanded => return Err(explain(attempt, transport, &self.found)),
                Err(attempt) => self.note(transport, attempt),
            }
        }
    }

    /// Returns true if another transport is on offer to fall back to.
    fn has_others(&self) -> bool {
        self.transports[self.tried..]
            .iter()
            .any(|other| statat(&self.found.directory, other.file_name(), AtFlags::SYMLINK_NOFOLLOW).is_ok())
    }

    /// Keeps the failure of a transport for the case that no other transport succeeds. Where no transport has a server,
    /// the error is about the name: the client has demanded none of them.
    fn note(&mut self, transport: Transport, attempt: Attempt) {
        match &attempt {
            Attempt::Absent(_) => {}
            // A server exists.
            Attempt::Again(error) | Attempt::Failed(error) => {
                tracing::info!(%transport, %error, "falling back to the next transport");
                self.failure.get_or_insert(attempt);
            }
        }
    }
}

fn share_of(deadline: Deadline) -> Duration {
    deadline.left().unwrap_or(limits::HANDSHAKE_TIMEOUT) / SHARE
}

fn nobody(found: &Found) -> Error {
    let path = found.path.display().to_string();
    Error::new(ErrorKind::NoServer, Operation::Connect, path, "no server holds this name").next("start the server")
}

/// Replaces the error for a demanded transport that a live server does not offer, which differs from having no server.
fn explain(outcome: Attempt, transport: Transport, found: &Found) -> Attempt {
    let Attempt::Absent(error) = outcome else { return outcome };
    match lock::look(&found.directory, &found.path) {
        Ok(Holder::Live(Some(owner))) if !owner.transports.contains(&transport) => {
            let offered: Vec<_> = owner.transports.iter().map(ToString::to_string).collect();
            let detail = format!("its server ({owner}) offers {} and not {transport}", offered.join(", "));
            let path = found.path.display().to_string();
            Attempt::Absent(
                Error::new(ErrorKind::NoServer, Operation::Connect, path, detail)
                    .next(format!("connect without '{transport}:', or have the server offer it too")),
            )
        }
        _ => Attempt::Absent(error),
    }
}
