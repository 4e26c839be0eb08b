//! One turn of one contender, in two new processes.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::calls::{self, Calls};
use crate::child::Child;
use crate::contender::Contender;
use crate::count;
use crate::outcome::{Amount, Outcome, Turn};
use crate::placement::{self, Placement};
use crate::role::{Counts, Role, Side};
use crate::work::Work;

/// The time limit of a process for becoming ready, for its warm-up, and for finishing after the time of the turn.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// The measurements of a turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The measurements of the client.
    pub client: Outcome,
    /// The number of operations (round trips, messages) in one sample.
    pub operations_each: u64,
    /// The processor time of the server's process from the start of the measurement to its end, in nanoseconds.
    pub server_cpu_ns: u64,
    /// The number of allocations of the server's process during that time, if the program counts them.
    pub server_allocations: Option<u64>,
}

impl Measured {
    /// Returns the number of operations of the turn.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.client.count() * self.operations_each
    }
}

/// The memory that idle connections take in a server, in bytes for each connection.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Idle {
    /// The number of connections.
    pub connections: usize,
    /// Allocated memory, including the overhead of the allocator, if the program counts it.
    pub allocated_each: Option<f64>,
    /// Resident anonymous memory, as the kernel counts it.
    pub resident_each: f64,
}

/// A runner of turns, which starts their processes.
#[allow(missing_debug_implementations, reason = "contenders need not implement Debug")]
pub struct Runner<'a> {
    contenders: &'a [Box<dyn Contender>],
    prefix: &'a [&'a str],
    processors: Vec<usize>,
}

impl<'a> Runner<'a> {
    /// Creates a runner. `prefix` are the arguments that precede a role on the command line of this executable. With
    /// these arguments the executable must call [`take`](crate::take).
    ///
    /// # Errors
    ///
    /// Returns an error if the processor affinity of this process cannot be read.
    pub fn new(contenders: &'a [Box<dyn Contender>], prefix: &'a [&'a str]) -> Result<Self> {
        Ok(Self { contenders, prefix, processors: placement::allowed()? })
    }

    /// Returns all contenders.
    #[must_use]
    pub fn contenders(&self) -> &'a [Box<dyn Contender>] {
        self.contenders
    }

    /// Returns true if this process may run on enough processors for the placement.
    #[must_use]
    pub fn can_place(&self, placement: Placement) -> bool {
        placement.processors(&self.processors).is_some()
    }

    /// Runs one turn of a contender.
    ///
    /// # Errors
    ///
    /// Returns an error if this process, the server or the client fails.
    pub fn turn(&self, contender: &str, turn: Turn, placement: Placement) -> Result<Measured> {
        let place = self.place(contender)?;
        let mut pair = self.pair(contender, turn, placement, place.path())?;
        let before = pair.server_uses()?;
        pair.client.say("go")?;
        let time = match turn.amount {
            Amount::Ms(ms) => Duration::from_millis(ms),
            Amount::Samples(_) => Duration::ZERO,
        };
        let said = pair.client.line(time + WAIT_LIMIT)?;
        let after = pair.server_uses()?;
        let client: Outcome = serde_json::from_str(&said).with_context(|| format!("the client printed {said:.100}"))?;
        ensure!(client.count() > 0, "the client took no sample");
        Ok(Measured {
            client,
            operations_each: turn.work.operations_each(),
            server_cpu_ns: after.cpu_ns.saturating_sub(before.cpu_ns),
            server_allocations: after.allocations.zip(before.allocations).map(|(after, before)| after - before),
        })
    }

    /// Connects this many clients, waits until each has received an answer, and measures the memory that the server
    /// then holds.
    ///
    /// # Errors
    ///
    /// Returns an error if this process, the server or a client fails, for example because the limit on open
    /// descriptors is too low.
    pub fn idle(&self, contender: &str, connections: usize) -> Result<Idle> {
        let place = self.place(contender)?;
        let turn = |clients| Turn { work: Work::Crowd { size: 64, clients }, amount: Amount::Samples(1) };
        let mut server = self.server(contender, turn(connections), None, place.path())?;
        // The first client causes allocations that the server makes only once.
        drop(self.client(contender, turn(1), None, place.path())?);
        let before = counts(&mut server)?;
        let _clients = self.client(contender, turn(connections), None, place.path())?;
        let after = counts(&mut server)?;
        let each = |before: u64, after: u64| (after as f64 - before as f64) / connections as f64;
        Ok(Idle {
            connections,
            allocated_each: before
                .allocated_bytes
                .zip(after.allocated_bytes)
                .map(|(before, after)| each(before, after)),
            resident_each: each(before.resident_bytes, after.resident_bytes),
        })
    }

    /// Counts the system calls of both processes for one operation: the calls that `more` samples add to a run of one
    /// sample.
    ///
    /// # Errors
    ///
    /// Returns an error if this process, the server or the client fails, or if system calls cannot be counted.
    pub fn calls(&self, contender: &str, work: Work, more: u64) -> Result<Calls> {
        let few = self.calls_of(contender, Turn { work, amount: Amount::Samples(1) })?;
        let many = self.calls_of(contender, Turn { work, amount: Amount::Samples(1 + more) })?;
        Ok(Calls::difference(&few, &many, more * work.operations_each()))
    }

