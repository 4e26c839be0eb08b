//! Tests of many servers that start under one name at the same time: the name never has two owners.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, ErrorKind, Server, ServerOptions, Transport};

use crate::by_hand::lock;
use crate::by_hand::rng::{Rng, seed};
use crate::support::{Base, Child, DEADLINE, Role, SOON, trial_deadline, trials, wait};

trials! {
    eight_starters_that_are_killed_at_random_never_give_a_name_two_owners,
    one_of_two_servers_that_start_at_the_same_time_wins,
    one_of_two_servers_that_start_at_the_same_time_in_a_new_directory_wins,
    servers_that_start_and_end_by_way_never_give_a_name_two_owners(way in ENDS),
    the_race_witness_detects_two_owners,
}

pub const START: Role = Role { name: "start", play: start };

/// An independent witness of the owner of the name: a file that only one process at a time can lock, with a count of
/// owners.
struct Witness(File);

impl Witness {
    fn open(path: &Path) -> Self {
        Self(File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap())
    }

    /// Takes the lock and increments the count. Returns an error if another process has the lock.
    fn take(&self) -> Result<u64, String> {
        if !lock::take_witness(&self.0) {
            return Err("two owners: another process holds the witness".to_owned());
        }
        let count = self.count() + 1;
        self.0.write_all_at(&count.to_be_bytes(), 0).unwrap();
        Ok(count)
    }

    /// Releases the lock. Returns an error if the count has changed in the meantime.
    fn give_back(&self, count: u64) -> Result<(), String> {
        let now = self.count();
        lock::release_witness(&self.0);
        if now == count { Ok(()) } else { Err(format!("two owners: the count went from {count} to {now}")) }
    }

    fn count(&self) -> u64 {
        let mut bytes = [0; 8];
        match self.0.read_at(&mut bytes, 0).unwrap() {
            0 => 0,
            _ => u64::from_be_bytes(bytes),
        }
    }
}

/// `start ADDRESS WITNESS SEED`: takes the name repeatedly until stdin ends, prints only errors, and sometimes exits
/// without closing.
fn start(arguments: &[String]) {
    let [address, witness, seed] = arguments else { panic!("start ADDRESS WITNESS SEED") };
    // The witness is opened before the name's lock. A kernel that closes descriptors in order then releases the witness
    // first.
    let witness = Witness::open(witness.as_ref());
    let mut rng = Rng::new(seed.parse().unwrap());
    let options = ServerOptions::new().transports(Transport::ALL.iter().copied());
    while !wait::readable_within(std::io::stdin(), Duration::ZERO) {
        let server = match options.bind(address) {
            Ok(server) => server,
            Err(error) if error.kind() == ErrorKind::NameInUse => {
                thread::sleep(Duration::from_micros(rng.below(500)));
                continue;
            }
            Err(error) => return println!("{error:?}"),
        };
        let count = match witness.take() {
            Ok(count) => count,
            Err(wrong) => return println!("{wrong}"),
        };
        thread::sleep(Duration::from_micros(rng.below(3000)));
        if rng.one_in(16) {
            std::process::exit(0);
        }
        if let Err(wrong) = witness.give_back(count) {
            return println!("{wrong}");
        }
        match rng.one_in(2) {
            true => drop(server),
            false => server.close().unwrap(),
        }
    }
}

/// The numbers of owners, of starters that were killed, and of those that were told to end, below which there was no
/// race.
const ENOUGH: (u64, i32, i32) = (50, 20, 5);

fn eight_starters_that_are_killed_at_random_never_give_a_name_two_owners() {
    let base = Base::new();
    let address = base.name("wanted").display().to_string();
    let witness = base.path().join("witness");
    let seed = seed();
    // The output is shown if the test fails.
    println!("seed of eight_starters: PARLOUR_TEST_SEED={seed}");
    let mut rng = Rng::new(seed);
    let spawn = |rng: &mut Rng| {
        Child::spawn("start", &[address.clone(), witness.display().to_string(), rng.next().to_string()])
    };
    let mut starters: Vec<Child> = (0..8).map(|_| spawn(&mut rng)).collect();
    let (mut killed, mut ended) = (0, 0);
    let owners = || {
        let mut owners = Vec::new();
        File::open(&witness).unwrap().read_to_end(&mut owners).unwrap();
        owners.first_chunk().map_or(0, |count| u64::from_be_bytes(*count))
    };
    let are_enough = |owners: u64, killed: i32, ended: i32| owners > ENOUGH.0 && killed > ENOUGH.1 && ended > ENOUGH.2;
    let begin = Instant::now();
    // On a busy machine it takes longer until there was a race.
    while begin.elapsed() < Duration::from_secs(10)
        || (!are_enough(owners(), killed, ended) && begin.elapsed() < trial_deadline() / 2)
    {
        let number = rng.below(8) as usize;
        let starter = &mut starters[number];
        match rng.one_in(3) {
            true => {
                starter.end_input();
                starter.wait();
                ended += 1;
            }
            false => {
                starter.kill();
                killed += 1;
            }
        }
        assert_eq!(String::from_utf8_lossy(&starter.rest()), "", "seed {seed}");
        starters[number] = spawn(&mut rng);
        thread::sleep(Duration::from_micros(rng.below(10_000)));
    }
    for starter in &mut starters {
        starter.kill();
        assert_eq!(String::from_utf8_lossy(&starter.rest()), "", "seed {seed}");
    }
    let owners = owners();
    println!("eight_starters: {owners} owners, {killed} killed, {ended} told to end");
    assert!(are_enough(owners, killed, ended), "{owners} owners, {killed} killed, {ended} ended: too few for a race");

    let begin = Instant::now();
    let server = Server::bind(&address).unwrap();
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert_eq!(base.files(), ["wanted/", "wanted/c/", "wanted/control", "wanted/lock", "wanted/unix", "witness"]);
    drop(server);
}

