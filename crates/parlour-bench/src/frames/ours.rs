//! The ways of parlour: frame pools, messages, and blocks of shared memory.

use std::path::Path;

use anyhow::{Context, Result};
use parlour::frames::{AtShare, FrameLimits, FramePool, FramePoolOptions, FrameReader, ReaderId};
use parlour::{ConnectOptions, Connection, Message, Payload, Server, ServerOptions, SharedBytes, Transport};
use parlour_measure::ours::{address, version};

use super::way::{FramePublisher, FrameWay, sum};

/// A way to use the API, over `shm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A pool; frames are read in place.
    Pool,
    /// A pool; frames are copied out.
    PoolCopied,
    /// Messages with all bytes.
    Messages,
    /// A new block of shared memory for each frame.
    Blocks,
}

/// Returns the ways of parlour.
pub(crate) fn ways() -> Vec<Box<dyn FrameWay>> {
    let all = [Way::Pool, Way::PoolCopied, Way::Messages, Way::Blocks];
    all.into_iter().map(|way| Box::new(way) as Box<dyn FrameWay>).collect()
}

const MESSAGE_MAX: usize = 16 << 20;

impl FrameWay for Way {
    fn name(&self) -> &str {
        match self {
            Self::Pool => "parlour-frames",
            Self::PoolCopied => "parlour-frames-copied",
            Self::Messages => "parlour-frames-as-messages",
            Self::Blocks => "parlour-frames-as-blocks",
        }
    }

    fn version(&self) -> String {
        version()
    }

    fn advice(&self) -> &str {
        match self {
            Self::Pool => "a FramePool over shm, a share of two blocks; filled and read in place (TrustingReader)",
            Self::PoolCopied => "a FramePool over shm, a share of two blocks; filled in place, copied out (copy_to)",
            Self::Messages => "a message over shm with all bytes, to each reader; send and recv_into",
            Self::Blocks => "a new SharedBytes for each frame, filled and read in place; the messages over shm",
        }
    }

    fn publisher(&self, place: &Path, size: usize, readers: usize) -> Result<Box<dyn FramePublisher>> {
        let server = ServerOptions::new().fds_max(2).message_max(MESSAGE_MAX).bind(address(Transport::Shm, place))?;
        let pool = FramePoolOptions::new(size).readers(readers).share(2).at_share(AtShare::Wait).create()?;
        Ok(Box::new(Publisher { way: *self, server, pool, readers, clients: Vec::new(), buffer: vec![0; size] }))
    }

    #[allow(unsafe_code, reason = "reading in place is a promise about the publisher, which is this program")]
    fn read(&self, place: &Path, _size: usize, _readers: usize, tell: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let options = ConnectOptions::new().fds_max(1).message_max(MESSAGE_MAX);
        let mut connection = options.connect(address(Transport::Shm, place))?;
        let attach =
            |connection: &mut Connection| FrameReader::attach(&FrameLimits::new(), |payload| connection.send(payload));
        let mut buffer = Vec::new();
        match self {
            Self::Pool => {
                // SAFETY: the publisher is this program, and publishes with a pool of the library.
                let mut reader = unsafe { attach(&mut connection)?.trust_publisher() };
                serve(&mut connection, tell, |message| {
                    sum(&reader.open(message)?);
                    Ok(())
                })
            }
            Self::PoolCopied => {
                let mut reader = attach(&mut connection)?;
                serve(&mut connection, tell, |message| {
                    reader.open(message)?.copy_to(&mut buffer)?;
                    sum(&buffer);
                    Ok(())
                })
            }
            Self::Messages => {
                connection.send("hello")?;
                tell()?;
                while let Some(length) = connection.recv_into(&mut buffer)? {
                    match length {
                        0 => tell()?,
                        _ => sum(&buffer),
                    }
                }
                Ok(())
            }
            Self::Blocks => {
                connection.send("hello")?;
                serve(&mut connection, tell, |mut message| {
                    message.take_shared()?.iter().for_each(|block| sum(block));
                    Ok(())
                })
            }
        }
    }
}

/// Reads every frame, and tells of each empty message.
fn serve(
    connection: &mut Connection,
    tell: &mut dyn FnMut() -> Result<()>,
    mut read: impl FnMut(Message) -> Result<()>,
) -> Result<()> {
    tell()?;
    while let Some(message) = connection.recv()? {
        match message.is_empty() {
            true => tell()?,
            false => read(message)?,
        }
    }
    Ok(())
}

struct Publisher {
    way: Way,
    server: Server,
    pool: FramePool,
    readers: usize,
    clients: Vec<(Connection, Option<ReaderId>)>,
    /// The frame that is sent as a message.
    buffer: Vec<u8>,
}

impl FramePublisher for Publisher {
    fn meet(&mut self) -> Result<()> {
        while self.clients.len() < self.readers {
            let mut client = self.server.accept()?;
            let hello = client.recv()?.context("a reader says hello")?;
            let id = match self.way {
                Way::Pool | Way::PoolCopied => Some(self.pool.admit(hello, client.peer())?),
                Way::Messages | Way::Blocks => None,
            };
            self.clients.push((client, id));
        }
        Ok(())
    }

    fn publish(&mut self, byte: u8) -> Result<()> {
        match self.way {
            Way::Pool | Way::PoolCopied => {
                let mut frame = self.pool.loan()?;
                frame.fill(byte);
                let frame = frame.freeze();
                for (client, id) in &mut self.clients {
                    let id = id.context("every reader was admitted")?;
                    self.pool.send(id, &frame, &[], |payload| client.send(payload))?;
                }
            }
            Way::Messages => {
                self.buffer.fill(byte);
                for (client, _) in &mut self.clients {
                    client.send(&self.buffer)?;
                }
            }
            Way::Blocks => {
                let block = SharedBytes::build(self.buffer.len(), |bytes| bytes.fill(byte))?;
                for (client, _) in &mut self.clients {
                    client.send(Payload::new(&[1]).shared(&[&block]))?;
                }
            }
        }
        Ok(())
    }

    fn mark(&mut self) -> Result<()> {
        for (client, _) in &mut self.clients {
            client.send(b"")?;
        }
        Ok(())
    }
}
