//! Contenders for parlour's API for tokio: a task for each client.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use parlour::tokio::Connection;
use parlour::{ConnectOptions, ServerOptions, Transport};
use parlour_measure::{Client, Contender, DONE, Ready, Work, ours, raw_stream_client};
use tokio::runtime::{Builder, Runtime};

/// Returns the contenders: on a runtime with one thread, and on one with a thread for each processor.
pub(crate) fn contenders() -> Vec<Box<dyn Contender>> {
    vec![Box::new(Tokio { many: false }), Box::new(Tokio { many: true })]
}

/// The API for tokio over `unix`. `many` selects the runtime with a thread for each processor.
struct Tokio {
    many: bool,
}

impl Tokio {
    fn runtime(&self) -> std::io::Result<Runtime> {
        let mut builder = if self.many { Builder::new_multi_thread() } else { Builder::new_current_thread() };
        builder.enable_all().build()
    }
}

impl Contender for Tokio {
    fn name(&self) -> &str {
        if self.many { "parlour-tokio-threads" } else { "parlour-tokio" }
    }

    fn version(&self) -> String {
        ours::version()
    }

    fn advice(&self) -> &str {
        if self.many {
            "over unix; Server::serve with a task for each client, on a runtime of a thread for each processor"
        } else {
            "over unix; Server::serve with a task for each client, on a runtime of one thread"
        }
    }

    fn supports(&self, work: Work) -> bool {
        // The work `crowd` is defined as one thread that serves all clients.
        match work {
            Work::Crowd { .. } => !self.many,
            Work::Calls { .. } => false,
            _ => true,
        }
    }

    fn serve(&self, place: &Path, work: Work, ready: Ready) -> Result<()> {
        let room = if let Work::Crowd { clients, .. } = work { clients + 1 } else { 2 };
        let options = ServerOptions::new().connections_max(room).connections_per_uid_max(room);
        self.runtime()?.block_on(async {
            let server = options.bind_tokio(ours::address(Transport::Unix, place))?;
            ready.tell();
            if let Work::Crowd { .. } = work {
                // The memory of idle connections is measured with this task. `recv` borrows a buffer only while it
                // reads a message. The task is an async block: an async function would also store its argument.
                let echo = |mut client: Connection| async move {
                    while let Ok(Some(message)) = client.recv().await {
                        // A client that disconnects is not an error of the server.
                        if client.send(&message).await.is_err() {
                            break;
                        }
                    }
                };
                server.serve(echo, std::future::pending(), Duration::ZERO).await?;
            } else {
                let converse = |mut client: Connection| async move {
                    // A client that disconnects at any point is not an error of the server.
                    let _ = converse(&mut client, work).await;
                };
                server.serve(converse, std::future::pending(), Duration::ZERO).await?;
            }
            Ok(())
        })
    }

    fn connect(&self, place: &Path, work: Work) -> Result<Box<dyn Client>> {
        if let Work::Crowd { .. } = work {
            return raw_stream_client(&place.join("bench/unix"), work);
        }
        let runtime = self.runtime()?;
        let address = ours::address(Transport::Unix, place);
        let connection = runtime.block_on(ConnectOptions::new().connect_tokio(address))?;
        Ok(Box::new(TokioClient { connection, runtime }))
    }
}

async fn converse(client: &mut Connection, work: Work) -> parlour::Result<()> {
    let mut message = Vec::new();
    let mut received = 0;
    while client.recv_into(&mut message).await?.is_some() {
        received += 1;
        match work {
            Work::Stream { batch, .. } if received % batch == 0 => client.send(DONE).await?,
            Work::Stream { .. } => {}
            _ => client.send(&message).await?,
        }
    }
    Ok(())
}

struct TokioClient {
    connection: Connection,
    runtime: Runtime,
}

async fn receive(connection: &mut Connection, reply: &mut Vec<u8>) -> Result<()> {
    ensure!(connection.recv_into(reply).await?.is_some(), "the server disconnected");
    Ok(())
}

impl Client for TokioClient {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        Ok(self.runtime.block_on(self.connection.send(message))?)
    }

    fn receive(&mut self, reply: &mut Vec<u8>) -> Result<()> {
        self.runtime.block_on(receive(&mut self.connection, reply))
    }

    fn round_trip(&mut self, message: &[u8], reply: &mut Vec<u8>) -> Result<()> {
        self.runtime.block_on(async {
            self.connection.send(message).await?;
            receive(&mut self.connection, reply).await
        })
    }

    fn stream(&mut self, message: &[u8], count: u64) -> Result<()> {
        self.runtime.block_on(async {
            for _ in 0..count {
                self.connection.feed(message).await?;
            }
            self.connection.flush().await?;
            receive(&mut self.connection, &mut Vec::new()).await
        })
    }
}
