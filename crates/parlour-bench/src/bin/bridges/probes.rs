//! The effect of faults, and the memory of idle conversations.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use parlour_bench::{Client, Probe};
use rustix::process::Signal;

use crate::client::BareClient;
use crate::kind::Kind;
use crate::server::{self, now_ns};
use crate::stage::{LEASE, Networks, Running, Stage};

/// The number of conversations for which memory is measured.
const IDLE: u32 = 500;

/// The time after which a fault counts as not noticed.
const LIMIT: Duration = Duration::from_secs(12);

/// The message of the client that is watched.
const MESSAGE: &[u8] = b"probe";

/// Returns all probes.
pub(crate) fn all() -> Vec<Box<dyn Probe>> {
    // The relay with TLS is there for the throughput alone.
    let every = Kind::ALL.into_iter().filter(|kind| *kind != Kind::TlsRelay).flat_map(|kind| {
        let whats = [What::Kill(Part::Server), What::Kill(Part::Exporter), What::Kill(Part::Importer)];
        whats.into_iter().chain([What::Memory]).map(move |what| Fault { kind, what })
    });
    // Nothing else among the contenders has a lease.
    let bridge = [What::Stop(Part::Exporter), What::Stop(Part::Importer), What::Cut];
    let bridge = bridge.into_iter().map(|what| Fault { kind: Kind::Bridge, what });
    every.chain(bridge).map(|fault| Box::new(fault) as Box<dyn Probe>).collect()
}

/// A process that is killed or stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Server,
    Exporter,
    Importer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Kill(Part),
    Stop(Part),
    Cut,
    Memory,
}

/// One probe of one contender.
struct Fault {
    kind: Kind,
    what: What,
}

impl Probe for Fault {
    fn name(&self) -> &str {
        match self.what {
            What::Kill(Part::Server) => "kill-server",
            What::Kill(Part::Exporter) => "kill-exporter",
            What::Kill(Part::Importer) => "kill-importer",
            What::Stop(Part::Importer) => "stop-importer",
            What::Stop(_) => "stop-exporter",
            What::Cut => "cut",
            What::Memory => "memory",
        }
    }

    fn title(&self) -> &str {
        match self.what {
            What::Kill(Part::Server) => "kill -9 of the server, until its client knows",
            What::Kill(Part::Exporter) => "kill -9 on the server's host, until the client knows",
            What::Kill(Part::Importer) => "kill -9 on the client's host, until the server knows",
            What::Stop(Part::Importer) => {
                "the client's host is stopped, until the server knows, as a part of the lease"
            }
            What::Stop(_) => "the server's host is stopped, until the client knows, as a part of the lease",
            What::Cut => "the server's host is cut off, until the client knows, as a part of the lease",
            What::Memory => "resident memory of an idle conversation, on the host that takes more",
        }
    }

    fn contender(&self) -> &str {
        self.kind.name()
    }

    fn unit(&self) -> &str {
        match self.what {
            What::Kill(_) => "ms",
            What::Stop(_) | What::Cut => "leases",
            What::Memory => "KiB",
        }
    }

    fn measure(&self) -> Result<f64> {
        match self.what {
            What::Memory => memory(self.kind),
            What::Cut => {
                let networks = Networks::new()?;
                let mut scene = Scene::new(self.kind, Some(&networks))?;
                let begin = now_ns();
                networks.cut()?;
                Ok(scene.client_knows(begin)? / (LEASE.as_secs_f64() * 1e3))
            }
            What::Kill(part) => Scene::new(self.kind, None)?.signal(part, Signal::KILL),
            What::Stop(part) => {
                Ok(Scene::new(self.kind, None)?.signal(part, Signal::STOP)? / (LEASE.as_secs_f64() * 1e3))
            }
        }
    }
}

/// A server in a process of its own, a client, and the processes between them.
struct Scene {
    client: Option<BareClient>,
    running: Running,
    server: Server,
    _place: tempfile::TempDir,
}

impl Scene {
    fn new(kind: Kind, networks: Option<&Networks>) -> Result<Self> {
        let place = tempfile::Builder::new().prefix("parlour-bridges-").tempdir_in("/dev/shm")?;
        let stage = Stage::prepare(place.path())?;
        let server = Server::start(&stage)?;
        let running = stage.start(kind, networks)?;
        let mut client = running.client()?;
        client.round_trip(MESSAGE, &mut Vec::new())?;
        client.limit(LIMIT)?;
        Ok(Self { client: Some(client), running, server, _place: place })
    }

    /// Sends a signal, and returns the milliseconds until the far side knows.
    fn signal(&mut self, part: Part, signal: Signal) -> Result<f64> {
        let begin = now_ns();
        match part {
            Part::Server => self.server.process.kill()?,
            Part::Exporter => self.running.exporter.signal(signal),
            Part::Importer => self.running.importer.signal(signal),
        }
        if part != Part::Importer {
            return self.client_knows(begin);
        }
        // Otherwise, the end of the client would be what the server sees.
        let ended = self.server.ended()?;
        drop(self.client.take());
        Ok(ended.saturating_sub(begin) as f64 / 1e6)
    }

    fn client_knows(&mut self, begin: u64) -> Result<f64> {
        let client = self.client.as_mut().context("the client has gone")?;
        let outcome = client.receive(&mut Vec::new());
        let took = now_ns().saturating_sub(begin);
        ensure!(outcome.is_err(), "a message has arrived that nobody has sent");
        if took >= LIMIT.as_nanos() as u64 {
            bail!("not noticed within {} s", LIMIT.as_secs());
        }
        Ok(took as f64 / 1e6)
    }
}

/// The process of the server.
struct Server {
    process: Child,
    lines: Receiver<String>,
}

impl Server {
    fn start(stage: &Stage) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(server::ROLE).arg(stage.server_directory()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let stdout = BufReader::new(process.stdout.take().context("taking stdout of the server")?);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let server = Self { process, lines };
        ensure!(server.lines.recv_timeout(LIMIT)? == "ready", "the server is not ready");
        Ok(server)
    }

    /// Returns the time at which the client that is watched has ended for the server.
    fn ended(&self) -> Result<u64> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let line = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let line = line.with_context(|| format!("not noticed within {} s", LIMIT.as_secs()))?;
            match line.split_once(' ') {
                Some((at, message)) if message.as_bytes() == MESSAGE => return Ok(at.parse()?),
                _ => {}
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Measures the memory of idle conversations, each of which has had a message answered.
fn memory(kind: Kind) -> Result<f64> {
    let scene = Scene::new(kind, None)?;
    let resident = || anyhow::Ok([scene.running.exporter.resident_bytes()?, scene.running.importer.resident_bytes()?]);
    let before = resident()?;
    let mut clients = Vec::new();
    for _ in 0..IDLE {
        let mut client = scene.running.client()?;
        client.limit(LIMIT)?;
        client.round_trip(MESSAGE, &mut Vec::new())?;
        clients.push(client);
    }
    let after = resident()?;
    let each = after.iter().zip(before).map(|(after, before)| after.saturating_sub(before));
    Ok(each.max().unwrap_or_default() as f64 / f64::from(IDLE) / 1024.0)
}
