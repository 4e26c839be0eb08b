//! How a hub is to be.

use std::time::Duration;

use crate::options::ServerOptions;

/// How many bytes may wait for one client. Several times what the kernel holds for it besides, so that a client must be
/// late by more than a burst to be called slow; and little enough that many slow ones do no harm.
const UNSENT_MAX: usize = 1024 * 1024;

/// What happens when more than [`write_buffer_max`](HubOptions::write_buffer_max) would wait to be sent to a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlowClientPolicy {
    /// The client is disconnected, and [`DisconnectReason::Slow`](super::DisconnectReason::Slow) says so. The default: nobody is held up by somebody
    /// else's client.
    #[default]
    Disconnect,
    /// The message is refused: [`Hub::send`](super::Hub::send) is an error of the kind [`Busy`](crate::ErrorKind::Busy), and
    /// [`Hub::broadcast`](super::Hub::broadcast) gives the clients that did not get it.
    Refuse,
    /// The hub waits until there is room, and nobody else is served meanwhile. A client that makes none for this long is
    /// disconnected as with `Disconnect`; so a client that sends without ever receiving cannot hold the hub for good.
    Wait(Duration),
}

/// How a [`Hub`](super::Hub) is to be. Every setter says its default and its unit.
///
/// ```no_run
/// use parlour::ServerOptions;
/// use parlour::hub::{HubOptions, SlowClientPolicy};
///
/// let hub = HubOptions::new()
///     .server(ServerOptions::new().connections_max(100))
///     .slow_client_policy(SlowClientPolicy::Refuse)
///     .bind("chat")?;
/// # Ok::<(), parlour::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct HubOptions {
    pub(super) server: ServerOptions,
    pub(super) write_buffer_max: usize,
    pub(super) slow_client_policy: SlowClientPolicy,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            server: ServerOptions::default(),
            write_buffer_max: UNSENT_MAX,
            slow_client_policy: SlowClientPolicy::default(),
        }
    }
}

impl HubOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything about the server: who may come, how many, over what. Default: [`ServerOptions::default`].
    ///
    /// [`spin_limit`](ServerOptions::spin_limit) is how often the hub looks again before it sleeps.
    #[must_use]
    pub fn server(mut self, options: ServerOptions) -> Self {
        self.server = options;
        self
    }

    /// How many bytes may wait to be sent to one client, beyond what the kernel holds for it, four for each message included.
    /// Default 1 MiB.
    ///
    /// A message for which nothing else waits is always taken, so that every message that is not too long can be sent to a
    /// client that keeps up; with 0, one at a time waits.
    #[must_use]
    pub fn write_buffer_max(mut self, bytes: usize) -> Self {
        self.write_buffer_max = bytes;
        self
    }

    /// What happens to a client for which more would wait. Default: it is disconnected.
    #[must_use]
    pub fn slow_client_policy(mut self, what: SlowClientPolicy) -> Self {
        self.slow_client_policy = what;
        self
    }
}

impl From<ServerOptions> for HubOptions {
    fn from(server: ServerOptions) -> Self {
        Self::new().server(server)
    }
}
