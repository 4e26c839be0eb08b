//! The options of a hub.

use std::time::Duration;

use crate::options::ServerOptions;

/// The default limit of the bytes that are buffered for one client. It is several times what the kernel buffers in
/// addition, so that a client counts as slow only if it is late by more than a burst. It is small enough that many slow
/// clients do no harm.
const WRITE_BUFFER_MAX_DEFAULT: usize = 1024 * 1024;

/// The policy for a client for which more than [`write_buffer_max`](HubOptions::write_buffer_max) bytes would be
/// buffered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlowClientPolicy {
    /// Disconnects the client, with [`DisconnectReason::Slow`](super::DisconnectReason::Slow). This is the default,
    /// because a slow client then never delays the other ones.
    #[default]
    Disconnect,
    /// Refuses the message. [`Hub::send`](super::Hub::send) returns an error of the kind
    /// [`Busy`](crate::ErrorKind::Busy), and [`Hub::broadcast`](super::Hub::broadcast) returns the clients that did not
    /// get the message.
    Refuse,
    /// Blocks until the message fits. No other client is served meanwhile. If the message does not fit within this
    /// time, the client is disconnected as with `Disconnect`, so a client that sends without ever receiving cannot
    /// block the hub forever.
    Wait(Duration),
}

/// Options of a [`Hub`](super::Hub). Every setter documents its default and its unit.
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
            write_buffer_max: WRITE_BUFFER_MAX_DEFAULT,
            slow_client_policy: SlowClientPolicy::default(),
        }
    }
}

impl HubOptions {
    /// Returns the default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the options of the server: the clients that it admits, its limits and its transports. Default:
    /// [`ServerOptions::default`].
    ///
    /// [`spin_limit`](ServerOptions::spin_limit) is the number of times that the hub polls before it sleeps.
    #[must_use]
    pub fn server(mut self, options: ServerOptions) -> Self {
        self.server = options;
        self
    }

    /// Sets the maximum number of bytes that the hub buffers for one client, in addition to what the kernel buffers.
    /// Each message counts four bytes more than its length. Default: 1 MiB.
    ///
    /// A message for which nothing else is buffered is always accepted. Every message up to the length limit can
    /// therefore be sent to a client that keeps up. With 0, one message at a time is buffered.
    #[must_use]
    pub fn write_buffer_max(mut self, bytes: usize) -> Self {
        self.write_buffer_max = bytes;
        self
    }

    /// Sets the policy for a client for which more bytes would be buffered. Default: [`SlowClientPolicy::Disconnect`].
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
