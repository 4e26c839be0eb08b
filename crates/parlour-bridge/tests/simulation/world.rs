//! Hosts, their processes, the faults, and the checks.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use parlour_bridge::identity::Name;

use super::bridge::{Around, Bridge, Holder, Plan, Registered};
use super::random::Random;
use super::sockets::Sockets;
use super::talker::{Ended, Talker, Temper, messages};

/// The faults of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Faults {
    None,
    All,
    /// A bridge stops for good, while conversations are open that nobody else ends.
    Stop,
}

/// The time of that stop, and the time before it in which nobody connects, so that every client has an answer. Then the
/// time within which the other hosts notice it: the lease, the rest of a delay, and a few steps of the simulation.
const STOP: Duration = Duration::from_secs(6);
const QUIET: Duration = Duration::from_secs(1);
const NOTICED: Duration = Duration::from_millis(1000 + 70 + 150);

/// The time in which faults happen, and that at which everything must have come to its end.
const FAULTS_END: Duration = Duration::from_secs(9);
const END: Duration = Duration::from_secs(25);

const HOSTS: usize = 3;

/// The number of clients that come when everything has settled.
const LATE: usize = 6;

struct Process {
    bridge: Option<Bridge>,
    runs: u8,
    stopped_until: Duration,
    restarts_at: Duration,
}

struct Client {
    talker: Talker,
    /// The client came after the last fault, and when everything had settled.
    is_late: bool,
}

pub(crate) struct World {
    seed: u64,
    faults: Faults,
    random: Random,
    sockets: Sockets,
    names: BTreeMap<(usize, Name), Registered>,
    listening: BTreeMap<usize, VecDeque<(usize, super::sockets::EndId)>>,
    plans: Vec<Plan>,
    processes: Vec<Process>,
    /// The names of the servers that are dead, and the time of their restart.
    dead_servers: BTreeMap<(usize, Name), Duration>,
    clients: Vec<Client>,
    /// The sessions of servers, with their host, and the number of their client.
    sessions: Vec<(usize, Name, usize, Talker)>,
    events: Vec<String>,
}

