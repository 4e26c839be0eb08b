//! Tests of one user that takes all connections that it may have, and tries to take one more.

use std::io::{self, BufRead};
use std::time::Duration;

use parlour::hub::{Event, HubOptions};
use parlour::{Connection, ErrorKind, ServerOptions, ShutdownHandle, Transport};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::by_hand::Driver;
use crate::by_hand::options::Words;
use crate::by_hand::place::chmod;
use crate::by_hand::user::{new_uid, no_other_users};
use crate::support::wait::eventually_some;
use crate::support::{Base, Child, DEADLINE, Role, eventually, trials, wait};

trials! {
    for transport in [Transport::Shm, Transport::Packet, Transport::Unix] =>
        a_user_at_its_connection_limit_is_refused_and_another_is_served unless no_other_users(),
        a_user_that_takes_all_it_can_at_1024_descriptors_leaves_room_for_another unless no_other_users(),
        a_user_with_half_messages_takes_its_share_of_memory_and_another_is_served unless no_other_users();
}

const QUOTA: usize = 3;

pub const HOARD: Role = Role { name: "hoard", play: hoard };

/// `hoard address=A uid=U [length=N]`: connects until the server refuses a client, and keeps the connections. On each
/// it begins a message of this length, and completes none. Prints `refused COUNT`, with the number of connections, and
/// stays until end of file.
fn hoard(arguments: &[String]) {
    let words = Words(arguments);
    words.become_whom_they_say();
    let length = words.number("length").unwrap_or(0);
    let options = words.connect_options().ring_size(64 * 1024);
    let mut kept: Vec<Connection> = Vec::new();
    // Does not send the rest of a message, as `recv` would.
    let hasended = |connection: &mut Connection, patience_ms: u64| {
        wait::readable_within(connection.recv_fd(), Duration::from_millis(patience_ms))
            && !connection.try_recv().is_err_and(|error| error.is_empty())
    };
    let refused = eventually_some(|| {
        let mut connection = match options.connect(words.address()) {
            Ok(connection) => connection,
            Err(error) => return Some(error.kind()),
        };
        if length > 0 {
            // The channel takes a part, and the rest stays here.
            let _ = connection.try_send(&vec![7u8; length as usize]);
        }
        // The kernel accepts clients before the server refuses them.
        let ended = hasended(&mut connection, 20);
        if ended && kept.is_empty() {
            // The server read as fast as this side wrote, until the message exceeded the user's share of memory.
            return None;
        }
        kept.push(connection);
        ended.then_some(ErrorKind::Busy)
    });
    assert_eq!(refused, Some(ErrorKind::Busy));
    kept.retain_mut(|connection| !hasended(connection, 1));
    println!("refused {}", kept.len());
    io::stdin().lock().lines().for_each(drop);
}

/// Starts a client that takes all it can. Returns it with the number of its connections.
fn hoarding(address: &str, uid: u32, length: u32) -> (Child, usize) {
    let words = [format!("address={address}"), format!("uid={uid}"), format!("length={length}")];
    let mut child = Child::spawn("hoard", &[&words[..], &["timeout_ms=2000".to_owned()]].concat());
    let said = child.line();
    let count = said.strip_prefix("refused ").unwrap_or_else(|| panic!("{said}")).parse().unwrap();
    (child, count)
}

fn reach(address: &str, uid: u32) -> Child {
    reach_within(address, uid, DEADLINE)
}

fn reach_within(address: &str, uid: u32, timeout: Duration) -> Child {
    let timeout = format!("timeout_ms={}", timeout.as_millis());
    Child::spawn("reach", &[format!("address={address}"), format!("uid={uid}"), timeout])
}

