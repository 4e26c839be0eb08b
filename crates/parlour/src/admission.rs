//! Admission of clients: the policy, the limits on connections, and the counts behind them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use crate::limits::{MEMORY_FREE, Quotas};
use crate::peer::Peer;
use crate::shm::stats::{Counters, Direction, Identity, Tally, now};
use crate::shm::stats_reader;
use crate::shm::taps::{Passing, Taps};
use crate::standby::{Standby, StandbySlot};
use crate::stats::{ClientStats, Flow};
use crate::sys::fork_mutex::{ForkMutex, Locked};
use crate::transport::Transport;
use crate::wire::hello::Reason;
use crate::wire::tap::Event;

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
    /// The limit on open connections that is in effect ([`connections_max`](crate::ServerOptions::connections_max)).
    pub connections_max: usize,
    /// The limit for each user that is in effect
    /// ([`connections_per_uid_max`](crate::ServerOptions::connections_per_uid_max)).
    pub connections_per_uid_max: usize,
    /// The memory that clients take now, in bytes ([`memory_max`](crate::ServerOptions::memory_max)).
    pub memory: usize,
    /// The limit on that memory that is in effect, in bytes.
    pub memory_max: usize,
    /// The limit for each user that is in effect, in bytes
    /// ([`memory_per_uid_max`](crate::ServerOptions::memory_per_uid_max)).
    pub memory_per_uid_max: usize,
    /// The messages that the server received, over all connections. 0 if the server does not count them
    /// ([`stats`](crate::ServerOptions::stats)).
    pub received: Flow,
    /// The messages that the server sent, over all connections. 0 if the server does not count them.
    pub sent: Flow,
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
    pub(crate) quotas: Quotas,
    pub(crate) counts: ForkMutex<Counts>,
    pub(crate) refusals: ForkMutex<Refusals>,
    /// Refusals that were not reported yet. `None` if no caller asks for them.
    pub(crate) queued_refusals: ForkMutex<Option<VecDeque<Refusal>>>,
    /// The work on a hand-over, if the server hands its name over.
    pub(crate) standby: StandbySlot,
    /// The counters that other processes can read, of a server that counts.
    pub(crate) counters: Option<Arc<Counters>>,
    /// The requests of processes that tap the server, if it allows that and counts.
    pub(crate) taps: Taps,
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
    all: Used,
    per_uid: BTreeMap<Option<u32>, Used>,
}

