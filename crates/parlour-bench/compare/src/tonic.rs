//! The contender for gRPC (tonic) over a UNIX socket: a unary method, and a stream of messages one way.

use std::path::Path;

use anyhow::{Context, Result};
use bytes::Bytes;
use parlour_bench::{Client, Contender, DONE, Ready, Work};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::versions::locked;

/// The code that `protoc` would generate from a .proto file. build.rs generates it without `protoc`.
#[allow(missing_docs, unreachable_pub, reason = "generated")]
mod echo {
    include!(concat!(env!("OUT_DIR"), "/parlour.bench.Echo.rs"));
}

/// `message Payload { bytes data = 1; }`, with bytes that are not copied out of the receive buffer.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Payload {
    #[prost(bytes = "bytes", tag = "1")]
    data: Bytes,
}

/// Typed methods over HTTP/2.
pub(crate) struct Tonic;

/// The flow-control window of a stream and of a connection, which holds a whole message.
const WINDOW: u32 = 32 << 20;

/// The maximum frame size of HTTP/2.
const FRAME: u32 = (1 << 24) - 1;

/// The number of messages that may wait before or after a stream.
const QUEUE: usize = 128;

impl Contender for Tonic {
    fn name(&self) -> &str {
        "tonic"
    }

    fn version(&self) -> String {
        format!("tonic {}, prost {}, hyper {}", locked("tonic"), locked("prost"), locked("hyper"))
    }

    fn advice(&self) -> &str {
        "unary for round trips and a stream one way, over unix:// on tokio's runtime of many threads \
         (examples/src/uds, examples/src/streaming); no compression, bytes fields as Bytes (docs of \
         prost_build::Config::bytes), windows of 32 MiB and frames of 16 MiB (docs of Endpoint and Server)"
    }

    fn supports(&self, work: Work) -> bool {
        // One thread serves a crowd, and the server of tonic is made for many threads.
        !matches!(work, Work::Crowd { .. } | Work::Calls { .. })
    }

    fn serve(&self, place: &Path, work: Work, ready: Ready) -> Result<()> {
        Runtime::new()?.block_on(async {
            let listener = UnixListener::bind(place.join("g"))?;
            ready.tell();
            let batch = if let Work::Stream { batch, .. } = work { batch } else { 1 };
            let service = echo::echo_server::EchoServer::new(Service { batch })
                .max_decoding_message_size(usize::MAX)
                .max_encoding_message_size(usize::MAX);
            Server::builder()
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW)
                .max_frame_size(FRAME)
                .add_service(service)
                .serve_with_incoming(UnixListenerStream::new(listener))
                .await?;
            Ok(())
        })
    }

    fn connect(&self, place: &Path, work: Work) -> Result<Box<dyn Client>> {
        let runtime = Runtime::new()?;
        let (client, stream) = runtime.block_on(async {
            let channel = Endpoint::try_from(format!("unix://{}", place.join("g").display()))?
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW)
                .max_frame_size(FRAME)
                .connect()
                .await?;
            let mut client = echo::echo_client::EchoClient::new(channel)
                .max_decoding_message_size(usize::MAX)
                .max_encoding_message_size(usize::MAX);
            let stream = if let Work::Stream { .. } = work {
                let (sender, receiver) = mpsc::channel(QUEUE);
                Some((sender, client.one_way(ReceiverStream::new(receiver)).await?.into_inner()))
            } else {
                None
            };
            Ok::<_, anyhow::Error>((client, stream))
        })?;
        Ok(Box::new(TonicClient { client, stream, message: Owned::default(), runtime: Some(runtime) }))
    }
}

struct Service {
    batch: u64,
}

#[tonic::async_trait]
impl echo::echo_server::Echo for Service {
    async fn round_trip(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    type OneWayStream = ReceiverStream<Result<Payload, Status>>;

    async fn one_way(&self, request: Request<Streaming<Payload>>) -> Result<Response<Self::OneWayStream>, Status> {
        let (answers, receiver) = mpsc::channel(QUEUE);
        let batch = self.batch;
        tokio::spawn(async move {
            let mut messages = request.into_inner();
            let mut received = 0;
            while let Ok(Some(_)) = messages.message().await {
                received += 1;
                if received % batch == 0 && answers.send(Ok(Payload { data: DONE.into() })).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

struct TonicClient {
    client: echo::echo_client::EchoClient<tonic::transport::Channel>,
    /// The sender of one-way messages and the receiver of answers.
    stream: Option<(mpsc::Sender<Payload>, Streaming<Payload>)>,
    message: Owned,
    /// Always `Some`.
    runtime: Option<Runtime>,
}

impl Client for TonicClient {
    fn send(&mut self, _message: &[u8]) -> Result<()> {
        anyhow::bail!("a unary call cannot be split into send and receive")
    }

    fn receive(&mut self, _reply: &mut Vec<u8>) -> Result<()> {
        anyhow::bail!("a unary call cannot be split into send and receive")
    }

    fn round_trip(&mut self, message: &[u8], reply: &mut Vec<u8>) -> Result<()> {
        let data = self.message.of(message);
        let runtime = self.runtime.as_ref().context("the runtime has ended")?;
        let response = runtime.block_on(self.client.round_trip(Payload { data }))?;
        reply.clear();
        reply.extend_from_slice(&response.into_inner().data);
        Ok(())
    }

    fn stream(&mut self, message: &[u8], count: u64) -> Result<()> {
        let data = self.message.of(message);
        let runtime = self.runtime.as_ref().context("the runtime has ended")?;
        let (sender, answers) = self.stream.as_mut().context("the client was connected for round trips")?;
        runtime.block_on(async {
            for _ in 0..count {
                sender.send(Payload { data: data.clone() }).await?;
            }
            answers.next().await.context("the server disconnected")??;
            Ok(())
        })
    }
}

/// A message in the form in which tonic sends it. Users of tonic have their messages in `Bytes` from the beginning, so
/// the benchmark's message is copied only once and not for each call.
#[derive(Default)]
struct Owned {
    /// The address and the length of the benchmark's message.
    lent: (usize, usize),
    bytes: Bytes,
}

impl Owned {
    /// Returns the message as `Bytes`. The benchmark never changes a message that it sends again, so the address and
    /// the length identify its contents.
    fn of(&mut self, message: &[u8]) -> Bytes {
        let lent = (message.as_ptr() as usize, message.len());
        if self.lent != lent {
            *self = Self { lent, bytes: Bytes::copy_from_slice(message) };
        }
        self.bytes.clone()
    }
}