fn a_user_at_its_connection_limit_is_refused_and_another_is_served(transport: Transport) {
    let base = Base::new();
    chmod(base.path(), 0o755);
    let address = base.address(transport, "shop");
    let options = ServerOptions::new().mode(0o666).connections_per_uid_max(QUOTA).allow(|_| true);
    let driver = Driver::new(options.bind(&address).unwrap());
    let (greedy, modest) = (new_uid(), new_uid());
    let mut inside = Vec::new();
    for _ in 0..QUOTA {
        let mut client = reach(&address, greedy);
        let said = client.line();
        assert!(said.starts_with("connected"), "{said}");
        inside.push((client, driver.client()));
    }
    // It tries again until its timeout.
    let mut surplus = reach_within(&address, greedy, Duration::from_secs(2));
    let said = surplus.line();
    if said.starts_with("connected") {
        // Where connecting does not involve the server, the first exchange reports the refusal.
        let said = surplus.ask("me too");
        assert!(said.starts_with("error busy"), "{said}");
    } else {
        assert!(said.starts_with("error busy"), "{said}");
    }
    eventually("the refusal is counted", || driver.server.stats().refused > 0);
    let reason = driver.server.stats().last_refusal.unwrap().to_string();
    assert!(reason.contains(&greedy.to_string()), "{reason}");
    let mut other = reach(&address, modest);
    let said = other.line();
    assert!(said.starts_with("connected"), "{said}");
    assert_eq!(driver.client().peer().uid(), Some(modest));
    // A connection that has ended makes room for another.
    inside.pop();
    let mut again = reach(&address, greedy);
    let said = again.line();
    assert!(said.starts_with("connected"), "{said}");
    driver.client();
}

fn a_user_that_takes_all_it_can_at_1024_descriptors_leaves_room_for_another(transport: Transport) {
    setrlimit(Resource::Nofile, Rlimit { current: Some(1024), ..getrlimit(Resource::Nofile) }).unwrap();
    let base = Base::new();
    chmod(base.path(), 0o755);
    let address = base.address(transport, "shop");
    let options = ServerOptions::new().mode(0o666).allow(|_| true).ring_size(64 * 1024);
    let driver = Driver::new(options.bind(&address).unwrap());
    let stats = driver.server.stats();
    assert_eq!((stats.connections_max, stats.connections_per_uid_max), (768, 192));
    let (_greedy, count) = hoarding(&address, new_uid(), 0);
    assert_eq!(count, 192);
    assert_eq!(driver.server.stats().open, 192);
    let modest = new_uid();
    let mut other = reach(&address, modest);
    let said = other.line();
    assert!(said.starts_with("connected"), "{said}");
    // The driver hands out the clients in order.
    let served = std::iter::repeat_with(|| driver.client()).find(|client| client.peer().uid() == Some(modest));
    assert!(served.is_some());
}

fn a_user_with_half_messages_takes_its_share_of_memory_and_another_is_served(transport: Transport) {
    const SHARE: usize = 8 << 20;
    let base = Base::new();
    chmod(base.path(), 0o755);
    let address = base.address(transport, "shop");
    let options = ServerOptions::new().mode(0o666).allow(|_| true).ring_size(64 * 1024).memory_per_uid_max(SHARE);
    let mut hub = HubOptions::from(options).bind(&address).unwrap();
    let stop = hub.shutdown_handle();
    std::thread::scope(|scope| {
        let serving = scope.spawn(move || {
            let mut most = 0;
            loop {
                match hub.next_event() {
                    Ok(Event::Message(client, message)) => hub.send(client, &message).unwrap(),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::Shutdown => return most,
                    Err(error) => panic!("{error}"),
                }
                most = most.max(hub.stats().memory);
            }
        });
        let end = ShutDownAtEnd(stop);
        let (_greedy, count) = hoarding(&address, new_uid(), 12 << 20);
        assert!((1..=8).contains(&count), "{count} half messages");
        let mut other = reach(&address, new_uid());
        let said = other.line();
        assert!(said.starts_with("connected"), "{said}");
        assert_eq!(other.ask("hello"), "hello");
        end.0.shutdown();
        let most = serving.join().unwrap();
        assert!((SHARE / 4..=SHARE + 64 * 1024).contains(&most), "{most} bytes");
    });
}

/// Makes the thread of a hub return, also if the test panics.
struct ShutDownAtEnd(ShutdownHandle);

impl Drop for ShutDownAtEnd {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}