    /// Counts all system calls of both processes in one turn.
    fn calls_of(&self, contender: &str, turn: Turn) -> Result<Calls> {
        let place = self.place(contender)?;
        let mut sum = Calls::default();
        let child = |side, file: &Path| {
            let role = Role { side, contender: contender.to_owned(), place: place.path().to_owned(), cpu: None, turn };
            Child::spawn(side.name(), calls::counted(&role.command(self.prefix)?, file))
        };
        let [of_server, of_client] = ["calls-of-server", "calls-of-client"].map(|name| place.path().join(name));
        let mut server = child(Side::Server, &of_server)?;
        expect(&mut server, "ready")?;
        let mut client = child(Side::Client, &of_client)?;
        expect(&mut client, "warm")?;
        client.say("go")?;
        client.line(WAIT_LIMIT)?;
        for (process, file) in [(client, of_client), (server, of_server)] {
            process.finish(Duration::from_secs(5))?;
            sum.add(&Calls::read(&file)?);
        }
        Ok(sum)
    }

    /// Measures the processor time that both sides of a connection take while nothing is sent, as a share of one
    /// processor.
    ///
    /// # Errors
    ///
    /// Returns an error if this process, the server or the client fails.
    pub fn idle_share(&self, contender: &str) -> Result<f64> {
        let place = self.place(contender)?;
        let turn = Turn { work: Work::RoundTrip { size: 64 }, amount: Amount::Samples(1) };
        let pair = self.pair(contender, turn, Placement::Unpinned, place.path())?;
        let used = || Ok::<u64, anyhow::Error>(count::cpu_ns(pair.server.id())? + count::cpu_ns(pair.client.id())?);
        // Work that follows a message, such as spinning, must be over before the measurement begins.
        thread::sleep(Duration::from_millis(50));
        let (begin, before) = (Instant::now(), used()?);
        thread::sleep(Duration::from_millis(300));
        let (elapsed, after) = (begin.elapsed(), used()?);
        Ok((after - before) as f64 / elapsed.as_nanos() as f64)
    }

    /// Creates the directory of a turn. It is created before the processes that use it and so dropped after them.
    fn place(&self, contender: &str) -> Result<Place<'a>> {
        let contender = self.contenders.iter().find(|known| known.name() == contender);
        Place::new(contender.map(|contender| &**contender))
    }

    fn pair(&self, contender: &str, turn: Turn, placement: Placement, place: &Path) -> Result<Pair> {
        let processors = placement.processors(&self.processors);
        let (server, client) = processors.context("this machine has too few processors")?;
        let mut server = self.server(contender, turn, server, place)?;
        let client = self.client(contender, turn, client, place)?;
        // A server in another language may not report counters.
        let answers = counts(&mut server).is_ok();
        Ok(Pair { server, client, answers })
    }

    /// Starts a server and waits until clients can connect.
    fn server(&self, contender: &str, turn: Turn, cpu: Option<usize>, place: &Path) -> Result<Child> {
        let mut server = self.child(Side::Server, contender, turn, cpu, place)?;
        expect(&mut server, "ready")?;
        Ok(server)
    }

    /// Starts a client and waits for the end of its warm-up.
    fn client(&self, contender: &str, turn: Turn, cpu: Option<usize>, place: &Path) -> Result<Child> {
        let mut client = self.child(Side::Client, contender, turn, cpu, place)?;
        expect(&mut client, "warm")?;
        Ok(client)
    }

    fn child(&self, side: Side, contender: &str, turn: Turn, cpu: Option<usize>, place: &Path) -> Result<Child> {
        let role = Role { side, contender: contender.to_owned(), place: place.to_owned(), cpu, turn };
        Child::spawn(side.name(), role.command(self.prefix)?)
    }
}

fn expect(child: &mut Child, line: &str) -> Result<()> {
    let said = child.line(WAIT_LIMIT)?;
    ensure!(said == line, "a process printed {said:.100} instead of {line}");
    Ok(())
}

/// The processes of a turn. The client is dropped first.
struct Pair {
    client: Child,
    server: Child,
    answers: bool,
}

/// The resources that the server's process has used so far.
struct Uses {
    cpu_ns: u64,
    allocations: Option<u64>,
}

impl Pair {
    fn server_uses(&mut self) -> Result<Uses> {
        // The processor time is read last, so the request for the counters is in it. Its cost is small and the same
        // each time.
        let allocations = if self.answers { counts(&mut self.server)?.allocations } else { None };
        Ok(Uses { cpu_ns: count::cpu_ns(self.server.id())?, allocations })
    }
}

fn counts(server: &mut Child) -> Result<Counts> {
    let said = server.ask("counts", Duration::from_secs(5))?;
    serde_json::from_str(&said).with_context(|| format!("the server printed {said:.100}"))
}

/// The directory of one turn, in /dev/shm if possible. Dropping it removes the directory and all other files that the
/// contender left.
struct Place<'a> {
    directory: tempfile::TempDir,
    contender: Option<&'a dyn Contender>,
}

impl<'a> Place<'a> {
    fn new(contender: Option<&'a dyn Contender>) -> Result<Self> {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Ok(Self { directory: directory.context("creating a directory for the turn")?, contender })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(contender) = self.contender {
            contender.clean_up(self.path());
        }
    }
}
