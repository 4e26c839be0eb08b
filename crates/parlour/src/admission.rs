//! Admission of clients: the policy, the limits on connections, and the counts behind them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::peer::Peer;
use crate::sys::fork_mutex::{ForkMutex, Locked};
use crate::transport::Transport;
use crate::wire::hello::Reason;

/// A client that a server refused, and why.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// The transport over which the client connected.
    pub transport: Transport,
    /// The identity of the client, if it was known by then.
    pub peer: Option<Peer>,
    /// The reason, for programs.
    pub reason: RefusalReason,
    /// The reason in words, for people and logs.
    pub detail: String,
    /// The time of the refusal.
    pub at: SystemTime,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.peer {
            Some(peer) => write!(f, "{peer} over {}: {}", self.transport, self.detail),
            None => write!(f, "unknown client over {}: {}", self.transport, self.detail),
        }
    }
}

/// The reason why a server refused a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalReason {
    /// The policy ([`allow`](crate::ServerOptions::allow)), or the mode of the socket, does not admit the client.
    Policy,
    /// A limit on connections or on handshakes was reached.
    Limit,
    /// The client's own file is missing or invalid ([`ClientFilePolicy`](crate::ClientFilePolicy)).
    ClientFile,
    /// The client broke the protocol of the handshake, or disconnected during it.
    Handshake,
    /// The client did not complete the handshake in time.
    TimedOut,
    /// The server has no descriptor left for the client.
    Descriptors,
    /// Another system call of the server failed.
    System,
}

impl RefusalReason {
    /// Every reason.
    pub const ALL: &'static [Self] = &[
        Self::Policy,
        Self::Limit,
        Self::ClientFile,
        Self::Handshake,
        Self::TimedOut,
        Self::Descriptors,
        Self::System,
    ];
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Policy => "policy",
            Self::Limit => "limit",
            Self::ClientFile => "client file",
            Self::Handshake => "handshake",
            Self::TimedOut => "timed out",
            Self::Descriptors => "descriptors",
            Self::System => "system",
        })
    }
}

/// Counts of the clients of a server, since it took its name.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ServerStats {
    /// Clients that were accepted.
    pub accepted: u64,
    /// Connections that are open now.
    pub open: usize,
    /// Attempts to connect that were refused, for any reason. A client over `shm` or `fifo` that finds the server busy
    /// tries again until its deadline, and each attempt counts.
    pub refused: u64,
    /// The last refusal.
    pub last_refusal: Option<Refusal>,
    refused_by: [u64; RefusalReason::ALL.len()],
}

impl ServerStats {
    /// Returns the number of attempts to connect that were refused for this reason.
    #[must_use]
    pub fn refused_by(&self, reason: RefusalReason) -> u64 {
        self.refused_by[reason as usize]
    }
}

/// The maximum number of refusals that are queued to be reported one by one. In a flood, the others are only counted.
const QUEUED_REFUSALS_MAX: usize = 256;

/// The policy of a server: returns true if the client may connect.
pub(crate) type Policy = dyn Fn(&Peer) -> bool + Send + Sync;

/// The rules by which clients are admitted, and the counts of clients. Shared by a server's listeners and its
/// connections.
pub(crate) struct Admission {
    /// The policy of the caller. Without one, the mode of the socket decides.
    pub(crate) policy: Option<Arc<Policy>>,
    /// True if the mode lets other users connect.
    pub(crate) open_to_others: bool,
    pub(crate) connections_max: usize,
    pub(crate) connections_per_uid_max: usize,
    pub(crate) counts: ForkMutex<Counts>,
    pub(crate) refusals: ForkMutex<Refusals>,
    /// Refusals that were not reported yet. `None` if no caller asks for them.
    pub(crate) queued_refusals: ForkMutex<Option<VecDeque<Refusal>>>,
}

/// The refusals since the server took its name.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    by_reason: [u64; RefusalReason::ALL.len()],
    last: Option<Refusal>,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    accepted: u64,
    all: usize,
    per_uid: BTreeMap<Option<u32>, usize>,
}

/// The reason why a client is not admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    Denied,
    Full(String),
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("the policy does not admit the client"),
            Self::Full(limit) => f.write_str(limit),
        }
    }
}

impl Rejection {
    pub(crate) fn reason(&self) -> RefusalReason {
        match self {
            Self::Denied => RefusalReason::Policy,
            Self::Full(_) => RefusalReason::Limit,
        }
    }
}

impl Reason {
    /// Returns the reason that is sent to a refused client.
    pub(crate) fn of(reason: RefusalReason) -> Self {
        match reason {
            RefusalReason::Policy | RefusalReason::ClientFile | RefusalReason::Handshake => Self::Denied,
            RefusalReason::Limit | RefusalReason::TimedOut | RefusalReason::Descriptors => Self::Busy,
            RefusalReason::System => Self::Failed,
        }
    }
}

