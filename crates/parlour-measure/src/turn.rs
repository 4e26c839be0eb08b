//! One turn of one contender: two fresh processes, told when to begin.

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

/// How long a process may take to be ready, to be warm, and, beyond the time it was given, to be done.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came out of a turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// By the client.
    pub client: Outcome,
    /// How many operations (round trips, messages) one sample consists of.
    pub operations_each: u64,
    /// Processor time of the server's process from start to end, in nanoseconds.
    pub server_cpu_ns: u64,
    /// What the server's process has allocated meanwhile, if that is counted.
    pub server_allocations: Option<u64>,
}

impl Measured {
    /// Operations in it.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.client.count() * self.operations_each
    }
}

/// What idle connections cost a server, in bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Idle {
    /// How many there were.
    pub connections: usize,
    /// By the count of the allocator, its overhead included, if that is counted.
    pub allocated_each: Option<f64>,
    /// By the kernel's count of anonymous memory.
    pub resident_each: f64,
}

/// Starts the processes of turns.
#[allow(missing_debug_implementations, reason = "contenders are whatever they are")]
pub struct Runner<'a> {
    contenders: &'a [Box<dyn Contender>],
    prefix: &'a [&'a str],
    processors: Vec<usize>,
}

impl<'a> Runner<'a> {
    /// `prefix` is what stands before a role on the command line of this executable, which then calls
    /// [`take`](crate::take).
    ///
    /// # Errors
    ///
    /// The system does not say which processors there are.
    pub fn new(contenders: &'a [Box<dyn Contender>], prefix: &'a [&'a str]) -> Result<Self> {
        Ok(Self { contenders, prefix, processors: placement::allowed()? })
    }

    /// All contenders.
    #[must_use]
    pub fn contenders(&self) -> &'a [Box<dyn Contender>] {
        self.contenders
    }

    /// Whether this machine has the processors for it.
    #[must_use]
    pub fn can_place(&self, placement: Placement) -> bool {
        placement.processors(&self.processors).is_some()
    }

    /// Has a contender do a turn.
    ///
    /// # Errors
    ///
    /// What went wrong in this process or in one of the two.
    pub fn turn(&self, contender: &str, turn: Turn, placement: Placement) -> Result<Measured> {
        let place = self.place(contender)?;
        let mut pair = self.pair(contender, turn, placement, place.path())?;
        let before = pair.server_uses()?;
        pair.client.say("go")?;
        let time = match turn.amount {
            Amount::Ms(ms) => Duration::from_millis(ms),
            Amount::Samples(_) => Duration::ZERO,
        };
        let said = pair.client.line(time + PATIENCE)?;
        let after = pair.server_uses()?;
        let client: Outcome = serde_json::from_str(&said).with_context(|| format!("the client says {said:.100}"))?;
        ensure!(client.count() > 0, "the client has taken no sample");
        Ok(Measured {
            client,
            operations_each: turn.work.operations_each(),
            server_cpu_ns: after.cpu_ns.saturating_sub(before.cpu_ns),
            server_allocations: after.allocations.zip(before.allocations).map(|(after, before)| after - before),
        })
    }

    /// Connects this many clients, has each of them answered, and looks at what the server holds then.
    ///
    /// # Errors
    ///
    /// What went wrong in this process or in one of the two; also that so many descriptors are not to be had.
    pub fn idle(&self, contender: &str, connections: usize) -> Result<Idle> {
        let place = self.place(contender)?;
        let turn = |clients| Turn { work: Work::Crowd { size: 64, clients }, amount: Amount::Samples(1) };
        let mut server = self.server(contender, turn(connections), None, place.path())?;
        // What the server makes once, it makes for the first client.
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

    /// Counts the system calls of both processes for one operation: those that `more` samples add to one.
    ///
    /// # Errors
    ///
    /// What went wrong in this process or in one of the two; also that they cannot be counted.
    pub fn calls(&self, contender: &str, work: Work, more: u64) -> Result<Calls> {
        let few = self.calls_of(contender, Turn { work, amount: Amount::Samples(1) })?;
        let many = self.calls_of(contender, Turn { work, amount: Amount::Samples(1 + more) })?;
        Ok(Calls::difference(&few, &many, more * work.operations_each()))
    }

    /// All those of both processes.
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
        client.line(PATIENCE)?;
        for (process, file) in [(client, of_client), (server, of_server)] {
            process.finish(Duration::from_secs(5))?;
            sum.add(&Calls::read(&file)?);
        }
        Ok(sum)
    }

