//! A FIFO holds 64 KiB, and more when long messages go through it.

use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Connection, Server, Transport};
use rustix::io::ioctl_fionread;
use rustix::pipe::fcntl_getpipe_size;
use rustix::time::{ClockId, clock_gettime};

use crate::by_hand::Driver;
use crate::support::{Base, DEADLINE, data, trials};

trials! {
    a_send_into_little_room_ends_at_its_deadline,
    a_send_into_little_room_ends_at_its_deadline_without_yields,
    a_send_that_waits_for_more_room_sleeps,
    a_long_message_makes_its_fifo_larger_and_a_short_one_does_not unless no_fifo_may_be_so_large(),
}

const PAGE: usize = 4096;

/// A client whose FIFO has room for a few pages: enough to be announced, and too little to lend it any. Nobody reads.
fn with_little_room(base: &Base, spin_limit: u32) -> (Driver, Connection) {
    let address = base.address(Transport::Fifo, "little");
    let driver = Driver::new(Server::bind(&address).unwrap());
    let mut client = ConnectOptions::new().spin_limit(spin_limit).connect(&address).unwrap();
    // Whole pages, with the header, so that a page less in the FIFO is a page more of room.
    let frame = |pages: usize| data::message(1, pages * PAGE - 4);
    client.send(frame(10)).unwrap();
    let room = fcntl_getpipe_size(client.send_fd().unwrap()).unwrap();
    loop {
        let unread = ioctl_fionread(client.send_fd().unwrap()).unwrap() as usize;
        match (room - unread) / PAGE - 2 {
            0 => break,
            pages => client.try_send(frame(pages.min(14))).unwrap(),
        }
        assert!(client.try_flush().is_ok());
    }
    (driver, client)
}

fn in_time(spin_limit: u32) {
    let base = Base::new();
    for timeout in [Duration::ZERO, Duration::from_micros(1), Duration::from_millis(20)] {
        let (_driver, mut client) = with_little_room(&base, spin_limit);
        // (It takes the room, and the rest is kept.)
        client.send_timeout(data::message(3, 100_000), timeout).unwrap();
    }
}

fn a_send_into_little_room_ends_at_its_deadline() {
    in_time(40);
}

fn a_send_into_little_room_ends_at_its_deadline_without_yields() {
    in_time(0);
}

fn a_send_that_waits_for_more_room_sleeps() {
    const WAIT: Duration = Duration::from_millis(500);
    let base = Base::new();
    let (_driver, mut client) = with_little_room(&base, 0);
    let used = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let (before, begin) = (used(), Instant::now());
    client.send_timeout(data::message(3, 100_000), WAIT).unwrap();
    assert!(begin.elapsed() >= WAIT);
    let used = used() - before;
    assert!(used < WAIT / 10, "{used:?} of processor time while it waited");
}

/// Returns a reason where no FIFO can have as much room as a long message takes.
fn no_fifo_may_be_so_large() -> Option<&'static str> {
    match std::fs::read_to_string("/proc/sys/fs/pipe-max-size").map(|max| max.trim().parse::<usize>()) {
        Ok(Ok(max)) if max >= 256 << 10 => None,
        _ => Some("no FIFO may be so large here"),
    }
}

fn a_long_message_makes_its_fifo_larger_and_a_short_one_does_not() {
    let base = Base::new();
    let address = base.address(Transport::Fifo, "large");
    let driver = Driver::new(Server::bind(&address).unwrap());
    let mut client = Connection::connect(&address).unwrap();
    let mut server = driver.client();
    let room = |client: &Connection| fcntl_getpipe_size(client.send_fd().unwrap()).unwrap();
    let before = room(&client);
    client.send(data::message(1, 10_000)).unwrap();
    assert_eq!(room(&client), before);
    // All of it goes at once, although nobody reads.
    client.try_send(data::message(2, 200_000)).unwrap();
    assert!(client.try_flush().is_ok(), "nothing waits");
    assert!(room(&client) >= 256 << 10);
    assert_eq!(*server.recv_timeout(DEADLINE).unwrap().unwrap(), *data::message(1, 10_000));
    assert_eq!(*server.recv_timeout(DEADLINE).unwrap().unwrap(), *data::message(2, 200_000));
}
