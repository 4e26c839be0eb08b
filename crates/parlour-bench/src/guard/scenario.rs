//! The scenarios of the guard: both ends of connections in one thread.
//!
//! The scenarios are deterministic. Every message is sent before it is received, so no call waits. `spin_limit` is 0,
//! so no call polls twice. Only [`counted`] is counted, after a warm-up, so the course of the handshake has no
//! influence.

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};
use parlour::frames::{FrameLimits, FramePoolOptions, FrameReader};
use parlour::hub::{Event, HubOptions};
use parlour::{Caller, ConnectOptions, Connection, Server, ServerOptions, Transport};
use parlour_measure::ours::address;

use crate::allocator;

/// The argument that precedes the name of a scenario on the command line.
pub(crate) const SCENARIO: &str = "--scenario";

/// A scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    kind: Kind,
    transport: Transport,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A round trip of a message of this length.
    Echo(usize),
    /// A hundred messages of 64 bytes one way, fed and flushed.
    Feed,
    /// As `Feed`, received in batches.
    Batch,
    /// Connect, accept, one round trip, and close both ends.
    Connect,
    /// As `Connect`, through one connector.
    Connector,
    /// Four clients send one message each to a hub, which sends it back.
    Hub,
    /// As `Hub`, but the messages are sent back through a handle, as another thread would do it.
    HubHandle,
    /// A frame of this length is lent to this many readers, each over a connection, and returned unread.
    Frames(usize, usize),
    /// A call with a request and a reply of this length. The server writes the messages of calls by hand.
    Call(usize),
}

const fn scenario(name: &'static str, kind: Kind, transport: Transport) -> Scenario {
    Scenario { name, kind, transport }
}

/// All scenarios. The longer message over `fifo` fits into the pipe at once: with both ends in one thread, a longer one
/// would block the sender forever. There is no scenario for connecting over `fifo` and `shm`, because that needs two
/// threads, which do not take the same steps each time.
pub(crate) const ALL: &[Scenario] = &[
    scenario("echo-shm-64B", Kind::Echo(64), Transport::Shm),
    scenario("echo-shm-64KiB", Kind::Echo(64 << 10), Transport::Shm),
    scenario("echo-packet-64B", Kind::Echo(64), Transport::Packet),
    scenario("echo-packet-64KiB", Kind::Echo(64 << 10), Transport::Packet),
    scenario("echo-unix-64B", Kind::Echo(64), Transport::Unix),
    scenario("echo-unix-64KiB", Kind::Echo(64 << 10), Transport::Unix),
    scenario("echo-fifo-64B", Kind::Echo(64), Transport::Fifo),
    scenario("echo-fifo-32KiB", Kind::Echo(32 << 10), Transport::Fifo),
    scenario("feed-shm-100x64B", Kind::Feed, Transport::Shm),
    scenario("feed-packet-100x64B", Kind::Feed, Transport::Packet),
    scenario("feed-unix-100x64B", Kind::Feed, Transport::Unix),
    scenario("feed-fifo-100x64B", Kind::Feed, Transport::Fifo),
    scenario("batch-shm-100x64B", Kind::Batch, Transport::Shm),
    scenario("batch-packet-100x64B", Kind::Batch, Transport::Packet),
    scenario("batch-unix-100x64B", Kind::Batch, Transport::Unix),
    scenario("batch-fifo-100x64B", Kind::Batch, Transport::Fifo),
    scenario("connect-packet", Kind::Connect, Transport::Packet),
    scenario("connect-unix", Kind::Connect, Transport::Unix),
    scenario("connector-packet", Kind::Connector, Transport::Packet),
    scenario("connector-unix", Kind::Connector, Transport::Unix),
    scenario("hub-unix-4x64B", Kind::Hub, Transport::Unix),
    scenario("hub-handle-unix-4x64B", Kind::HubHandle, Transport::Unix),
    scenario("frame-shm-64KiB", Kind::Frames(64 << 10, 1), Transport::Shm),
    scenario("frame-packet-64KiB", Kind::Frames(64 << 10, 1), Transport::Packet),
    scenario("frame-unix-64KiB", Kind::Frames(64 << 10, 1), Transport::Unix),
    scenario("frame-unix-4x8MiB", Kind::Frames(8 << 20, 4), Transport::Unix),
    scenario("call-shm-64B", Kind::Call(64), Transport::Shm),
    scenario("call-packet-64B", Kind::Call(64), Transport::Packet),
    scenario("call-unix-64B", Kind::Call(64), Transport::Unix),
    scenario("call-fifo-64B", Kind::Call(64), Transport::Fifo),
];