/// The resources that clients take.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    connections: usize,
    /// In bytes.
    memory: usize,
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
        let Quotas { connections_max, connections_per_uid_max, .. } = self.quotas;
        if counts.all.connections >= connections_max {
            return Err(Rejection::Full(format!("all {connections_max} connections are in use")));
        }
        let of_uid = counts.per_uid.entry(peer.uid()).or_default();
        if of_uid.connections >= connections_per_uid_max {
            return Err(Rejection::Full(format!(
                "the client's user has all {connections_per_uid_max} connections that one user may have"
            )));
        }
        of_uid.connections += 1;
        counts.all.connections += 1;
        let uid = peer.uid().unwrap_or(UNKNOWN_UID);
        Ok(Permit { admission: Arc::clone(self), tally: None, uid, memory: Memory::default() })
    }

    /// Returns the work on a hand-over, if the name may have to be handed over.
    pub(crate) fn standby(&self) -> Option<&Standby> {
        self.standby.standby().filter(|standby| standby.is_needed())
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
        if let Some(counters) = &self.counters {
            counters.set_refused(reason as usize, refusals.by_reason[reason as usize]);
        }
        refusals.last = Some(refusal);
    }

    /// Counts a client that `accept` returns.
    pub(crate) fn note_accepted(&self) {
        let mut counts = locked(&self.counts);
        counts.accepted += 1;
        if let Some(counters) = &self.counters {
            counters.set_accepted(counts.accepted);
        }
    }

    pub(crate) fn stats(&self) -> ServerStats {
        let (accepted, Used { connections: open, memory }) = {
            let counts = locked(&self.counts);
            (counts.accepted, counts.all)
        };
        let Quotas { connections_max, connections_per_uid_max, memory_max, memory_per_uid_max } = self.quotas;
        let refusals = locked(&self.refusals);
        let (received, sent) = self.counters.as_ref().map(|counters| counters.flows()).unwrap_or_default();
        ServerStats {
            accepted,
            open,
            connections_max,
            connections_per_uid_max,
            memory,
            memory_max,
            memory_per_uid_max,
            received: received.into(),
            sent: sent.into(),
            refused: refusals.by_reason.iter().sum(),
            last_refusal: refusals.last.clone(),
            refused_by: refusals.by_reason,
        }
    }

    pub(crate) fn client_stats(&self) -> Vec<ClientStats> {
        let Some(counters) = &self.counters else { return Vec::new() };
        // In a forked child, another file has the descriptor.
        let Ok(reading) = stats_reader::read(counters.fd()) else { return Vec::new() };
        let now = now();
        let mut clients: Vec<_> = reading.slots.iter().map(|slot| ClientStats::new(slot, now)).collect();
        clients.sort_by_key(|client| client.number);
        clients
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

/// A place among the connections that a server counts, and the memory that the client takes. Dropping it frees both.
///
/// Its size matters: a server may have ten thousand clients.
pub(crate) struct Permit {
    admission: Arc<Admission>,
    /// The counters of the connection, of a server that counts. Those of `admission` are kept with it.
    tally: Option<Tally>,
    /// The user of the client, or [`UNKNOWN_UID`].
    uid: u32,
    memory: Memory,
}

/// No user has this id: it is the -1 that setreuid(2) takes for "no change".
const UNKNOWN_UID: u32 = u32::MAX;

/// The memory that a client takes, in one word.
///
/// The five low bits are the size of this side's ring, as an exponent of two, or 0 without a ring. The other bits are
/// the memory of the incomplete message in bytes, rounded up to a multiple of 32. Only the receiving half changes it.
#[derive(Default)]
struct Memory(AtomicU32);

impl Memory {
    const RING: u32 = 31;

    fn ring(&self) -> u32 {
        match self.0.load(Ordering::Relaxed) & Self::RING {
            0 => 0,
            log2 => 1 << log2,
        }
    }

    /// Notes the size of the ring, which is a power of two.
    fn set_ring(&mut self, size: u32) {
        let word = self.0.get_mut();
        *word = *word & !Self::RING | size.trailing_zeros() & Self::RING;
    }

    fn message(&self) -> u32 {
        self.0.load(Ordering::Relaxed) & !Self::RING
    }

    /// Returns the memory of an incomplete message as it is counted.
    fn rounded(bytes: usize) -> u32 {
        as_u32(bytes).saturating_add(Self::RING) & !Self::RING
    }

    /// Notes the memory of the incomplete message, which is [`rounded`](Self::rounded).
    fn set_message(&self, bytes: u32) {
        let ring = self.0.load(Ordering::Relaxed) & Self::RING;
        self.0.store(bytes | ring, Ordering::Relaxed);
    }
}

impl Permit {
    /// Begins to count for a client that `accept` returns.
    pub(crate) fn begin_to_count(&mut self, peer: &Peer, transport: Transport) {
        self.end_to_count();
        self.tally =
            self.admission.counters.as_ref().and_then(|counters| counters.begin(&Identity::of(peer, transport)));
    }

    fn end_to_count(&mut self) {
        if let (Some(tally), Some(counters)) = (self.tally.take(), &self.admission.counters) {
            counters.end(tally);
        }
    }

    /// Returns the counters of the connection, of a server that counts.
    #[inline]
    pub(crate) fn tally(&self) -> Option<&Tally> {
        self.tally.as_ref()
    }

    /// Counts a message of a server that counts. Returns true if it is to be given to [`record`](Self::record).
    #[inline]
    pub(crate) fn count(&self, direction: Direction, bytes: usize) -> bool {
        let Some(tally) = &self.tally else { return false };
        tally.count(direction, bytes);
        self.is_tapped()
    }

    /// Returns true if the messages of the connection are to be given to [`record`](Self::record).
    #[inline]
    pub(crate) fn is_tapped(&self) -> bool {
        self.admission.taps.is_up()
    }

    /// Records a message for the processes that tap the server. Returns true if it was recorded.
    #[cold]
    #[inline(never)]
    pub(crate) fn record(&self, event: Event, descriptors: usize, parts: &[IoSlice<'_>]) -> bool {
        let Admission { counters, taps, .. } = &*self.admission;
        let (Some(tally), Some(counters)) = (&self.tally, counters) else { return false };
        let Some((client, pid)) = tally.client() else { return false };
        taps.record(&Passing { client, pid, event, descriptors, parts }, |ring| counters.set_tap(ring))
    }

    /// Returns the work on a hand-over of the server, if its name may have to be handed over.
    pub(crate) fn standby(&self) -> Option<&Standby> {
        self.admission.standby()
    }

    fn uid(&self) -> Option<u32> {
        Some(self.uid).filter(|&uid| uid != UNKNOWN_UID)
    }

    /// Counts the memory of this side's ring, whose size is a power of two.
    pub(crate) fn take_ring(&mut self, size: usize) -> Result<(), Rejection> {
        let size = as_u32(size);
        self.change(self.memory.ring(), size)?;
        self.memory.set_ring(size);
        Ok(())
    }

    /// Counts this much memory for the incomplete message, instead of what was counted before. Cheap if nothing
    /// changes, and for short messages, which do not count.
    #[inline]
    pub(crate) fn note_incomplete(&self, bytes: usize) -> Result<(), Rejection> {
        let bytes = if bytes > MEMORY_FREE { Memory::rounded(bytes) } else { 0 };
        // Relaxed: the lock orders the changes of the counts.
        let before = self.memory.message();
        if bytes == before { Ok(()) } else { self.change_incomplete(before, bytes) }
    }

    #[cold]
    fn change_incomplete(&self, before: u32, bytes: u32) -> Result<(), Rejection> {
        self.change(before, bytes)?;
        self.memory.set_message(bytes);
        Ok(())
    }

    /// Counts `after` bytes of memory instead of `before`. Counts nothing if a limit does not allow that.
    fn change(&self, before: u32, after: u32) -> Result<(), Rejection> {
        let Admission { quotas: Quotas { memory_max, memory_per_uid_max, .. }, counts, .. } = &*self.admission;
        let mut counts = locked(counts);
        let Counts { all, per_uid, .. } = &mut *counts;
        let of_uid = per_uid.entry(self.uid()).or_default();
        let changed = |memory: usize| memory.saturating_sub(before as usize).saturating_add(after as usize);
        if after > before {
            if changed(all.memory) > *memory_max {
                return Err(Rejection::Full(format!("clients may take {memory_max} bytes of memory in total")));
            }
            if changed(of_uid.memory) > *memory_per_uid_max {
                return Err(Rejection::Full(format!(
                    "the clients of one user may take {memory_per_uid_max} bytes of memory"
                )));
            }
        }
        all.memory = changed(all.memory);
        of_uid.memory = changed(of_uid.memory);
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.end_to_count();
        let memory = self.memory.message() as usize + self.memory.ring() as usize;
        // In a forked child the connections are a copy, and the parent counts its own.
        let Some(mut counts) = self.admission.counts.lock() else { return };
        counts.all.connections -= 1;
        counts.all.memory -= memory;
        if let Some(of_uid) = counts.per_uid.get_mut(&self.uid()) {
            of_uid.connections -= 1;
            of_uid.memory -= memory;
            if of_uid.connections == 0 {
                counts.per_uid.remove(&self.uid());
            }
        }
    }
}

/// Locks counts. In a forked child, counts that a thread of the parent was changing at the fork are zero.
fn locked<T: Default>(counts: &ForkMutex<T>) -> Locked<'_, T> {
    counts.lock_or_default()
}

/// Converts a size. The longest message and its buffers fit into 32 bits.
#[inline]
fn as_u32(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::credentials::Credentials;

    const MIB: usize = 1024 * 1024;

    fn admission(policy: Option<Arc<Policy>>, all: usize, per_uid: usize) -> Arc<Admission> {
        Arc::new(Admission {
            policy,
            open_to_others: true,
            quotas: Quotas {
                connections_max: all,
                connections_per_uid_max: per_uid,
                memory_max: 10 * MIB,
                memory_per_uid_max: 4 * MIB,
            },
            taps: Taps::off(),
            counts: ForkMutex::default(),
            refusals: ForkMutex::default(),
            queued_refusals: ForkMutex::default(),
            standby: StandbySlot::default(),
            counters: None,
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
    fn memory_is_counted_for_each_user_and_in_total_and_given_back() {
        let admission = admission(None, 100, 100);
        let come = |uid| admission.admit(&user(uid)).ok().unwrap();
        let memory = || admission.stats().memory;
        let (first, mut second, other) = (come(7), come(7), come(8));
        first.note_incomplete(MEMORY_FREE).unwrap();
        assert_eq!(memory(), 0, "short messages do not count");
        first.note_incomplete(3 * MIB).unwrap();
        assert!(matches!(second.note_incomplete(2 * MIB), Err(Rejection::Full(why)) if why.contains("one user")));
        assert!(second.take_ring(2 * MIB).is_err());
        other.note_incomplete(4 * MIB).unwrap();
        assert_eq!(memory(), 7 * MIB, "what is refused does not count");
        first.note_incomplete(MIB).unwrap();
        second.take_ring(MIB).unwrap();
        second.note_incomplete(2 * MIB).unwrap();
        assert_eq!(memory(), 8 * MIB);
        let third = come(9);
        assert!(matches!(third.note_incomplete(3 * MIB), Err(Rejection::Full(why)) if why.contains("in total")));
        drop(second);
        third.note_incomplete(3 * MIB).unwrap();
        first.note_incomplete(0).unwrap();
        drop((first, other, third));
        assert_eq!(memory(), 0);
        assert!(locked(&admission.counts).per_uid.is_empty());
    }

    #[test]
    fn a_policy_decides_alone() {
        let admission = admission(Some(Arc::new(|peer: &Peer| peer.uid() == Some(7))), 9, 9);
        assert!(admission.admit(&user(7)).is_ok());
        assert_eq!(admission.admit(&user(8)).err(), Some(Rejection::Denied));
    }
}
