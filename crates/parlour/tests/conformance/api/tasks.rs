//! The API for tasks, called from threads.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use parlour::Message;
use tokio::runtime::{Builder, Runtime};

use super::Result;
use super::error::Error;
use crate::support::{alone, eventually};

/// Returns the runtime of [`Api::Tokio`](super::Api::Tokio). It is dropped at the end of the trial, when no task may be
/// left.
pub fn runtime() -> Arc<Runtime> {
    static RUNTIME: Mutex<Option<Arc<Runtime>>> = Mutex::new(None);
    let start = || {
        alone::at_end(|| {
            let runtime = RUNTIME.lock().unwrap().take().unwrap();
            eventually("no task is left", || runtime.metrics().num_alive_tasks() == 0);
        });
        Arc::new(Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
    };
    Arc::clone(RUNTIME.lock().unwrap().get_or_insert_with(start))
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    runtime().block_on(future)
}

/// Applies a timeout as the blocking API does. Returns `None` when it has expired.
pub fn block_on_for<F: Future>(timeout: Duration, future: F) -> Option<F::Output> {
    block_on(async { tokio::time::timeout(timeout, future).await.ok() })
}

/// Converts the result of `try_recv`, which stands in for a timeout of zero: a future that is polled only once may be
/// pending because the runtime has not yet reported the event.
pub fn from_try_recv(received: std::result::Result<Option<Message>, parlour::TryRecvError>) -> Result<Option<Message>> {
    received.map_err(|error| match error {
        parlour::TryRecvError::Empty => Error::TimedOut,
        parlour::TryRecvError::Failed(error) => error.into(),
    })
}
