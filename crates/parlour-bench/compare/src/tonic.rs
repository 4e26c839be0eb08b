//! gRPC (tonic) over a UNIX socket: a unary method, and a stream of messages one way.

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

/// What `protoc` would have made of a service in a .proto file; build.rs makes it without.
#[allow(missing_docs, unreachable_pub, reason = "generated")]
mod echo {
    include!(concat!(env!("OUT_DIR"), "/parlour.bench.Echo.rs"));
}

/// `message Payload { bytes data = 1; }`, with bytes that are not copied out of what was received.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Payload {
    #[prost(bytes = "bytes", tag = "1")]
    data: Bytes,
}

/// Methods and types, over HTTP/2.
pub(crate) struct Tonic;

/// So much of a message, and of a stream of them, may be underway: all of one.
const WINDOW: u32 = 32 << 20;

/// The longest that HTTP/2 allows.
const FRAME: u32 = (1 << 24) - 1;

/// Messages that may wait on their way into or out of a stream.
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
        // A crowd is served by one thread, and its server is made for many.
        !matches!(work, Work::Crowd { .. })
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
    /// Where messages go one way, and where answers come from.
    stream: Option<(mpsc::Sender<Payload>, Streaming<Payload>)>,
    message: Owned,
    /// Always there, until it ends without waiting for what it still does.
    runtime: Option<Runtime>,
}

impl Client for TonicClient {
    fn send(&mut self, _message: &[u8]) -> Result<()> {
        anyhow::bail!("a unary call is sent and answered in one")
    }

    fn receive(&mut self, _reply: &mut Vec<u8>) -> Result<()> {
        anyhow::bail!("a unary call is sent and answered in one")
    }

    fn round_trip(&mut self, message: &[u8], reply: &mut Vec<u8>) -> Result<()> {
        let data = self.message.of(message);
        let runtime = self.runtime.as_ref().context("it has ended")?;
        let response = runtime.block_on(self.client.round_trip(Payload { data }))?;
        reply.clear();
        reply.extend_from_slice(&response.into_inner().data);
        Ok(())
    }

    fn stream(&mut self, message: &[u8], count: u64) -> Result<()> {
        let data = self.message.of(message);
        let runtime = self.runtime.as_ref().context("it has ended")?;
        let (sender, answers) = self.stream.as_mut().context("it was connected for round trips")?;
        runtime.block_on(async {
            for _ in 0..count {
                sender.send(Payload { data: data.clone() }).await?;
            }
            answers.next().await.context("the server has gone")??;
            Ok(())
        })
    }
}

/// A message as it is sent. Whoever uses tonic has his messages in `Bytes` to begin with; so what the benchmark lends
/// is copied once and not each time.
#[derive(Default)]
struct Owned {
    /// Where it was lent.
    lent: (usize, usize),
    bytes: Bytes,
}

impl Owned {
    /// The benchmark never changes a message that it sends again.
    fn of(&mut self, message: &[u8]) -> Bytes {
        let lent = (message.as_ptr() as usize, message.len());
        if self.lent != lent {
            *self = Self { lent, bytes: Bytes::copy_from_slice(message) };
        }
        self.bytes.clone()
    }
}
