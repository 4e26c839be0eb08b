//! Default limits.

use std::time::Duration;

/// The maximum length of a message, in bytes.
pub(crate) const MESSAGE_MAX: usize = 16 * 1024 * 1024;
/// The time limit of a handshake.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum number of concurrent handshakes.
pub(crate) const HALF_OPEN_MAX: usize = 128;
/// The maximum numbers of connections, in total and of each user, where the limit on descriptors does not reduce them.
const CONNECTIONS_MAX: usize = 65_536;
const CONNECTIONS_PER_UID_MAX: usize = 4_096;

/// The bounds of the memory that clients may take in total, which is a quarter of the machine's memory.
const MEMORY_MIN: usize = 128 * 1024 * 1024;
const MEMORY_MAX: usize = 1024 * 1024 * 1024;

/// The part of a limit that one user may take on a server that is open to other users: a quarter. A user that takes all
/// of it leaves most for the others.
const SHARE_OF_USER: usize = 4;

/// The memory that receiving a message may take beyond its length: the buffer for a datagram.
const MESSAGE_EXTRA: usize = 2 * 1024 * 1024;

/// The limits of the process and of the machine on which the default quotas of a server depend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings {
    /// The number of descriptors that this process may have open (`RLIMIT_NOFILE`), if it is limited.
    pub(crate) fds: Option<u64>,
    /// The number of descriptors that one connection takes.
    pub(crate) fds_per_connection: usize,
    /// The memory of the machine in bytes.
    pub(crate) memory: u64,
    /// The limit on the length of a message in bytes.
    pub(crate) message_max: usize,
    /// True if users other than the server's own may connect.
    pub(crate) is_open_to_others: bool,
}

/// The limits on what clients may take, in total and for each user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quotas {
    pub(crate) connections_max: usize,
    pub(crate) connections_per_uid_max: usize,
    /// In bytes.
    pub(crate) memory_max: usize,
    pub(crate) memory_per_uid_max: usize,
}

impl Quotas {
    /// Returns the quotas for the options that the caller does not set.
    pub(crate) fn in_proportion_to(surroundings: &Surroundings) -> Self {
        let Surroundings { fds, fds_per_connection, memory, message_max, is_open_to_others } = *surroundings;
        let as_count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        // A quarter of the descriptors stays for everything else that the process does.
        let fds = fds.map_or(usize::MAX, as_count);
        let connections_max = ((fds - fds / 4) / fds_per_connection).clamp(1, CONNECTIONS_MAX);
        let memory = as_count(memory / 4).clamp(MEMORY_MIN, MEMORY_MAX);
        let share = if is_open_to_others { SHARE_OF_USER } else { 1 };
        // The longest message fits, whatever else the limits are.
        let memory_per_uid_max = (memory / share).max(message_max.saturating_add(MESSAGE_EXTRA));
        Self {
            connections_max,
            connections_per_uid_max: (connections_max / share).clamp(1, CONNECTIONS_PER_UID_MAX),
            memory_max: memory.max(memory_per_uid_max.saturating_mul(share)),
            memory_per_uid_max,
        }
    }
}

/// The memory of an incomplete message that does not count, in bytes: each connection may have this much.
pub(crate) const MEMORY_FREE: usize = 64 * 1024;
/// The length of the queue of clients that wait to be accepted. The kernel has a limit of its own
/// (`net.core.somaxconn`).
pub(crate) const BACKLOG: u32 = 4_096;

/// The maximum value of the option `fds_max`, the number of descriptors with one message: as many as the kernel sends
/// at once (`SCM_MAX_FD`). The default of the option is 0.
pub(crate) const FDS_MAX: usize = 253;

/// The number of times that a blocking call polls before it sleeps. Measured: 5 polls miss a peer that answers
/// immediately; more than 50 gain nothing.
pub(crate) const SPIN_LIMIT: u32 = 40;

/// The size of the ring of each direction of a connection over shared memory, in bytes. Measured: about the size of a
/// processor's own cache (L2) is best; a larger ring moves everything through memory.
pub(crate) const RING_SIZE: usize = 1024 * 1024;

/// The maximum size of the peer's ring, in bytes. A peer may use larger rings than this side, up to a bound on the
/// memory that one connection keeps in use. The owner of the ring allocates it.
pub(crate) const PEER_RING_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::shm_hello;

    fn quotas(fds: u64, memory: u64, is_open_to_others: bool) -> Quotas {
        let message_max = MESSAGE_MAX;
        let fds = Some(fds);
        Quotas::in_proportion_to(&Surroundings { fds, fds_per_connection: 1, memory, message_max, is_open_to_others })
    }

    #[test]
    fn quotas_follow_the_limit_on_descriptors_and_the_memory_of_the_machine() {
        let mib = 1024 * 1024;
        let all = |quotas: Quotas| {
            let Quotas { connections_max, connections_per_uid_max, memory_max, memory_per_uid_max } = quotas;
            [connections_max, connections_per_uid_max, memory_max / mib, memory_per_uid_max / mib]
        };
        assert_eq!(all(quotas(1024, 8 << 30, true)), [768, 192, 1024, 256]);
        assert_eq!(all(quotas(1024, 8 << 30, false)), [768, 768, 1024, 1024]);
        assert_eq!(all(quotas(1024, 512 << 20, true)), [768, 192, 128, 32]);
        assert_eq!(all(quotas(1 << 20, 64 << 30, true)), [65_536, 4_096, 1024, 256]);
        assert_eq!(all(quotas(1, 0, true)), [1, 1, 128, 32]);
        assert_eq!(all(quotas(0, 0, false))[..2], [1, 1]);
    }

    #[test]
    fn no_user_takes_more_than_a_quarter_of_an_open_server_and_each_can_send_the_longest_message() {
        for fds in [4, 16, 256, 1024, 4096, u64::MAX] {
            for memory in [0, 256 << 20, 4 << 30, u64::MAX] {
                for message_max in [0, MESSAGE_MAX, 1 << 31] {
                    let quotas = Quotas::in_proportion_to(&Surroundings {
                        fds: Some(fds),
                        fds_per_connection: 1,
                        memory,
                        message_max,
                        is_open_to_others: true,
                    });
                    assert!(quotas.connections_per_uid_max * 4 <= quotas.connections_max.max(4), "{quotas:?}");
                    assert!(quotas.memory_per_uid_max * 4 <= quotas.memory_max, "{quotas:?}");
                    assert!(quotas.memory_per_uid_max >= message_max + MESSAGE_EXTRA, "{quotas:?}");
                }
            }
        }
    }

    #[test]
    fn the_default_ring_size_is_valid() {
        assert!((shm_hello::RING_SIZE_MIN..=shm_hello::RING_SIZE_MAX).contains(&RING_SIZE));
    }
}
