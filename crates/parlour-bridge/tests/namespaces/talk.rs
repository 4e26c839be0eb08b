//! Numbered messages in both directions at once, and what each side has seen of them.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parlour::{Connection, ErrorKind, Receiver, Sender};

use crate::hosts::{Hosts, wait_for};

/// The number of messages between two pauses of a millisecond. The load does not keep the processors from the bridges.
const BURST: u64 = 4;

/// The end of what one side has received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// `None`.
    Clean,
    /// `Truncated` or `Disconnected`.
    Error,
    /// Something that must not happen.
    Wrong(String),
}

/// One side of a talk, after its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// The messages that it has begun to send.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) end: End,
}

impl Report {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(3, ' ');
        let (sent, received) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let end = match words.next()? {
            "clean" => End::Clean,
            "error" => End::Error,
            problem => End::Wrong(problem.to_owned()),
        };
        Some(Self { sent, received, end })
    }

    fn text(&self) -> String {
        let end = match &self.end {
            End::Clean => "clean",
            End::Error => "error",
            End::Wrong(problem) => problem,
        };
        format!("{} {} {end}", self.sent, self.received)
    }
}

/// Asserts the promise: each side has received a prefix of what the other one sent.
pub(crate) fn assert_prefixes(client: &Report, server: &Report) {
    for report in [client, server] {
        assert!(!matches!(report.end, End::Wrong(_)), "{client:?}, {server:?}");
    }
    assert!(client.received <= server.sent && server.received <= client.sent, "{client:?}, {server:?}");
}

/// Asserts that everything has arrived, and nothing else, and that both ends are clean.
pub(crate) fn assert_complete(client: &Report, server: &Report) {
    assert_eq!((&client.end, &server.end), (&End::Clean, &End::Clean), "{client:?}, {server:?}");
    assert_eq!((client.received, server.received), (server.sent, client.sent));
}

/// Returns a message from whose bytes its number follows.
fn message(number: u64) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.resize(8 + (number.wrapping_mul(7919) % 3000) as usize, number as u8);
    message
}

fn send(mut sender: Sender, stop: &AtomicBool, sent: &AtomicU64) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        sent.store(number + 1, Ordering::Relaxed);
        if sender.send(&message(number)).is_err() {
            return;
        }
        if number % BURST == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn receive(mut receiver: Receiver, received: &AtomicU64) -> End {
    for number in 0.. {
        match receiver.recv() {
            Ok(Some(got)) if *got == *message(number) => received.store(number + 1, Ordering::Relaxed),
            Ok(Some(got)) => return End::Wrong(format!("{:?} instead of {number}", got.get(..8))),
            Ok(None) => return End::Clean,
            Err(error) if matches!(error.kind(), ErrorKind::Truncated | ErrorKind::Disconnected) => return End::Error,
            Err(error) => return End::Wrong(error.to_string()),
        }
    }
    End::Clean
}

/// Serves a talk to its end. It goes on until the client has ended its direction, or until an error.
pub(crate) fn serve(connection: Connection) -> Report {
    let (sender, receiver) = connection.split();
    let (stop, sent, received) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let end = thread::scope(|scope| {
        scope.spawn(|| send(sender, &stop, &sent));
        let end = receive(receiver, &received);
        stop.store(true, Ordering::Relaxed);
        end
    });
    Report { sent: sent.into_inner(), received: received.into_inner(), end }
}

/// Reports a talk to the test. `path` is the first part of the path of the report.
pub(crate) fn write(path: &str, number: &str, report: &Report) {
    let (path, partial) = (format!("{path}.{number}"), format!("{path}.{number}.partial"));
    fs::write(&partial, report.text()).unwrap();
    fs::rename(partial, path).unwrap();
}

/// The client of a talk.
pub(crate) struct Talk {
    number: u64,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    threads: (JoinHandle<()>, JoinHandle<End>),
}

impl Talk {
    /// Begins a talk of a client on host `b`, and waits until it is lively.
    pub(crate) fn start(hosts: &Hosts) -> Self {
        Self::with(hosts.client())
    }

    pub(crate) fn with(mut client: Connection) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        client.send(format!("talk {number}").as_bytes()).unwrap();
        let (sender, receiver) = client.split();
        let (stop, sent, received) = (Arc::new(AtomicBool::new(false)), Arc::default(), Arc::default());
        let sending = thread::spawn({
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            move || send(sender, &stop, &sent)
        });
        let receiving = thread::spawn({
            let received = Arc::clone(&received);
            move || receive(receiver, &received)
        });
        let talk = Self { number, stop, sent, received, threads: (sending, receiving) };
        talk.wait_for_more();
        talk
    }

    /// Waits until further messages have arrived.
    pub(crate) fn wait_for_more(&self) {
        let before = self.received.load(Ordering::Relaxed);
        wait_for(|| (self.received.load(Ordering::Relaxed) >= before + 100).then_some(()));
    }

    /// Returns true while the client has received no end.
    pub(crate) fn goes_on(&self) -> bool {
        !self.threads.1.is_finished()
    }

    /// Ends the direction of the client, and returns what both sides have seen.
    pub(crate) fn finish(self, hosts: &Hosts) -> (Report, Report) {
        self.stop.store(true, Ordering::Relaxed);
        let (client, number) = self.end();
        (client, server(hosts, number))
    }

    /// Returns what the client has seen, and the number of the talk, after its end.
    pub(crate) fn end(self) -> (Report, u64) {
        let (sending, receiving) = self.threads;
        wait_for(|| receiving.is_finished().then_some(()));
        let end = receiving.join().unwrap();
        // A client that is told of the end stops.
        self.stop.store(true, Ordering::Relaxed);
        sending.join().unwrap();
        let (sent, received) = (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed));
        (Report { sent, received, end }, self.number)
    }
}

/// Returns what the server has seen of a talk.
pub(crate) fn server(hosts: &Hosts, number: u64) -> Report {
    let path = hosts.path(&format!("end.{number}"));
    wait_for(|| fs::read_to_string(&path).ok().and_then(|text| Report::parse(&text)))
}

/// Asserts that a talk with whoever serves it begins, goes on, and ends as it should.
pub(crate) fn assert_talk(hosts: &Hosts) {
    let (client, server) = Talk::start(hosts).finish(hosts);
    assert_complete(&client, &server);
}
