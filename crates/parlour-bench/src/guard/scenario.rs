//! The scenarios of the guard: both ends of connections in one thread.
//!
//! The scenarios are deterministic. Every message is sent before it is received, so no call waits. `spin_limit` is 0,
//! so no call polls twice. Only [`counted`] is counted, after a warm-up, so the course of the handshake has no
//! influence.

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};
use parlour::hub::{Event, HubOptions};
use parlour::{ConnectOptions, Connection, Server, ServerOptions, Transport};
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
    /// Connect, accept, one round trip, and close both ends.
    Connect,
    /// Four clients send one message each to a hub, which sends it back.
    Hub,
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
    scenario("connect-packet", Kind::Connect, Transport::Packet),
    scenario("connect-unix", Kind::Connect, Transport::Unix),
    scenario("hub-unix-4x64B", Kind::Hub, Transport::Unix),
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
    if let Kind::Hub = kind {
        return hub(&server_options, &options, &address);
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
    let (mut client, mut accepted) = meet(&server, options, address)?;
    Ok(match kind {
        Kind::Echo(len) => {
            let message = vec![7; len];
            Box::new(move || {
                let _name = &server;
                echo(&mut client, &mut accepted, &message, &mut buffer)
            })
        }
        _ => Box::new(move || {
            let _name = &server;
            for _ in 0..100 {
                client.feed(&[7; 64])?;
            }
            client.flush()?;
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
