//! The contender for D-Bus peer to peer (zbus), over a UNIX socket and without a bus.

use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use parlour_bench::{Client, Contender, DONE, Ready, Work};
use serde_bytes::Bytes;
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use zbus::message::{Flags, Message, Type};
use zbus::{Connection, Guid, MessageStream, connection};

use crate::versions::locked;

/// Method calls with a type and a signature, and signals.
pub(crate) struct Zbus;

const PATH: &str = "/org/parlour/Bench";
const INTERFACE: &str = "org.parlour.Bench";

/// The maximum number of one-way messages that are passed to zbus together.
const TOGETHER: usize = 256;

impl Contender for Zbus {
    fn name(&self) -> &str {
        "zbus"
    }

    fn version(&self) -> String {
        locked("zbus")
    }

    fn advice(&self) -> &str {
        "peer to peer on tokio's runtime of one thread, no thread of its own (README); bytes as serde_bytes, not \
         one by one (docs of zbus::wire); messages without an object server (docs of Connection); send_all one way \
         (its docs)"
    }

    fn supports(&self, work: Work) -> bool {
        // The thousand clients would be zbus connections, and their cost would dominate the measurement.
        !matches!(work, Work::Crowd { .. } | Work::Calls { .. })
    }

    fn serve(&self, place: &Path, work: Work, ready: Ready) -> Result<()> {
        runtime()?.block_on(async {
            let listener = UnixListener::bind(place.join("z"))?;
            ready.tell();
            loop {
                let (stream, _) = listener.accept().await?;
                let guid = Guid::generate();
                let builder = connection::Builder::unix_stream(stream.into_std()?).server(guid).p2p();
                // A client that disconnects at any point is not an error of the server.
                let _ = converse(builder.build_message_stream().await?, work).await;
            }
        })
    }

    fn connect(&self, place: &Path, work: Work) -> Result<Box<dyn Client>> {
        let runtime = runtime()?;
        let stream = UnixStream::connect(place.join("z"))?;
        let (connection, answers) = runtime.block_on(async {
            let builder = connection::Builder::unix_stream(stream).p2p();
            Ok::<_, zbus::Error>(if let Work::Stream { .. } = work {
                let answers = builder.build_message_stream().await?;
                (Connection::from(&answers), Some(answers))
            } else {
                (builder.build().await?, None)
            })
        })?;
        Ok(Box::new(ZbusClient { connection, answers, runtime }))
    }
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

async fn converse(mut messages: MessageStream, work: Work) -> Result<()> {
    let connection = Connection::from(&messages);
    let mut received = 0;
    while let Some(message) = messages.next().await {
        let message = message?;
        if message.message_type() != Type::MethodCall {
            continue;
        }
        received += 1;
        let body = message.body();
        let bytes: &Bytes = body.deserialize()?;
        match work {
            Work::Stream { batch, .. } if received % batch == 0 => {
                connection.send(&Message::signal(PATH, INTERFACE, "Done").build(&Bytes::new(DONE))?).await?;
            }
            Work::Stream { .. } => {}
            _ => connection.send(&Message::method_return(&message.header()).build(&bytes)?).await?,
        }
    }
    Ok(())
}

struct ZbusClient {
    connection: Connection,
    /// The stream of answers, which are signals.
    answers: Option<MessageStream>,
    runtime: Runtime,
}

impl Client for ZbusClient {
    fn send(&mut self, _message: &[u8]) -> Result<()> {
        anyhow::bail!("a method call cannot be split into send and receive")
    }

    fn receive(&mut self, _reply: &mut Vec<u8>) -> Result<()> {
        anyhow::bail!("a method call cannot be split into send and receive")
    }

    fn round_trip(&mut self, message: &[u8], reply: &mut Vec<u8>) -> Result<()> {
        let message = Bytes::new(message);
        let call = self.connection.call_method(None::<&str>, PATH, Some(INTERFACE), "Echo", &message);
        let answer = self.runtime.block_on(call)?;
        let body = answer.body();
        reply.clear();
        reply.extend_from_slice(body.deserialize::<&Bytes>()?);
        Ok(())
    }

    fn stream(&mut self, message: &[u8], count: u64) -> Result<()> {
        let answers = self.answers.as_mut().context("the client was connected for round trips")?;
        // Messages are built in groups of at most `TOGETHER` messages and of at most 1 MiB (or one message), because
        // the group is in memory twice.
        let together = TOGETHER.min((1 << 20) / message.len()).max(1);
        let mut left = count as usize;
        self.runtime.block_on(async {
            while left > 0 {
                let now = left.min(together);
                let messages: Result<Vec<Message>, zbus::Error> = (0..now).map(|_| call(message)).collect();
                self.connection.send_all(&messages?).await?;
                left -= now;
            }
            answers.next().await.context("the server disconnected")??;
            Ok(())
        })
    }
}

/// Creates a call without an answer. Each call is a new message, because a message has a serial number.
fn call(message: &[u8]) -> Result<Message, zbus::Error> {
    Message::method_call(PATH, "OneWay")
        .interface(INTERFACE)
        .with_flags(Flags::NO_REPLY_EXPECTED)
        .build(&Bytes::new(message))
}