fn one_of_two_servers_that_start_at_the_same_time_wins() {
    two_at_once(false);
}

fn one_of_two_servers_that_start_at_the_same_time_in_a_new_directory_wins() {
    two_at_once(true);
}

/// Lets two threads bind the same name at the same moment and hold it until both have tried, ten thousand times. Many
/// names are used in parallel, because closing a server mostly waits for the kernel. A server that ends removes the
/// directory, unless a file is in it.
fn two_at_once(fresh: bool) {
    const NAMES: usize = 40;
    const ROUNDS: usize = 250;
    let base = Base::new();
    let fights: Vec<Fight> = (0..NAMES).map(|number| Fight::new(base.name(&format!("fight{number}")))).collect();
    thread::scope(|scope| {
        let fights = fights.iter().flat_map(|fight| [(fight, true), (fight, false)]);
        let threads: Vec<_> =
            fights.map(|(fight, first)| scope.spawn(move || fight.compete(ROUNDS, first, fresh))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Two threads that compete for one name.
struct Fight {
    path: PathBuf,
    barrier: Barrier,
    winners: AtomicU32,
}

impl Fight {
    fn new(path: PathBuf) -> Self {
        Self { path, barrier: Barrier::new(2), winners: AtomicU32::new(0) }
    }

    fn compete(&self, rounds: usize, first: bool, fresh: bool) {
        let mut wrong = Vec::new();
        for round in 0..rounds {
            self.barrier.wait();
            let server = Server::bind(self.path.to_str().unwrap());
            if server.is_ok() {
                self.winners.fetch_add(1, Ordering::SeqCst);
            }
            self.barrier.wait();
            // The other thread waits at the barriers, so errors are reported only at the end.
            match &server {
                Err(error) if error.kind() != ErrorKind::NameInUse => wrong.push(format!("round {round}: {error:?}")),
                _ => {}
            }
            if first && self.winners.swap(0, Ordering::SeqCst) != 1 {
                wrong.push(format!("round {round}: the number of winners is not one"));
            }
            if !fresh && server.is_ok() {
                fs::write(self.path.join("kept"), "").unwrap();
            }
            drop(server);
            self.barrier.wait();
            if first && self.path.exists() == fresh {
                wrong.push(format!("round {round}: the directory is not as expected"));
            }
        }
        if first && !fresh {
            fs::remove_file(self.path.join("kept")).unwrap();
        }
        assert_eq!(wrong, [""; 0]);
    }
}

/// The ways in which a server ends in order, each with a part of the test's name.
const ENDS: [&str; 3] = ["close", "drop", "release"];

/// Three threads take and release one name as fast as they can, thousands of times over many names. A server that has
/// the name can be reached, whoever ends at that moment.
fn servers_that_start_and_end_by_way_never_give_a_name_two_owners(end: &str) {
    const NAMES: usize = 12;
    const ROUNDS: usize = 50;
    let base = Base::new();
    let names: Vec<(PathBuf, AtomicBool)> =
        (0..NAMES).map(|number| (base.name(&format!("turn{number}")), AtomicBool::new(false))).collect();
    thread::scope(|scope| {
        let turns = names.iter().flat_map(|name| [name; 3]);
        let threads: Vec<_> = turns.map(|(path, owned)| scope.spawn(|| take_turns(path, owned, ROUNDS, end))).collect();
        let wrong: Vec<String> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(wrong, [""; 0]);
    });
    assert_eq!(base.files(), [""; 0]);
}

/// Takes and releases a name until it was taken that often. Returns descriptions of failures.
fn take_turns(path: &Path, owned: &AtomicBool, rounds: usize, end: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut taken = 0;
    let deadline = Instant::now() + trial_deadline() / 2;
    while taken < rounds && wrong.is_empty() {
        let server = match Server::bind(path.to_str().unwrap()) {
            Ok(server) => server,
            Err(error) if error.kind() == ErrorKind::NameInUse && Instant::now() < deadline => continue,
            Err(error) => {
                wrong.push(format!("bind: {error:?}"));
                continue;
            }
        };
        taken += 1;
        if owned.swap(true, Ordering::SeqCst) {
            wrong.push("two owners".to_owned());
        }
        match ConnectOptions::new().connect(path.to_str().unwrap()) {
            Ok(connection) => drop((server.accept_timeout(DEADLINE).unwrap(), connection)),
            Err(error) => wrong.push(format!("connect: {error:?}")),
        }
        owned.store(false, Ordering::SeqCst);
        match end {
            "close" => server.close().unwrap(),
            "release" => server.release().unwrap(),
            _ => drop(server),
        }
    }
    wrong
}

/// The race proves nothing unless its witness detects two owners.
fn the_race_witness_detects_two_owners() {
    let base = Base::new();
    let path = base.path().join("witness");
    let witness = Witness::open(&path);
    let count = witness.take().unwrap();
    let address = base.name("alone").display().to_string();
    let mut second = Child::spawn("start", &[address.clone(), path.display().to_string(), "1".to_owned()]);
    assert!(second.line().starts_with("two owners: another"));
    let other = File::options().write(true).open(&path).unwrap();
    other.write_all_at(&7u64.to_be_bytes(), 0).unwrap();
    assert!(witness.give_back(count).unwrap_err().contains("from 1 to 7"));
}
