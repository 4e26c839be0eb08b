//! Default limits.

use std::time::Duration;

/// The maximum length of a message, in bytes.
pub(crate) const MESSAGE_MAX: usize = 16 * 1024 * 1024;
/// The time limit of a handshake.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum number of concurrent handshakes.
pub(crate) const HALF_OPEN_MAX: usize = 128;
/// The maximum numbers of connections, in total and of each user.
pub(crate) const CONNECTIONS_MAX: usize = 65_536;
pub(crate) const CONNECTIONS_PER_UID_MAX: usize = 4_096;
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

    #[test]
    fn the_default_ring_size_is_valid() {
        assert!((shm_hello::RING_SIZE_MIN..=shm_hello::RING_SIZE_MAX).contains(&RING_SIZE));
    }
}