/// The number of steps that are counted.
pub(crate) const STEPS: u64 = 100;

const WARM_UP_STEPS: u64 = 20;

/// The marks in the output of strace: a scenario calls stat on these paths, which do not exist, before and after the
/// counted steps.
pub(crate) const BEGIN: &str = "/parlour-guard-begins";
pub(crate) const END: &str = "/parlour-guard-ends";

/// The function to which callgrind is restricted.
pub(crate) const COUNTED: &str = "*guard::scenario::counted*";

/// Runs a scenario in this process, and prints the number of its allocations.
pub(crate) fn run(name: &str) -> Result<()> {
    let scenario =
        ALL.iter().find(|scenario| scenario.name == name).with_context(|| format!("no scenario is named {name}"))?;
    // The name is not taken in the user's usual base. The directory is in /dev/shm if possible.
    let place = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
    let mut step = step(*scenario, place.path())?;
    for _ in 0..WARM_UP_STEPS {
        step()?;
    }
    let _ = fs::metadata(BEGIN);
    let before = allocator::count();
    counted(&mut *step)?;
    let allocations = allocator::count() - before;
    let _ = fs::metadata(END);
    println!("{allocations}");
    Ok(())
}

/// Runs the steps that are counted. Callgrind finds this function by its name, so it must not be inlined.
#[inline(never)]
fn counted(step: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    for _ in 0..STEPS {
        step()?;
    }
    Ok(())
}

type Step = Box<dyn FnMut() -> Result<()>>;

fn step(scenario: Scenario, place: &Path) -> Result<Step> {
    let Scenario { kind, transport, .. } = scenario;
    let address = address(transport, place);
    let server_options = ServerOptions::new().spin_limit(0);
    let options = ConnectOptions::new().spin_limit(0);
    match kind {
        Kind::Hub => return hub(&server_options, &options, &address),
        Kind::HubHandle => return hub_handle(&server_options, &options, &address),
        Kind::Frames(len, readers) => return frames(&options, transport, len, readers),
        _ => {}
    }
    let server = server_options.bind(&address)?;
    let mut buffer = Vec::new();
    if let Kind::Connect = kind {
        return Ok(Box::new(move || {
            let mut client = options.connect(&address)?;
            let mut accepted = server.accept()?;
            echo(&mut client, &mut accepted, &[7; 64], &mut buffer)
        }));
    }
    if let Kind::Connector = kind {
        let connector = options.connector(&address)?;
        return Ok(Box::new(move || {
            let mut client = connector.connect()?;
            let mut accepted = server.accept()?;
            echo(&mut client, &mut accepted, &[7; 64], &mut buffer)
        }));
    }
    let (mut client, mut accepted) = meet(&server, options, address)?;
    if let Kind::Call(len) = kind {
        return call(server, client, accepted, len);
    }
    Ok(match kind {
        Kind::Echo(len) => {
            let message = vec![7; len];
            Box::new(move || {
                let _name = &server;
                echo(&mut client, &mut accepted, &message, &mut buffer)
            })
        }
        // One place that feeds, so that the compiler treats both kinds alike.
        _ => Box::new(move || {
            let _name = &server;
            for _ in 0..100 {
                client.feed(&[7; 64])?;
            }
            client.flush()?;
            if let Kind::Batch = kind {
                return receive_batches(&mut accepted);
            }
            for _ in 0..100 {
                ensure!(accepted.recv_into(&mut buffer)?.is_some() && buffer.len() == 64, "a message was lost");
            }
            Ok(())
        }),
    })
}

/// Connects a client and accepts it. Returns both ends of the connection.
fn meet(server: &Server, options: ConnectOptions, address: String) -> Result<(Connection, Connection)> {
    let connecting = thread::spawn(move || options.connect(&address));
    let accepted = server.accept()?;
    let client = connecting.join().ok().context("the connecting thread panicked")??;
    Ok((client, accepted))
}

fn echo(client: &mut Connection, server: &mut Connection, message: &[u8], buffer: &mut Vec<u8>) -> Result<()> {
    client.send(message)?;
    ensure!(server.recv_into(buffer)?.is_some(), "the client has gone");
    server.send(&*buffer)?;
    ensure!(client.recv_into(buffer)?.is_some() && buffer.len() == message.len(), "the answer is another");
    Ok(())
}