    /// Processor time that both sides of a connection take while nothing is sent, as a share of one processor.
    ///
    /// # Errors
    ///
    /// What went wrong in this process or in one of the two.
    pub fn idle_share(&self, contender: &str) -> Result<f64> {
        let place = self.place(contender)?;
        let turn = Turn { work: Work::RoundTrip { size: 64 }, amount: Amount::Samples(1) };
        let pair = self.pair(contender, turn, Placement::Unpinned, place.path())?;
        let used = || Ok::<u64, anyhow::Error>(count::cpu_ns(pair.server.id())? + count::cpu_ns(pair.client.id())?);
        // Until what comes after a message is over, whatever it is.
        thread::sleep(Duration::from_millis(50));
        let (begin, before) = (Instant::now(), used()?);
        thread::sleep(Duration::from_millis(300));
        let (elapsed, after) = (begin.elapsed(), used()?);
        Ok((after - before) as f64 / elapsed.as_nanos() as f64)
    }

    /// Dropped after the processes in it, which are made later.
    fn place(&self, contender: &str) -> Result<Place<'a>> {
        let contender = self.contenders.iter().find(|known| known.name() == contender);
        Place::new(contender.map(|contender| &**contender))
    }

    fn pair(&self, contender: &str, turn: Turn, placement: Placement, place: &Path) -> Result<Pair> {
        let processors = placement.processors(&self.processors);
        let (server, client) = processors.context("this machine has not enough processors")?;
        let mut server = self.server(contender, turn, server, place)?;
        let client = self.client(contender, turn, client, place)?;
        // A contender in another language is a process that is not asked.
        let answers = counts(&mut server).is_ok();
        Ok(Pair { server, client, answers })
    }

    /// A server that can be connected to.
    fn server(&self, contender: &str, turn: Turn, cpu: Option<usize>, place: &Path) -> Result<Child> {
        let mut server = self.child(Side::Server, contender, turn, cpu, place)?;
        expect(&mut server, "ready")?;
        Ok(server)
    }

    /// A client that is connected and warm.
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
    let said = child.line(PATIENCE)?;
    ensure!(said == line, "a process says {said:.100} and not {line}");
    Ok(())
}

/// The processes of a turn. The client goes first.
struct Pair {
    client: Child,
    server: Child,
    answers: bool,
}

/// What the server's process has used so far.
struct Uses {
    cpu_ns: u64,
    allocations: Option<u64>,
}

impl Pair {
    fn server_uses(&mut self) -> Result<Uses> {
        // The processor time last before the client goes, and first after: what it costs to ask is small and the same
        // each time.
        let allocations = if self.answers { counts(&mut self.server)?.allocations } else { None };
        Ok(Uses { cpu_ns: count::cpu_ns(self.server.id())?, allocations })
    }
}

fn counts(server: &mut Child) -> Result<Counts> {
    let said = server.ask("counts", Duration::from_secs(5))?;
    serde_json::from_str(&said).with_context(|| format!("the server says {said:.100}"))
}

/// A directory for one turn, in memory where that can be had. It is removed at the end, with what else the contender
/// has left.
struct Place<'a> {
    directory: tempfile::TempDir,
    contender: Option<&'a dyn Contender>,
}

impl<'a> Place<'a> {
    fn new(contender: Option<&'a dyn Contender>) -> Result<Self> {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Ok(Self { directory: directory.context("making a directory for the turn")?, contender })
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
