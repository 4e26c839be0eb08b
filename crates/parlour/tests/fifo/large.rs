//! A FIFO holds 64 KiB, and more when long messages go through it.

use libtest_mimic::Trial;
use parlour::{Connection, Server, Transport};
use rustix::pipe::fcntl_getpipe_size;

use crate::by_hand::Driver;
use crate::support::{Base, DEADLINE, data, skipped, trial};

pub fn trials() -> Vec<Trial> {
    let name = "a_long_message_makes_its_fifo_larger_and_a_short_one_does_not";
    match std::fs::read_to_string("/proc/sys/fs/pipe-max-size").map(|max| max.trim().parse::<usize>()) {
        Ok(Ok(max)) if max >= 256 << 10 => vec![trial(name, grows)],
        _ => vec![skipped(name, "no FIFO may be so large here")],
    }
}

fn grows() {
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
    assert!(client.try_flush().unwrap(), "nothing waits");
    assert!(room(&client) >= 256 << 10);
    assert_eq!(*server.recv_timeout(DEADLINE).unwrap().unwrap(), *data::message(1, 10_000));
    assert_eq!(*server.recv_timeout(DEADLINE).unwrap().unwrap(), *data::message(2, 200_000));
}
