//! The contender for ZeroMQ (libzmq) over `ipc://`: REQ and REP, and PUSH and PULL one way.

use std::path::Path;
use std::sync::OnceLock;

use anyhow::Result;
use parlour_bench::{Client, Contender, DONE, Ready, Work};
use zmq::{Context, PULL, PUSH, REP, REQ, Socket, SocketType};

/// Sockets that reconnect, queue, and distribute messages. An I/O thread of the library does the I/O.
#[derive(Default)]
pub(crate) struct ZeroMq {
    /// The context of this process. The guide advises one context for each process.
    context: OnceLock<Context>,
}

impl ZeroMq {
    fn socket(&self, kind: SocketType) -> Result<Socket> {
        let socket = self.context.get_or_init(Context::new).socket(kind)?;
        // Unsent messages are discarded when a socket is closed.
        socket.set_linger(0)?;
        socket.set_sndhwm(HIGH_WATER_MARK)?;
        socket.set_rcvhwm(HIGH_WATER_MARK)?;
        Ok(socket)
    }
}

/// The number of messages that may be queued on each side. The size of a batch is another bound.
const HIGH_WATER_MARK: i32 = 10_000;

impl Contender for ZeroMq {
    fn name(&self) -> &str {
        "zeromq"
    }

    fn version(&self) -> String {
        let (major, minor, patch) = zmq::version();
        format!("libzmq {major}.{minor}.{patch}, zmq {}", crate::versions::locked("zmq"))
    }

    fn advice(&self) -> &str {
        "one context and one I/O thread, as there is less than a gigabyte per second for it (The Guide, chapter 2, I/O \
         Threads); high-water marks of 10,000 (perf/proxy_thr.cpp), no linger; one REP for all clients, PUSH and \
         PULL one way"
    }

    fn supports(&self, work: Work) -> bool {
        // A context has at most 1,023 sockets by default, and the crate has no function that changes the limit.
        match work {
            Work::Crowd { clients, .. } => clients <= 1_000,
            Work::Calls { .. } => false,
            _ => true,
        }
    }

    fn serve(&self, place: &Path, work: Work, ready: Ready) -> Result<()> {
        let Work::Stream { batch, .. } = work else {
            let socket = self.socket(REP)?;
            socket.bind(&address(place, "requests"))?;
            ready.tell();
            loop {
                let message = socket.recv_msg(0)?;
                socket.send(message, 0)?;
            }
        };
        let (pull, push) = (self.socket(PULL)?, self.socket(PUSH)?);
        pull.bind(&address(place, "there"))?;
        push.bind(&address(place, "back"))?;
        ready.tell();
        let mut received = 0;
        let mut message = zmq::Message::new();
        loop {
            pull.recv(&mut message, 0)?;
            received += 1;
            if received % batch == 0 {
                push.send(DONE, 0)?;
            }
        }
    }

    fn connect(&self, place: &Path, work: Work) -> Result<Box<dyn Client>> {
        if let Work::Stream { .. } = work {
            let (push, pull) = (self.socket(PUSH)?, self.socket(PULL)?);
            push.connect(&address(place, "there"))?;
            pull.connect(&address(place, "back"))?;
            return Ok(Box::new(ZeroMqClient { out: push, back: Some(pull), message: zmq::Message::new() }));
        }
        let socket = self.socket(REQ)?;
        socket.connect(&address(place, "requests"))?;
        Ok(Box::new(ZeroMqClient { out: socket, back: None, message: zmq::Message::new() }))
    }
}

fn address(place: &Path, name: &str) -> String {
    format!("ipc://{}", place.join(name).display())
}

struct ZeroMqClient {
    out: Socket,
    /// The socket for answers, if it is not `out`.
    back: Option<Socket>,
    message: zmq::Message,
}

impl Client for ZeroMqClient {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        Ok(self.out.send(message, 0)?)
    }

    fn receive(&mut self, reply: &mut Vec<u8>) -> Result<()> {
        self.back.as_ref().unwrap_or(&self.out).recv(&mut self.message, 0)?;
        reply.clear();
        reply.extend_from_slice(&self.message);
        Ok(())
    }
}
