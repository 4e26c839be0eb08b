//! Default limits.

use std::time::Duration;

/// The longest message, in bytes.
pub(crate) const MESSAGE_MAX: usize = 16 * 1024 * 1024;
/// How long a handshake may take.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes under way at once.
pub(crate) const HALF_OPEN_MAX: usize = 128;
/// Connections at once, of all users and of each.
pub(crate) const CONNECTIONS_MAX: usize = 65_536;
pub(crate) const CONNECTIONS_PER_UID_MAX: usize = 4_096;
/// Clients that wait to be accepted; the kernel has a limit of its own (`net.core.somaxconn`).
pub(crate) const BACKLOG: u32 = 4_096;

/// Descriptors with one message, of which by default none are allowed: as many as the kernel sends at once (`SCM_MAX_FD`).
pub(crate) const FDS_MAX: usize = 253;

/// How often a blocking call looks again before it sleeps. Measured: 5 are too few to meet a peer that answers at once, and
/// beyond 50 nothing is gained.
pub(crate) const SPIN_LIMIT: u32 = 40;

/// The ring of each direction of a connection over shared memory, in bytes. Measured: about the size of a processor's own
/// cache (L2) is best; a larger one moves everything through memory.
pub(crate) const RING_SIZE: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::shm_hello;

    #[test]
    fn the_default_ring_is_one_that_may_be_asked_for() {
        assert!((shm_hello::RING_SIZE_MIN..=shm_hello::RING_SIZE_MAX).contains(&RING_SIZE));
    }
}
