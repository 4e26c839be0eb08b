//! Measures a fleet at one NATS server on this machine: 1,000 bridges with 10 names each, and each name imported by one
//! other bridge. The bridges are light stand-ins: the connection with NATS and the registry of a bridge, without links.
//!
//! `cargo run --release -p parlour-bridge --example nats_scale -- NATS-SERVER [BRIDGES] [NAMES-OF-EACH]`
//!
//! It prints the time until all names are known, the messages of the server in each second at rest, and the time until
//! new names are known.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a measurement ends at an error")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use parlour_bridge::driver::nats::{self, Report};
use parlour_bridge::files::config::Config;
use parlour_bridge::files::discovery::Discovery;
use parlour_bridge::files::nats::Nats;
use parlour_bridge::identity::{Host, Instance, Name};
use parlour_bridge::registry::{Action, Myself, Registry};
use parlour_bridge::wire::control::Endpoint;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The number of new names whose time is measured.
const NEW_NAMES: usize = 100;

/// The time over which messages are counted: that between two puts of an entry.
const REST: Duration = Duration::from_secs(100);

/// The longest time until all names are known.
const PATIENCE: Duration = Duration::from_secs(120);

/// The keys that were heard, with the time of the first entry of each.
type Heard = Mutex<HashMap<String, Instant>>;

/// The program, which is killed at the end.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port()
}

fn host(number: usize) -> Host {
    Host::parse(&format!("host-{number}.example")).unwrap()
}

fn name(bridge: usize, number: usize) -> Name {
    Name::parse(&format!("name-{bridge}-{number}")).unwrap()
}

/// The configuration of a bridge, as its file has it.
fn configuration(port: u16) -> Nats {
    let text = format!(
        "host = \"a.example\"\nlisten = \"127.0.0.1:7477\"\n\
         [tls]\nauthority = \"x\"\ncertificate = \"x\"\nkey = \"x\"\n\
         [discovery.nats]\nservers = [\"nats://127.0.0.1:{port}\"]\n\
         [[export]]\nname = \"x\"\nto = [\"b.example\"]\n"
    );
    match Config::parse(&text, std::path::Path::new("/")).unwrap().discovery {
        Discovery::Nats(nats) => *nats,
        _ => unreachable!("the configuration has NATS"),
    }
}

/// One stand-in. Names that arrive are offered from then on, with the others.
async fn bridge(
    number: usize,
    nats: Nats,
    wanted: BTreeMap<Name, BTreeSet<Host>>,
    mut names: UnboundedReceiver<BTreeSet<Name>>,
    heard: Arc<Heard>,
) {
    let myself = Myself {
        realm: nats.realm.clone(),
        host: host(number),
        instance: Instance([7; 16]),
        endpoint: nats.endpoint.clone().or_else(|| Endpoint::parse("127.0.0.1:7477")),
        ttl: nats.ttl,
    };
    let start = Instant::now();
    let mut registry = Registry::new(myself, wanted);
    let (actions, session) = unbounded_channel();
    let (reports, mut mailbox) = unbounded_channel();
    tokio::spawn(nats::run(nats, format!("stand-in {number}"), session, move |report| drop(reports.send(report))));
    loop {
        let due = registry.deadline().unwrap_or(start.elapsed() + Duration::from_secs(3600));
        let todo = tokio::select! {
            Some(names) = names.recv() => registry.offer(&names, start.elapsed()),
            _ = tokio::time::sleep_until((start + due).into()) => registry.tick(start.elapsed()),
            Some(report) = mailbox.recv() => match report {
                Report::Up(kept) => registry.up(kept, start.elapsed()),
                Report::Entry { key, source, value, .. } => {
                    let actions = registry.entry(&key, source, value.as_deref(), start.elapsed());
                    heard.lock().unwrap().entry(key).or_insert_with(Instant::now);
                    actions
                }
                Report::Answered => { registry.answered(); Vec::new() }
                Report::Settled => Vec::new(),
                Report::Down { problem, .. } => {
                    println!("stand-in {number}: {problem}");
                    registry.down();
                    Vec::new()
                }
            },
        };
        todo.into_iter().filter(|action| !matches!(action, Action::Found(_) | Action::Log(_))).for_each(|action| {
            let _ = actions.send(action);
        });
    }
}

