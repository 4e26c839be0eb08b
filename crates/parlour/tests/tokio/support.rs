//! Helpers of the tests of the tokio API.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use parlour::tokio::{Connection, Server};
use parlour::{ConnectOptions, ServerOptions, Transport};
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::support::{Base, DEADLINE};

/// Runs a future in a runtime of its own with one thread. Only the tests use the runtime's timers.
pub fn run<F: Future>(future: F) -> F::Output {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(DEADLINE * 3, future).await.expect("the test hangs") })
}

/// A server and both ends of a connection. The base is declared last, so that it outlives the other fields.
pub struct Link {
    pub client: Connection,
    pub served: Connection,
    pub _server: Server,
    pub _base: Base,
}

impl Link {
    /// Connects with rings of the smallest size, so that the channel of `shm` is full as soon as the other ones.
    pub async fn new(transport: Transport) -> Self {
        let base = Base::new();
        let address = base.address(transport, "room");
        let server = ServerOptions::new().ring_size(1 << 16).bind_tokio(&address).unwrap();
        let options = ConnectOptions::new().ring_size(1 << 16);
        let (client, served) = tokio::join!(options.connect_tokio(&address), server.accept());
        Self { client: client.unwrap(), served: served.unwrap(), _server: server, _base: base }
    }
}

/// Polls a future up to `times` times. Drops it and returns `None` if it has not completed by then.
pub async fn polled<F: Future>(times: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(move |cx| {
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Counts the polls of a future.
pub async fn counted<F: Future>(polls: &Cell<usize>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(move |cx| {
        polls.set(polls.get() + 1);
        future.as_mut().poll(cx)
    })
    .await
}
