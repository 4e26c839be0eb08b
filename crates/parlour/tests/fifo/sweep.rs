//! The files of clients that are killed while they connect.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime};

use parlour::{Connection, ServerOptions, Transport};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::by_hand::place::client_files;
use crate::by_hand::watch::Watch;
use crate::by_hand::{Driver, FifoClient, unix};
use crate::support::{Base, Child, DEADLINE, Role, trials, wait};

trials! {
    files_of_clients_that_were_killed_before_their_request_are_swept,
    a_client_that_left_a_message_and_went_is_heard_although_the_sweep_is_due,
    files_of_a_client_that_was_killed_after_its_request_are_removed_immediately,
}

/// The steps of a client's handshake, in order.
const STEPS: [&str; 8] = ["s2c", "c2s", "open-s2c", "ask", "hello", "open-c2s", "unlink", "acknowledge"];

/// `step PATH STEP`: executes the handshake up to this step, prints `done`, and stays.
pub const STEP: Role = Role { name: "step", play: step };

fn step(arguments: &[String]) {
    let last = STEPS.iter().position(|step| *step == arguments[1]).expect("a step");
    let mut client = FifoClient::new(arguments[0].as_ref());
    for step in &STEPS[..=last] {
        match *step {
            "s2c" => client.make_s2c(),
            "c2s" => client.make_c2s(),
            "open-s2c" => client.open_s2c(),
            "ask" => client.ask(),
            "hello" => client.expect_hello(),
            "open-c2s" => client.open_c2s(),
            "unlink" => client.unlink(),
            _ => client.acknowledge(),
        }
    }
    println!("done");
    let _ = std::io::stdin().read(&mut [0]);
}

fn stopped_at(driver: &Driver, step: &str) -> Child {
    let mut client = Child::spawn("step", &[driver.server.path().display().to_string(), step.to_owned()]);
    client.expect("done");
    client
}

fn serve(base: &Base) -> Driver {
    let options = ServerOptions::new().transports(Transport::ALL.iter().copied());
    Driver::new(options.bind(base.name("clean").to_str().unwrap()).unwrap())
}

fn assert_serves(base: &Base, driver: &Driver) {
    for &transport in Transport::ALL {
        let mut theirs = Connection::connect(base.address(transport, "clean")).unwrap();
        theirs.send(b"hello").unwrap();
        assert_eq!(driver.client().recv().unwrap().unwrap(), b"hello");
    }
}

/// The server leaves files alone for five to ten seconds, so this test takes that long. It waits for events in the
/// directory. The times of the files differ from the clock by a day in both directions, and nothing depends on them.
fn files_of_clients_that_were_killed_before_their_request_are_swept() {
    let base = Base::new();
    let driver = serve(&base);
    let path = driver.server.path().to_owned();
    for step in &STEPS[..3] {
        stopped_at(&driver, step).kill();
    }
    // A client over UNIX sockets that was killed between bind(2) and connect(2).
    let socket = || path.join("c").join(crate::by_hand::Id::new().sock());
    const DAY: i64 = 86_400;
    for age in [0, DAY, -DAY] {
        let dead = socket();
        drop(unix::bound(&dead, 0o700));
        set_age(&dead, age);
    }
    // The origin of a client that was killed before its socket was bound.
    let origin = socket().with_extension("via");
    fs::write(&origin, "parlour1 origin\nhost a\nend\n").unwrap();
    // Clients that are alive and slow, and a foreign file.
    let slow = stopped_at(&driver, "open-s2c");
    let slow_sockets = [0, DAY, -DAY].map(|age| {
        let file = socket();
        let socket = unix::bound(&file, 0o700);
        set_age(&file, age);
        (socket, file)
    });
    // Its origin is not one to be read, without the mark in its name.
    let slow_origin = slow_sockets[0].1.with_extension("via");
    fs::write(&slow_origin, "parlour1 origin\nhost a\nend\n").unwrap();
    fs::write(path.join("c/notes"), "mine").unwrap();
    base.keeps(&path.join("c/notes"));
    let left = client_files(&path);
    assert_eq!(left.len(), 1 + 2 + 2 + 3 + 2 + 3 + 1 + 2, "{left:?}");

    // Other clients connect, and the server sweeps its directory meanwhile.
    let watch = Watch::new(&path.join("c"));
    assert_serves(&base, &driver);
    let of_slow = format!("{}-", slow.pid());
    let is_slow_socket =
        |file: &str| slow_origin.ends_with(file) || slow_sockets.iter().any(|(_, path)| path.ends_with(file));
    let stays = |file: &String| file.starts_with(&of_slow) || file == "notes" || is_slow_socket(file);
    let only_those = || client_files(&path).iter().all(stays);
    assert!(!only_those(), "the server leaves recent files alone");
    assert!(watch.until(Duration::from_secs(25), only_those), "files are left: {:?}", client_files(&path));
    assert_eq!(client_files(&path).len(), 3 + 3 + 1, "files in use and foreign files stay");
    // A slow client connects in the end.
    for (socket, file) in slow_sockets {
        let stream = unix::dial_with(socket, &path);
        driver.client();
        assert!(!file.exists());
        drop(stream);
    }
    assert_eq!(driver.server.stats().refused, 0);
    assert_serves(&base, &driver);
}