/// Receives a hundred messages where they are.
fn receive_batches(server: &mut Connection) -> Result<()> {
    let mut heard = 0;
    while heard < 100 {
        let mut batch = server.recv_batch()?.context("the client has gone")?;
        while let Some(message) = batch.next_message() {
            ensure!(message.len() == 64, "a message was lost");
            heard += 1;
        }
    }
    Ok(())
}

/// The reply is sent before the call, which knows its id only when it arrives, so the call does not wait.
fn call(name: Server, client: Connection, mut server: Connection, len: usize) -> Result<Step> {
    let caller = Caller::new(client)?;
    server.send(&[0xc1, 0, 1, 0, 0, 0, 0, 1])?;
    let (request, mut buffer, mut id) = (vec![7; len], Vec::new(), 0u32);
    let mut reply = [&[0xc1, 2, 0, 0, 0, 0, 0, 0][..], &request].concat();
    ensure!(server.recv_into(&mut buffer)? == Some(8), "the caller did not greet");
    Ok(Box::new(move || {
        let _name = &name;
        id += 1;
        reply[4..8].copy_from_slice(&id.to_be_bytes());
        server.send(&reply)?;
        ensure!(caller.call(&request)?.len() == len, "the answer is another");
        ensure!(server.recv_into(&mut buffer)? == Some(8 + len), "the request is another");
        Ok(())
    }))
}

/// Nobody touches the bytes, so every length costs the same.
fn frames(options: &ConnectOptions, transport: Transport, len: usize, readers: usize) -> Result<Step> {
    let mut pool = FramePoolOptions::new(len).readers(readers).create()?;
    let mut ends = Vec::new();
    for _ in 0..readers {
        let (mut publisher, mut client) = options.clone().fds_max(2).pair(transport)?;
        let reader = FrameReader::attach(&FrameLimits::new(), |payload| client.send(payload))?;
        let id = pool.admit(publisher.recv()?.context("the reader has gone")?, publisher.peer())?;
        ends.push((publisher, id, client, reader));
    }
    Ok(Box::new(move || {
        let frame = pool.loan()?.freeze();
        for (publisher, id, ..) in &mut ends {
            pool.send(*id, &frame, b"", |payload| publisher.send(payload))?;
        }
        for (_, _, client, reader) in &mut ends {
            let received = reader.open(client.recv()?.context("the publisher has gone")?)?;
            ensure!(received.is_lent() && received.len() == len, "the frame is another");
        }
        Ok(())
    }))
}

fn hub(server: &ServerOptions, options: &ConnectOptions, address: &str) -> Result<Step> {
    let mut hub = HubOptions::from(server.clone()).bind(address)?;
    let mut clients = (0..4).map(|_| options.connect(address)).collect::<parlour::Result<Vec<_>>>()?;
    let mut buffer = Vec::new();
    Ok(Box::new(move || {
        for client in &mut clients {
            client.send(&[7; 64])?;
        }
        let mut heard = 0;
        while heard < clients.len() {
            if let Event::Message(client, message) = hub.next_event()? {
                hub.send(client, &message)?;
                heard += 1;
            }
        }
        hub.flush()?;
        for client in &mut clients {
            ensure!(client.recv_into(&mut buffer)?.is_some() && buffer.len() == 64, "the answer is another");
        }
        Ok(())
    }))
}

fn hub_handle(server: &ServerOptions, options: &ConnectOptions, address: &str) -> Result<Step> {
    let mut hub = HubOptions::from(server.clone()).bind(address)?;
    let handle = hub.handle()?;
    let mut clients = (0..4).map(|_| options.connect(address)).collect::<parlour::Result<Vec<_>>>()?;
    let mut buffer = Vec::new();
    Ok(Box::new(move || {
        for client in &mut clients {
            client.send(&[7; 64])?;
        }
        let mut heard = 0;
        while heard < clients.len() {
            if let Event::Message(client, message) = hub.next_event()? {
                ensure!(handle.send(client, &message).is_ok(), "the queue is full");
                heard += 1;
            }
        }
        ensure!(hub.try_next_event().is_err_and(|error| error.is_empty()), "an event that nobody caused");
        for client in &mut clients {
            ensure!(client.recv_into(&mut buffer)?.is_some() && buffer.len() == 64, "the answer is another");
        }
        Ok(())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_runs_three_steps_without_an_error() {
        for scenario in ALL {
            let place = tempfile::tempdir().unwrap();
            let mut step = step(*scenario, place.path()).unwrap();
            for _ in 0..3 {
                step().unwrap_or_else(|error| panic!("{}: {error:#}", scenario.name));
            }
        }
    }
}