fn temper(faults: Faults, is_late: bool) -> Temper {
    match faults {
        Faults::All if !is_late => Temper::Any,
        Faults::All | Faults::None => Temper::Civil,
        Faults::Stop => Temper::Waiting,
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

impl World {
    /// Host 0 imports `x` from hosts 1 and 2. Host 1 imports `y` from host 0.
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let mut random = Random::new(seed);
        let plans = vec![
            Plan { exports: vec![(name("y"), vec![1])], imports: vec![(name("x"), vec![1, 2])] },
            Plan { exports: vec![(name("x"), vec![0])], imports: vec![(name("y"), vec![0])] },
            Plan { exports: vec![(name("x"), vec![0])], imports: vec![] },
        ];
        let mut names = BTreeMap::new();
        for (host, plan) in plans.iter().enumerate() {
            for text in ["x", "y"] {
                let is_server = plan.exports.iter().any(|(exported, _)| *exported == name(text));
                let holder = if is_server { Holder::Server } else { Holder::Nobody };
                names.insert((host, name(text)), Registered { holder, queue: VecDeque::new() });
            }
        }
        let process = |host: usize| Process {
            bridge: Some(Bridge::new(host, plans[host].clone(), 1)),
            runs: 1,
            stopped_until: Duration::ZERO,
            restarts_at: Duration::ZERO,
        };
        Self {
            seed,
            faults,
            sockets: Sockets::new(Random::new(random.next()), faults == Faults::All),
            random,
            names,
            listening: (0..HOSTS).map(|host| (host, VecDeque::new())).collect(),
            processes: (0..HOSTS).map(process).collect(),
            plans,
            dead_servers: BTreeMap::new(),
            clients: Vec::new(),
            sessions: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Returns all that has happened.
    pub(crate) fn history(&self) -> (Vec<String>, Vec<Vec<u8>>) {
        let received = self.clients.iter().map(|client| client.talker.got.clone());
        (self.events.clone(), received.chain(self.sessions.iter().map(|session| session.3.got.clone())).collect())
    }

    fn log(&mut self, event: String) {
        self.events.push(format!("{} ms: {event}", self.sockets.now.as_millis()));
    }

    pub(crate) fn run(&mut self) {
        self.run_until(END);
    }

    /// The bridge of host 2 stops, and its clients on host 0 are told.
    pub(crate) fn check_stop(&mut self) {
        self.run_until(STOP - QUIET);
        // Those who came at random may have been for other names or hosts. Of two clients, each exporter gets one.
        (0..2).for_each(|_| self.connect(0, name("x"), false));
        self.run_until(STOP);
        self.processes[2].stopped_until = END;
        let of_host = self.sessions.iter().filter(|session| session.0 == 2).map(|session| session.2);
        let clients: Vec<usize> = of_host.collect();
        if clients.is_empty() || clients.iter().any(|&number| self.clients[number].talker.ended.is_some()) {
            self.fail("the conversations with host 2 are not open");
        }
        self.run_until(STOP + NOTICED);
        for number in clients {
            if self.clients[number].talker.ended != Some(Ended::Error) {
                self.fail(&format!("client {number} does not know that its host has stopped"));
            }
        }
    }

    fn run_until(&mut self, end: Duration) {
        while self.sockets.now < end {
            self.sockets.now += Duration::from_millis(1 + self.random.below(20));
            self.sockets.advance();
            if self.sockets.now < FAULTS_END {
                if self.faults == Faults::All && self.random.once_in(60) {
                    self.fault();
                }
                let is_quiet = self.faults == Faults::Stop && self.sockets.now > STOP - QUIET;
                if self.random.once_in(50) && !is_quiet {
                    self.client(false);
                }
            }
            // Once all leases are over and all links are up again.
            let is_settled = self.sockets.now > FAULTS_END + Duration::from_secs(6);
            if is_settled && !self.clients.last().is_some_and(|client| client.is_late) {
                self.sockets.resets_destroy = false;
                (0..LATE).for_each(|_| self.client(true));
            }
            self.restart();
            for host in self.order(HOSTS) {
                self.poll_bridge(host);
            }
            self.accept();
            for index in self.order(self.clients.len()) {
                self.clients[index].talker.poll(&mut self.sockets, &mut self.random);
            }
            for index in self.order(self.sessions.len()) {
                self.sessions[index].3.poll(&mut self.sockets, &mut self.random);
            }
        }
    }

    /// Returns the numbers below this one in a random order.
    fn order(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for index in (1..count).rev() {
            order.swap(index, self.random.below(index as u64 + 1) as usize);
        }
        order
    }

    fn around(&mut self) -> (Around<'_>, &mut Vec<Process>) {
        let Self { sockets, names, listening, random, processes, .. } = self;
        (Around { sockets, names, listening, random }, processes)
    }

    fn poll_bridge(&mut self, host: usize) {
        let now = self.sockets.now;
        let (mut around, processes) = self.around();
        let process = &mut processes[host];
        if let Some(bridge) = process.bridge.as_mut().filter(|_| now >= process.stopped_until) {
            bridge.poll(&mut around);
        }
    }

    /// A client connects to one of the names that hosts import.
    fn client(&mut self, is_late: bool) {
        let (host, wanted) = if self.random.once_in(3) { (1, name("y")) } else { (0, name("x")) };
        self.connect(host, wanted, is_late);
    }

    /// A client connects to this name on this host, if somebody holds it there.
    fn connect(&mut self, host: usize, wanted: Name, is_late: bool) {
        let tag = self.clients.len();
        let registered = self.names.get_mut(&(host, wanted)).unwrap();
        if registered.holder == Holder::Nobody {
            return if is_late {
                self.fail("a name is not held although everything has settled")
            };
        }
        let (end, other) = self.sockets.pair(tag);
        registered.queue.push_back(other);
        let temper = temper(self.faults, is_late);
        let talker = Talker::new(end, tag as u32 * 2, &mut self.random, temper);
        self.clients.push(Client { talker, is_late });
    }

    fn accept(&mut self) {
        for ((host, wanted), registered) in &mut self.names {
            if registered.holder != Holder::Server {
                continue;
            }
            for end in registered.queue.drain(..) {
                let is_late = self.clients.get(self.sockets.tag(end)).is_some_and(|client| client.is_late);
                let temper = temper(self.faults, is_late);
                let id = self.sessions.len() as u32 * 2 + 1;
                let talker = Talker::new(end, id, &mut self.random, temper);
                self.sessions.push((*host, wanted.clone(), self.sockets.tag(end), talker));
            }
        }
    }

    fn fault(&mut self) {
        let now = self.sockets.now;
        let host = self.random.below(HOSTS as u64) as usize;
        let span = Duration::from_millis(20 + self.random.below(3000));
        match self.random.below(6) {
            0 => {
                self.log(format!("the bridge of {host} is killed for {span:?}"));
                let (mut around, processes) = self.around();
                if let Some(mut bridge) = processes[host].bridge.take() {
                    bridge.die(&mut around);
                    processes[host].restarts_at = now + span;
                }
            }
            1 => {
                self.log(format!("the bridge of {host} is stopped for {span:?}"));
                self.processes[host].stopped_until = now + span;
            }
            2 | 3 => {
                let other = (host + 1) % HOSTS;
                self.log(format!("{host} and {other} are cut off from each other for {span:?}"));
                self.sockets.cut(host, other, now + span);
            }
            4 => {
                let served = self.plans[host].exports[0].0.clone();
                self.log(format!("the server {served} of {host} is killed for {span:?}"));
                let registered = self.names.get_mut(&(host, served.clone())).unwrap();
                if registered.holder == Holder::Server {
                    registered.holder = Holder::Nobody;
                    registered.queue.drain(..).for_each(|end| self.sockets.die(end, false));
                    self.dead_servers.insert((host, served.clone()), now + span);
                }
                for session in self.sessions.iter_mut().filter(|session| (session.0, &session.1) == (host, &served)) {
                    session.3.close(&mut self.sockets);
                }
            }
            _ => {
                let count = self.clients.len() as u64;
                let index = self.random.below(count) as usize;
                if let Some(client) = self.clients.get_mut(index) {
                    client.talker.close(&mut self.sockets);
                }
            }
        }
    }

    fn restart(&mut self) {
        let now = self.sockets.now;
        for host in 0..HOSTS {
            let process = &mut self.processes[host];
            if process.bridge.is_none() && now >= process.restarts_at {
                process.runs += 1;
                process.bridge = Some(Bridge::new(host, self.plans[host].clone(), process.runs));
                self.listening.insert(host, VecDeque::new());
            }
        }
        let names = &mut self.names;
        self.dead_servers.retain(|key, &mut at| {
            let is_due = now >= at;
            if is_due {
                names.get_mut(key).unwrap().holder = Holder::Server;
            }
            !is_due
        });
    }

    fn fail(&self, problem: &str) -> ! {
        panic!("seed {}: {problem}\n{}", self.seed, self.events.join("\n"));
    }

    /// Checks what one side has received from another one that has sent this, or from nobody.
    fn received(&self, receiver: &Talker, sender: Option<&Talker>) -> Result<(), &'static str> {
        let sent = sender.map_or(&[][..], Talker::sent);
        let ((got, rest), (all, _)) = (messages(&receiver.got), messages(sent));
        if got.len() > all.len() || got.iter().zip(&all).any(|(got, sent)| got != sent) {
            return Err("the messages are not a prefix of those that were sent");
        }
        let whole = receiver.got.len() - rest.len();
        let is_aborted = rest == [0] && receiver.ended != Some(Ended::Clean);
        if !is_aborted && !sent.get(whole..).is_some_and(|sent| sent.starts_with(rest)) {
            return Err("a message is torn");
        }
        if receiver.ended == Some(Ended::Clean) && !self.sockets.lost_its_bridge(receiver.end) {
            if !sender.is_some_and(Talker::has_ended) {
                return Err("a clean end, although the other side has not ended");
            }
            if receiver.got != sent {
                return Err("a clean end, although not everything has arrived");
            }
        }
        Ok(())
    }

    /// Each side receives a prefix of what the other sent, whole, in order, at most once; a clean end only if the other
    /// side ended that direction and everything has arrived; else an error. And nobody waits for ever.
    pub(crate) fn check_promise(&self) {
        for (number, client) in self.clients.iter().enumerate() {
            let own: Vec<_> = self.sessions.iter().filter(|session| session.2 == number).collect();
            let candidates = own.iter().map(|session| Some(&session.3)).chain([None]);
            let results: Vec<_> = candidates.map(|session| self.received(&client.talker, session)).collect();
            if results.iter().all(Result::is_err) {
                self.fail(&format!("client {number}: {results:?}"));
            }
            if client.talker.ended.is_none() && !client.talker.is_closed {
                self.fail(&format!("client {number} still waits"));
            }
            if own.iter().filter(|session| !session.3.got.is_empty() && session.3.got != [0]).count() > 1 {
                self.fail(&format!("client {number} was heard twice"));
            }
        }
        for (host, _, number, session) in &self.sessions {
            if let Err(problem) = self.received(session, self.clients.get(*number).map(|client| &client.talker)) {
                self.fail(&format!("a session on {host} with client {number}: {problem}"));
            }
            if session.ended.is_none() && !session.is_closed {
                self.fail(&format!("a session on {host} with client {number} still waits"));
            }
        }
        for (host, process) in self.processes.iter().enumerate() {
            let left = process.bridge.as_ref().map_or(0, Bridge::conversations);
            if left > 0 {
                self.fail(&format!("{left} conversations are left on {host}"));
            }
        }
        for number in (0..self.clients.len()).filter(|&number| self.clients[number].is_late) {
            self.check_complete(number);
        }
    }

    /// Everything has arrived, and every end is clean unless the other side left before it had received everything.
    pub(crate) fn check_completeness(&self) {
        if self.clients.len() <= LATE || self.sessions.len() != self.clients.len() {
            self.fail(&format!("{} clients, {} sessions", self.clients.len(), self.sessions.len()));
        }
        (0..self.clients.len()).for_each(|number| self.check_complete(number));
    }

    fn check_complete(&self, number: usize) {
        let client = &self.clients[number].talker;
        let Some((.., session)) = self.sessions.iter().find(|session| session.2 == number) else {
            self.fail(&format!("client {number} was not served"));
        };
        for (receiver, sender) in [(client, session), (session, client)] {
            let is_clean = receiver.ended == Some(Ended::Clean) && sender.has_sent_everything();
            let is_complete = receiver.got.starts_with(sender.sent()) && receiver.ended.is_some();
            if !(receiver.leaves() || is_complete && (is_clean || sender.leaves() || receiver.leaves())) {
                self.fail(&format!("client {number} or its session is not complete"));
            }
        }
    }
}
