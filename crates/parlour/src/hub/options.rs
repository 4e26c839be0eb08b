//! The options of a hub.

use std::time::Duration;

use super::topics::TopicLimits;
use crate::options::ServerOptions;

/// The default limit of the bytes that are buffered for one client. It is several times what the kernel buffers in
/// addition, so that a client counts as slow only if it is late by more than a burst. It is small enough that many slow
/// clients do no harm.
const WRITE_BUFFER_MAX_DEFAULT: usize = 1024 * 1024;

/// The default limit of the bytes that other threads queue: what is buffered for one client.
const HANDLE_QUEUE_MAX_DEFAULT: usize = WRITE_BUFFER_MAX_DEFAULT;

/// The default limit of the blocks that wait for one client. Frames that wait longer than that are late.
const BLOCKS_MAX_DEFAULT: usize = 16;

/// The default limits of topics. Few programs want old values, so none is kept. The number of subscriptions is far
/// above what a client needs, and small enough that many clients do no harm.
const TOPIC_LIMITS_DEFAULT: TopicLimits =
    TopicLimits { subscriptions_max: 1000, kept_values_max: 0, kept_bytes_max: 1024 * 1024 };

/// The policy for a client for which more than [`write_buffer_max`](HubOptions::write_buffer_max) bytes or
/// [`blocks_max`](HubOptions::blocks_max) blocks of shared memory would be buffered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlowClientPolicy {
    /// Disconnects the client, with [`DisconnectReason::Slow`](super::DisconnectReason::Slow). This is the default,
    /// because a slow client then never delays the other ones.
    #[default]
    Disconnect,
    /// Refuses the message. [`Hub::send`](super::Hub::send) returns an error of the kind
    /// [`Busy`](crate::ErrorKind::Busy), and [`Hub::broadcast`](super::Hub::broadcast) returns the clients that did not
    /// get the message. [`Event::Missed`](super::Event::Missed) reports messages of a [`HubHandle`](super::HubHandle).
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
    pub(super) handle_queue_max: usize,
    pub(super) blocks_max: usize,
    pub(super) topic_limits: TopicLimits,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            server: ServerOptions::default(),
            write_buffer_max: WRITE_BUFFER_MAX_DEFAULT,
            slow_client_policy: SlowClientPolicy::default(),
            handle_queue_max: HANDLE_QUEUE_MAX_DEFAULT,
            blocks_max: BLOCKS_MAX_DEFAULT,
            topic_limits: TOPIC_LIMITS_DEFAULT,
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

    /// Sets the maximum number of blocks of shared memory ([`Payload::shared`](crate::Payload::shared)) that wait for
    /// one client, in addition to those in the channel. The same number limits the blocks in the queue of the hub's
    /// handles. Default: 16.
    ///
    /// A message with blocks for which no other block waits is always accepted. A block that waits for several clients
    /// takes its memory and its descriptor once. If more blocks would wait, the policy for slow clients applies.
    #[must_use]
    pub fn blocks_max(mut self, count: usize) -> Self {
        self.blocks_max = count;
        self
    }

    /// Sets the maximum number of topics whose last value is kept, for clients that subscribe later
    /// ([`Hub::subscribe`](super::Hub::subscribe)). If there are more, the value that was published longest ago is
    /// dropped. Default: 0, which keeps no values.
    #[must_use]
    pub fn kept_values_max(mut self, count: usize) -> Self {
        self.topic_limits.kept_values_max = count;
        self
    }

    /// Sets the maximum number of bytes of the values that are kept, with their topics. If there are more, the values
    /// that were published longest ago are dropped. A longer value is sent and not kept. Default: 1 MiB.
    #[must_use]
    pub fn kept_bytes_max(mut self, bytes: usize) -> Self {
        self.topic_limits.kept_bytes_max = bytes;
        self
    }

    /// Sets the maximum number of subscriptions of one client. Default: 1000.
    #[must_use]
    pub fn subscriptions_max(mut self, count: usize) -> Self {
        self.topic_limits.subscriptions_max = count;
        self
    }

    /// Sets the policy for a client for which more bytes or blocks would be buffered. Default:
    /// [`SlowClientPolicy::Disconnect`].
    #[must_use]
    pub fn slow_client_policy(mut self, what: SlowClientPolicy) -> Self {
        self.slow_client_policy = what;
        self
    }

    /// Sets the maximum number of bytes that wait in the queue of the hub's handles ([`HubHandle`](super::HubHandle)),
    /// for all threads together. Each message counts 64 bytes more than its length, until the hub has sent it or has
    /// buffered it for its clients. Default: 1 MiB.
    ///
    /// A message that finds the queue empty is always accepted. With 0, one message at a time is queued.
    #[must_use]
    pub fn handle_queue_max(mut self, bytes: usize) -> Self {
        self.handle_queue_max = bytes;
        self
    }
}

impl From<ServerOptions> for HubOptions {
    fn from(server: ServerOptions) -> Self {
        Self::new().server(server)
    }
}