/// Sets the modification time of a file to this many seconds ago. A negative number is in the future.
fn set_age(file: &Path, seconds: i64) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    let then = Timespec { tv_sec: now - seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: then, last_modification: then };
    utimensat(CWD, file, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// The sweep is due when the server comes back to its clients. It finds a file without a socket whose client waits.
fn a_client_that_left_a_message_and_went_is_heard_although_the_sweep_is_due() {
    let base = Base::new();
    let options = ServerOptions::new().transports(Transport::ALL.iter().copied());
    let server = options.bind(base.name("clean").to_str().unwrap()).unwrap();
    let first = Connection::connect(base.address(Transport::Unix, "clean")).unwrap();
    drop((server.accept_timeout(DEADLINE).unwrap(), first));
    for transport in [Transport::Packet, Transport::Unix] {
        let mut client = Connection::connect(base.address(transport, "clean")).unwrap();
        client.send(b"remember me").unwrap();
        drop(client);
    }
    // The server does something else, for longer than the interval of the sweep.
    wait::pass(Duration::from_secs(6));
    for _ in 0..2 {
        let mut client = server.accept_timeout(DEADLINE).unwrap();
        assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap(), b"remember me");
    }
    assert_eq!((server.stats().refused, client_files(server.path())), (0, vec![]));
    server.close().unwrap();
}

fn files_of_a_client_that_was_killed_after_its_request_are_removed_immediately() {
    let base = Base::new();
    let driver = serve(&base);
    let path = driver.server.path().to_owned();
    let mut refused = 0;
    for step in &STEPS[3..] {
        let mut client = stopped_at(&driver, step);
        if *step == "ask" {
            // Waits until the server has opened both FIFOs, so that the result does not depend on scheduling.
            crate::support::eventually("the server has opened both FIFOs", || {
                let opened = |pid: u32| {
                    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
                    entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).collect::<Vec<_>>()
                };
                let name = format!("{}-", client.pid());
                opened(std::process::id()).iter().filter(|target| target.to_string_lossy().contains(&name)).count() == 2
            });
        }
        client.kill();
        match *step {
            "acknowledge" => assert_eq!(driver.client().recv().unwrap(), None),
            _ => {
                refused += 1;
                let reason = driver.refused(refused);
                assert!(reason.contains("disconnected"), "{step}: {reason}");
            }
        }
        assert_eq!(client_files(&path), [""; 0], "{step}");
        assert_serves(&base, &driver);
    }
}
