//! Contenders for tokio's `UnixStream` with the `LengthDelimitedCodec` of tokio-util.

use std::path::Path;

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use parlour_bench::{Client, Contender, DONE, Ready, Work, raw_stream_client};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::versions::locked;

/// A codec on a runtime with one thread or, if `many` is set, with a thread for each processor.
pub(crate) struct TokioCodec {
    pub(crate) many: bool,
}

impl TokioCodec {
    fn runtime(&self) -> std::io::Result<Runtime> {
        let mut builder = if self.many { Builder::new_multi_thread() } else { Builder::new_current_thread() };
        builder.enable_all().build()
    }
}

impl Contender for TokioCodec {
    fn name(&self) -> &str {
        if self.many { "tokio-codec-threads" } else { "tokio-codec" }
    }

    fn version(&self) -> String {
        format!("tokio {}, tokio-util {}", locked("tokio"), locked("tokio-util"))
    }

    fn advice(&self) -> &str {
        if self.many {
            "a task for each client on a runtime of a thread for each processor; Framed with buffers of 64 KiB, \
             feed and flush (docs of tokio_util::codec::Framed, set_backpressure_boundary, and of SinkExt::feed)"
        } else {
            "a task for each client on a runtime of one thread; Framed with buffers of 64 KiB, \
             feed and flush (docs of tokio_util::codec::Framed, set_backpressure_boundary, and of SinkExt::feed)"
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
        self.runtime()?.block_on(async {
            let listener = UnixListener::bind(place.join("t"))?;
            ready.tell();
            loop {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(async move {
                    // A client that disconnects at any point is not an error of the server.
                    let _ = converse(framed(stream, work), work).await;
                });
            }
        })
    }

    fn connect(&self, place: &Path, work: Work) -> Result<Box<dyn Client>> {
        let path = place.join("t");
        if let Work::Crowd { .. } = work {
            // The wire format is the same, so the clients of all crowds cost the same.
            return raw_stream_client(&path, work);
        }
        let runtime = self.runtime()?;
        let framed =
            runtime.block_on(async { Ok::<_, std::io::Error>(framed(UnixStream::connect(path).await?, work)) })?;
        Ok(Box::new(TokioCodecClient { framed, runtime }))
    }
}

type Stream = Framed<UnixStream, LengthDelimitedCodec>;

fn framed(stream: UnixStream, work: Work) -> Stream {
    // The default limit on frames is 8 MiB.
    let codec = LengthDelimitedCodec::builder().max_frame_length(work.size().max(64)).new_codec();
    // The memory of idle connections is measured with a crowd, so a crowd has the default buffers.
    if let Work::Crowd { .. } = work {
        return Framed::new(stream, codec);
    }
    let mut framed = Framed::with_capacity(stream, codec, 64 * 1024);
    framed.set_backpressure_boundary(64 * 1024);
    framed
}

async fn converse(mut client: Stream, work: Work) -> Result<()> {
    let mut received = 0;
    while let Some(message) = client.next().await {
        let message = message?;
        received += 1;
        match work {
            Work::Stream { batch, .. } if received % batch == 0 => client.send(DONE).await?,
            Work::Stream { .. } => {}
            _ => client.send(message.freeze()).await?,
        }
    }
    Ok(())
}

struct TokioCodecClient {
    framed: Stream,
    runtime: Runtime,
}

async fn receive(framed: &mut Stream, reply: &mut Vec<u8>) -> Result<()> {
    let received = framed.next().await.context("the server disconnected")??;
    reply.clear();
    reply.extend_from_slice(&received);
    Ok(())
}

impl Client for TokioCodecClient {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        Ok(self.runtime.block_on(self.framed.send(message))?)
    }

    fn receive(&mut self, reply: &mut Vec<u8>) -> Result<()> {
        self.runtime.block_on(receive(&mut self.framed, reply))
    }

    fn round_trip(&mut self, message: &[u8], reply: &mut Vec<u8>) -> Result<()> {
        self.runtime.block_on(async {
            self.framed.send(message).await?;
            receive(&mut self.framed, reply).await
        })
    }

    fn stream(&mut self, message: &[u8], count: u64) -> Result<()> {
        self.runtime.block_on(async {
            for _ in 0..count {
                self.framed.feed(message).await?;
            }
            SinkExt::<&[u8]>::flush(&mut self.framed).await?;
            receive(&mut self.framed, &mut Vec::new()).await
        })
    }
}
