//! A client of the NATS server that may write anything.

use async_nats::jetstream::{self, Context};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::PATIENCE;
use crate::server::NatsServer;

pub(crate) struct Client {
    context: Context,
    runtime: Runtime,
}

impl Client {
    /// Connects as soon as the server listens.
    pub(crate) fn connect(server: &NatsServer) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let url = format!("nats://{}", server.address());
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
        let client = runtime.block_on(options.connect(url)).unwrap();
        runtime.block_on(client.flush()).unwrap();
        // The context has a task of its own.
        let context = runtime.block_on(async { jetstream::new(client) });
        Self { context, runtime }
    }

    /// Puts a value, and waits until the server has it.
    pub(crate) fn put(&self, key: &str, value: Vec<u8>) {
        assert!(self.can_put(key, value), "{key}");
    }

    pub(crate) fn can_put(&self, key: &str, value: Vec<u8>) -> bool {
        let subject = format!("$KV.parlour-bridge.{key}");
        let putting = async { self.context.publish(subject, value.into()).await.unwrap().await.is_ok() };
        self.runtime.block_on(async { timeout(PATIENCE, putting).await.unwrap() })
    }
}
