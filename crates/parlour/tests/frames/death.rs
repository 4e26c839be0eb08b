//! Publishers and readers that are killed.

use parlour::frames::{FrameLimits, FramePool, FrameReader, ReaderId};
use parlour::{Connection, Server, ServerOptions, Transport};

use super::ends::{CARRIERS, End, LEN, check, fill, options};
use crate::support::roles::until_end_of_input;
use crate::support::wait::Sleeper;
use crate::support::{Base, Child, DEADLINE, Role, trials};

trials! {
    for transport in CARRIERS =>
        a_killed_reader_returns_everything_and_leaves_no_descriptor,
        a_killed_publisher_leaves_its_frames_to_their_readers,
        readers_that_are_killed_at_any_time_take_nothing_with_them;
}

pub const READER: Role = Role { name: "reader", play: reader };
pub const PUBLISHER: Role = Role { name: "publisher", play: publisher };

/// `reader ADDRESS COUNT`: attaches, opens this many frames, prints `have`, and keeps them. With `all`, it goes on and
/// keeps two.
fn reader(arguments: &[String]) {
    let [address, count] = arguments else { panic!("reader ADDRESS COUNT") };
    let mut end = connect(address);
    println!("attached");
    let count = count.parse().ok();
    let mut kept = Vec::new();
    while count.is_none_or(|count| kept.len() < count) {
        match end.connection.recv() {
            Ok(Some(message)) => kept.push(end.reader.open(message).unwrap()),
            _ => return,
        }
        if count.is_none() && kept.len() == 2 {
            kept.remove(0);
        }
    }
    println!("have");
    until_end_of_input();
}

/// `publisher ADDRESS`: admits one reader, sends two frames, prints `sent`, and stays.
fn publisher(arguments: &[String]) {
    let server = ServerOptions::new().fds_max(2).bind(&arguments[0]).unwrap();
    println!("ready");
    let mut pool = options(2).create().unwrap();
    let (mut connection, id) = admit(&server, &mut pool);
    for seed in 1..3 {
        let frame = fill(&mut pool, seed);
        pool.send(id, &frame, b"note", |payload| connection.send(payload)).unwrap();
    }
    println!("sent");
    until_end_of_input();
}

fn connect(address: &str) -> End {
    let mut connection = Connection::connect(address).unwrap();
    let reader = FrameReader::attach(&FrameLimits::new(), |payload| connection.send(payload)).unwrap();
    End { connection, reader }
}

fn admit(server: &Server, pool: &mut FramePool) -> (Connection, ReaderId) {
    let mut connection = server.accept().unwrap();
    let attach = connection.recv_timeout(DEADLINE).unwrap().expect("an attach");
    let id = pool.admit(attach, connection.peer()).unwrap();
    (connection, id)
}

fn a_killed_reader_returns_everything_and_leaves_no_descriptor(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "camera");
    let server = ServerOptions::new().fds_max(2).bind(&address).unwrap();
    let mut pool = options(2).create().unwrap();
    let _kept = fill(&mut pool, 0);
    for _ in 0..3 {
        let mut child = Child::spawn("reader", &[&address, "2"]);
        let (mut connection, id) = admit(&server, &mut pool);
        for seed in 1..3 {
            let frame = fill(&mut pool, seed);
            pool.send(id, &frame, b"note", |payload| connection.send(payload)).unwrap();
        }
        child.expect("attached");
        child.expect("have");
        assert_eq!(pool.held_by(id), 2);
        let loaning = Sleeper::start(move || {
            drop(pool.loan().unwrap());
            pool
        });
        child.kill();
        pool = loaning.result().0;
        assert_eq!(pool.held_by(id), 0);
    }
}

fn a_killed_publisher_leaves_its_frames_to_their_readers(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "camera");
    let mut child = Child::spawn("publisher", &[&address]);
    child.expect("ready");
    let mut end = connect(&address);
    child.expect("sent");
    let first = end.open();
    child.kill();
    let second = end.open();
    assert!(first.is_lent() && second.is_lent());
    check(&first, 1);
    check(&second, 2);
    // Only the end of the connection shows the death.
    assert!(!matches!(end.connection.recv_timeout(DEADLINE), Ok(Some(_))));
}

fn readers_that_are_killed_at_any_time_take_nothing_with_them(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "camera");
    let server = ServerOptions::new().fds_max(2).bind(&address).unwrap();
    let mut pool = options(2).create().unwrap();
    for round in 0..6 {
        let mut child = Child::spawn("reader", &[&address, "all"]);
        let (mut connection, id) = admit(&server, &mut pool);
        let mut sent = 0;
        // The reader may be behind, so the frames come by value in between.
        while sent < round * 20 {
            let frame = fill(&mut pool, sent);
            assert_eq!(frame.len(), LEN);
            if pool.send(id, &frame, b"note", |payload| connection.send_timeout(payload, DEADLINE)).is_err() {
                break;
            }
            sent += 1;
        }
        child.kill();
        // Every block comes back.
        let all: Vec<_> = (0..pool.blocks()).map(|_| pool.loan_timeout(DEADLINE).unwrap()).collect();
        assert_eq!(all.len(), 3);
        assert_eq!(pool.held_by(id), 0);
    }
}
