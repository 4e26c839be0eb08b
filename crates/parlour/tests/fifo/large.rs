//! The capacity of a FIFO: 64 KiB at first, and more when long messages are sent.

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

/// Returns a client whose FIFO has two free pages: enough for POLLOUT, and too little for vmsplice(2). The server does
/// not read.
fn with_little_room(base: &Base, spin_limit: u32) -> (Driver, Connection) {
    let address = base.address(Transport::Fifo, "little");
    let driver = Driver::new(Server::bind(&address).unwrap());
    let mut client = ConnectOptions::new().spin_limit(spin_limit).connect(&address).unwrap();
    // Each frame fills whole pages including its header, so a page less in the FIFO is a page more of free space.
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
        // The send fills the free space, and the rest is buffered.
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
    assert!(used < WAIT / 10, "the wait used {used:?} of CPU time");
}

/// Returns the reason why no FIFO can have the capacity for a long message here, if there is one.
fn no_fifo_may_be_so_large() -> Option<&'static str> {
    match std::fs::read_to_string("/proc/sys/fs/pipe-max-size").map(|max| max.trim().parse::<usize>()) {
        Ok(Ok(max)) if max >= 256 << 10 => None,
        _ => Some("/proc/sys/fs/pipe-max-size is below 256 KiB"),
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
    // The whole message fits into the FIFO, although the server does not read.
    client.try_send(data::message(2, 200_000)).unwrap();
    assert!(client.try_flush().is_ok(), "the write buffer is empty");
    assert!(room(&client) >= 256 << 10);
    assert_eq!(*server.recv_timeout(DEADLINE).unwrap().unwrap(), *data::message(1, 10_000));
    assert_eq!(*server.recv_timeout(DEADLINE).unwrap().unwrap(), *data::message(2, 200_000));
}
