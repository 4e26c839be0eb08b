//! What the guard counts: both ends of connections in one thread.
//!
//! Deterministic: what is received has been sent before, so nothing waits; `spin_limit` is 0, so nothing looks twice; and
//! only [`counted`] is looked at, after a warm-up, so that it does not matter how the ends met.

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};
use parlour::hub::{Event, HubOptions};
use parlour::{ConnectOptions, Connection, Server, ServerOptions, Transport};
use parlour_measure::ours::address;

use crate::allocator;

/// Argument that precedes the name of a scenario on the command line.
pub(crate) const SCENARIO: &str = "--scenario";

/// One of them, by its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    kind: Kind,
    transport: Transport,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A message of this length there and back.
    Echo(usize),
    /// A hundred messages of 64 bytes one way, fed and flushed.
    Feed,
    /// Connect, be accepted, one message there and back, and both close.
    Connect,
    /// Four clients send a message to a hub, which sends each back.
    Hub,
}

const fn scenario(name: &'static str, kind: Kind, transport: Transport) -> Scenario {
    Scenario { name, kind, transport }
}

/// All of them. The longer message over `fifo` is what a pipe holds at once: with both ends in one thread nobody would
/// read the rest. Over `fifo` and `shm` two threads are needed to connect, and those do not take the same steps each
/// time.
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

/// How many steps are counted.
pub(crate) const STEPS: u64 = 100;

const WARM_UP_STEPS: u64 = 20;

/// Looked for by strace: these paths, which do not exist, are looked at before and after what is to be counted.
pub(crate) const BEGIN: &str = "/parlour-guard-begins";
pub(crate) const END: &str = "/parlour-guard-ends";

/// The function that callgrind is told to look at.
pub(crate) const COUNTED: &str = "*guard::scenario::counted*";

/// Does one, in a process of its own, and says how much it has allocated.
pub(crate) fn run(name: &str) -> Result<()> {
    let scenario = ALL.iter().find(|scenario| scenario.name == name).with_context(|| format!("there is no {name}"))?;
    // Not where names are usually held; in memory where that can be had.
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

/// What is counted. It stays a function of its own, by which callgrind knows it.
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

/// Both ends of a connection.
fn meet(server: &Server, options: ConnectOptions, address: String) -> Result<(Connection, Connection)> {
    let connecting = thread::spawn(move || options.connect(&address));
    let accepted = server.accept()?;
    let client = connecting.join().ok().context("connecting has panicked")??;
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
    fn every_scenario_does_what_it_says() {
        for scenario in ALL {
            let place = tempfile::tempdir().unwrap();
            let mut step = step(*scenario, place.path()).unwrap();
            for _ in 0..3 {
                step().unwrap_or_else(|error| panic!("{}: {error:#}", scenario.name));
            }
        }
    }
}