/// Returns a number of the server's monitoring.
async fn counted(port: u16, fields: &[&str]) -> u64 {
    let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.write_all(b"GET /varz HTTP/1.0\r\n\r\n").await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    let number = |field: &&str| {
        let rest = text.split(&format!("\"{field}\":")).nth(1).unwrap_or_default().trim_start();
        rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse::<u64>().ok()).unwrap_or(0)
    };
    fields.iter().map(number).sum()
}

async fn wait_until(what: &str, is_so: impl Fn() -> bool) -> Duration {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    begin.elapsed()
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let program = arguments.next().expect("the first argument is the path of nats-server");
    let bridges: usize = arguments.next().map_or(1000, |text| text.parse().expect("a number of bridges"));
    let names_of_each: usize = arguments.next().map_or(10, |text| text.parse().expect("a number of names"));
    let (port, monitoring) = (free_port(), free_port());
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(&program);
    command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-m", &monitoring.to_string(), "-js", "-sd"]);
    let server = command.arg(directory.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let server = Server(server);
    wait_until("the server listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    let nats = configuration(port);

    let heard = Arc::new(Heard::default());
    let begin = Instant::now();
    let mut offers = Vec::new();
    for number in 0..bridges {
        // The names of the next one, and the one that it will have later.
        let other = (number + 1) % bridges;
        let wanted = (0..=names_of_each).map(|index| (name(other, index), BTreeSet::from([host(other)]))).collect();
        let (offer, names) = unbounded_channel();
        offer.send((0..names_of_each).map(|index| name(number, index)).collect()).unwrap();
        offers.push(offer);
        tokio::spawn(bridge(number, nats.clone(), wanted, names, Arc::clone(&heard)));
    }
    let all = bridges * names_of_each;
    wait_until("all names are known", || heard.lock().unwrap().len() >= all).await;
    println!("{bridges} bridges, {all} names: all known {:.1} s after the start", begin.elapsed().as_secs_f64());

    tokio::time::sleep(Duration::from_secs(10)).await;
    let messages = ["in_msgs", "out_msgs"];
    let (before, since) = (counted(monitoring, &messages).await, Instant::now());
    let (mut last, mut worst) = (before, 0);
    for second in 1..=REST.as_secs() {
        tokio::time::sleep_until((since + Duration::from_secs(second)).into()).await;
        let now = counted(monitoring, &messages).await;
        (last, worst) = (now, worst.max(now - last));
    }
    let rate = (last - before) as f64 / since.elapsed().as_secs_f64();
    println!("at rest: {rate:.0} messages a second over {} s, {worst} in the worst second", REST.as_secs());

    let mut times = Vec::new();
    for index in 0..NEW_NAMES.min(bridges) {
        let number = index * (bridges / NEW_NAMES.min(bridges));
        let key = nats.realm.key(&name(number, names_of_each), &host(number));
        let begin = Instant::now();
        offers[number].send((0..=names_of_each).map(|index| name(number, index)).collect()).unwrap();
        wait_until("the new name is known", || heard.lock().unwrap().contains_key(&key)).await;
        times.push(heard.lock().unwrap()[&key].duration_since(begin));
    }
    times.sort();
    let ms = |time: Option<&Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
    let (median, worst) = (ms(times.get(times.len() / 2)), ms(times.last()));
    println!("a new name is known after {median:.1} ms (median of {}), {worst:.1} ms (worst)", times.len());
    println!("memory of the server: {} MB", counted(monitoring, &["mem"]).await / 1_000_000);
    drop(server);
}
