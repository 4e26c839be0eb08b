//! The contender for nng over `ipc://`: REQ and REP, and PUSH and PULL one way.

use std::path::Path;

use anyhow::{Result, anyhow};
use nng::options::{Options, RecvBufferSize, RecvMaxSize, SendBufferSize};
use nng::{Message, Protocol, Socket};
use parlour_bench::{Client, Contender, DONE, Ready, Work};

use crate::versions::locked;

/// Sockets that reconnect, queue, and distribute messages. Threads of the library do the I/O.
pub(crate) struct Nng;

impl Contender for Nng {
    fn name(&self) -> &str {
        "nng"
    }

    fn version(&self) -> String {
        format!("libnng {}, nng {}", locked("nng-sys"), locked("nng"))
    }

    fn advice(&self) -> &str {
        "messages (nng_msg), which are not copied on their way to the system (nng_sendmsg(3)), sent back as they are; \
         buffers of 128 messages one way (its tool perf), no limit on lengths (nng_options(5))"
    }

    fn supports(&self, work: Work) -> bool {
        // A REP socket answers one request after the other. Contexts would each need an operation of their own.
        !matches!(work, Work::Crowd { .. } | Work::Calls { .. })
    }

    fn serve(&self, place: &Path, work: Work, ready: Ready) -> Result<()> {
        let Work::Stream { batch, .. } = work else {
            let socket = socket(Protocol::Rep0)?;
            socket.listen(&address(place, "requests"))?;
            ready.tell();
            loop {
                send(&socket, socket.recv()?)?;
            }
        };
        let (pull, push) = (socket(Protocol::Pull0)?, socket(Protocol::Push0)?);
        pull.set_opt::<RecvBufferSize>(BUFFER)?;
        pull.listen(&address(place, "there"))?;
        push.listen(&address(place, "back"))?;
        ready.tell();
        let mut received = 0;
        loop {
            pull.recv()?;
            received += 1;
            if received % batch == 0 {
                send(&push, DONE)?;
            }
        }
    }

    fn connect(&self, place: &Path, work: Work) -> Result<Box<dyn Client>> {
        if let Work::Stream { .. } = work {
            let (push, pull) = (socket(Protocol::Push0)?, socket(Protocol::Pull0)?);
            push.set_opt::<SendBufferSize>(BUFFER)?;
            push.dial(&address(place, "there"))?;
            pull.dial(&address(place, "back"))?;
            return Ok(Box::new(NngClient { out: push, back: Some(pull) }));
        }
        let socket = socket(Protocol::Req0)?;
        socket.dial(&address(place, "requests"))?;
        Ok(Box::new(NngClient { out: socket, back: None }))
    }
}

/// The number of messages that may wait in a socket.
const BUFFER: i32 = 128;

fn socket(protocol: Protocol) -> Result<Socket> {
    let socket = Socket::new(protocol)?;
    socket.set_opt::<RecvMaxSize>(0)?;
    Ok(socket)
}

fn address(place: &Path, name: &str) -> String {
    format!("ipc://{}", place.join(name).display())
}

fn send(socket: &Socket, message: impl Into<Message>) -> Result<()> {
    socket.send(message).map_err(|(_, error)| anyhow!(error))
}

struct NngClient {
    out: Socket,
    /// The socket for answers, if it is not `out`.
    back: Option<Socket>,
}

impl Client for NngClient {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        send(&self.out, message)
    }

    fn receive(&mut self, reply: &mut Vec<u8>) -> Result<()> {
        let message = self.back.as_ref().unwrap_or(&self.out).recv()?;
        reply.clear();
        reply.extend_from_slice(&message);
        Ok(())
    }
}