impl Admission {
    /// Admits a client, for as long as the permit lives, or returns why it is not admitted.
    pub(crate) fn admit(self: &Arc<Self>, peer: &Peer) -> Result<Permit, Rejection> {
        let allowed = match &self.policy {
            Some(policy) => policy(peer),
            None => self.open_to_others || peer.uid().is_some_and(is_own_or_root),
        };
        if !allowed {
            return Err(Rejection::Denied);
        }
        let mut counts = locked(&self.counts);
        if counts.all >= self.connections_max {
            return Err(Rejection::Full(format!("all {} connections are in use", self.connections_max)));
        }
        let of_uid = counts.per_uid.entry(peer.uid()).or_default();
        if *of_uid >= self.connections_per_uid_max {
            let limit = self.connections_per_uid_max;
            return Err(Rejection::Full(format!(
                "the client's user has all {limit} connections that one user may have"
            )));
        }
        *of_uid += 1;
        counts.all += 1;
        Ok(Permit { admission: Arc::clone(self), uid: peer.uid() })
    }

    /// Counts and logs a client that is refused.
    pub(crate) fn refuse(
        &self,
        transport: Transport,
        peer: Option<Peer>,
        reason: RefusalReason,
        detail: impl Into<String>,
    ) {
        let refusal = Refusal { transport, peer, reason, detail: detail.into(), at: SystemTime::now() };
        tracing::warn!(%transport, refusal = %refusal, "client refused");
        if let Some(queue) = locked(&self.queued_refusals).as_mut().filter(|queue| queue.len() < QUEUED_REFUSALS_MAX) {
            queue.push_back(refusal.clone());
        }
        let mut refusals = locked(&self.refusals);
        refusals.by_reason[reason as usize] += 1;
        refusals.last = Some(refusal);
    }

    /// Counts a client that `accept` returns.
    pub(crate) fn note_accepted(&self) {
        locked(&self.counts).accepted += 1;
    }

    pub(crate) fn stats(&self) -> ServerStats {
        let (accepted, open) = {
            let counts = locked(&self.counts);
            (counts.accepted, counts.all)
        };
        let refusals = locked(&self.refusals);
        ServerStats {
            accepted,
            open,
            refused: refusals.by_reason.iter().sum(),
            last_refusal: refusals.last.clone(),
            refused_by: refusals.by_reason,
        }
    }

    /// Queues refusals from now on, for [`pop_refusal`](Self::pop_refusal).
    pub(crate) fn keep_refusals(&self) {
        locked(&self.queued_refusals).get_or_insert_default();
    }

    /// Takes the oldest refusal that was not reported yet out of the queue.
    pub(crate) fn pop_refusal(&self) -> Option<Refusal> {
        locked(&self.queued_refusals).as_mut()?.pop_front()
    }
}

fn is_own_or_root(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// A place among the connections that a server counts. Dropping it frees the place.
pub(crate) struct Permit {
    admission: Arc<Admission>,
    uid: Option<u32>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        // In a forked child the connections are a copy, and the parent counts its own.
        let Some(mut counts) = self.admission.counts.lock() else { return };
        counts.all -= 1;
        if let Some(of_uid) = counts.per_uid.get_mut(&self.uid) {
            *of_uid -= 1;
            if *of_uid == 0 {
                counts.per_uid.remove(&self.uid);
            }
        }
    }
}

/// Locks counts. In a forked child, counts that a thread of the parent was changing at the fork are zero.
fn locked<T: Default>(counts: &ForkMutex<T>) -> Locked<'_, T> {
    counts.lock_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::credentials::Credentials;

    fn admission(policy: Option<Arc<Policy>>, all: usize, per_uid: usize) -> Arc<Admission> {
        Arc::new(Admission {
            policy,
            open_to_others: true,
            connections_max: all,
            connections_per_uid_max: per_uid,
            counts: ForkMutex::default(),
            refusals: ForkMutex::default(),
            queued_refusals: ForkMutex::default(),
        })
    }

    fn user(uid: u32) -> Peer {
        Peer::from_kernel(Credentials { pid: 1, uid, gid: 1 })
    }

    #[test]
    fn every_reason_has_a_count_of_its_own() {
        let admission = admission(None, 1, 1);
        for &reason in RefusalReason::ALL {
            admission.refuse(Transport::Unix, None, reason, "test");
        }
        let stats = admission.stats();
        assert!(RefusalReason::ALL.iter().all(|&reason| stats.refused_by(reason) == 1), "{stats:?}");
        assert_eq!(stats.refused, RefusalReason::ALL.len() as u64);
        assert_eq!(stats.last_refusal.unwrap().reason, *RefusalReason::ALL.last().unwrap());
    }

    #[test]
    fn one_user_cannot_take_the_places_of_another() {
        let admission = admission(None, 100, 2);
        let held: Vec<_> = (0..2).map(|_| admission.admit(&user(7)).ok().unwrap()).collect();
        assert!(matches!(admission.admit(&user(7)), Err(Rejection::Full(_))));
        assert!(admission.admit(&user(8)).is_ok());
        drop(held);
        assert!(admission.admit(&user(7)).is_ok());
        assert!(locked(&admission.counts).per_uid.is_empty(), "users without connections are not kept");
    }

    #[test]
    fn the_limit_on_all_connections_holds_across_users() {
        let admission = admission(None, 2, 2);
        let _held = (admission.admit(&user(1)).ok().unwrap(), admission.admit(&user(2)).ok().unwrap());
        assert!(matches!(admission.admit(&user(3)), Err(Rejection::Full(_))));
    }

    #[test]
    fn a_policy_decides_alone() {
        let admission = admission(Some(Arc::new(|peer: &Peer| peer.uid() == Some(7))), 9, 9);
        assert!(admission.admit(&user(7)).is_ok());
        assert_eq!(admission.admit(&user(8)).err(), Some(Rejection::Denied));
    }
}
