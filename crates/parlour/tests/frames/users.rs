//! Readers of another user, and a user whose descriptors on their way are too many.

use std::error::Error as _;
use std::io;

use parlour::frames::{FrameLimits, FramePool, FramePoolOptions, FrameReader};
use parlour::{ConnectOptions, Connection, ErrorKind, ServerOptions, Transport};
use rustix::io::Errno;
use rustix::process::{Resource, geteuid};

use super::ends::{CARRIERS, LEN, attach, check, fill, options, pair};
use super::scarce::limited;
use crate::by_hand::place::chmod;
use crate::by_hand::user::{become_user, new_uid, no_other_users};
use crate::support::roles::until_end_of_input;
use crate::support::{Base, Child, DEADLINE, Role, assert_tells, trials};

trials! {
    for transport in CARRIERS =>
        a_reader_of_another_user_is_refused_by_a_pool_of_one_user unless no_other_users(),
        another_user_that_keeps_its_frames_leaves_most_shares_to_others unless no_other_users();

    an_attach_with_too_many_descriptors_on_their_way_fails_and_works_later unless no_ordinary_user(),
}

pub const FOREIGN_READERS: Role = Role { name: "foreign-readers", play: foreign_readers };
pub const TOO_MANY_REFS: Role = Role { name: "too-many-refs", play: too_many_refs };

/// The number of readers of the other user.
const READERS: usize = 3;

/// `foreign-readers ADDRESS UID`: attaches this many readers, opens a frame for each, prints for each whether it was
/// lent, and keeps all of them.
fn foreign_readers(arguments: &[String]) {
    let [address, uid] = arguments else { panic!("foreign-readers ADDRESS UID") };
    become_user(uid.parse().unwrap());
    let connect = |_| {
        let mut connection = ConnectOptions::new().server_uid(0).connect(address).unwrap();
        let reader = FrameReader::attach(&FrameLimits::new(), |payload| connection.send(payload)).unwrap();
        (connection, reader)
    };
    let mut ends: Vec<_> = (0..READERS).map(connect).collect();
    let open = |(connection, reader): &mut (Connection, FrameReader)| {
        let frame = reader.open(connection.recv_timeout(DEADLINE).ok()??).unwrap();
        check(&frame, 1);
        println!("{}", if frame.is_lent() { "lent" } else { "copied" });
        Some(frame)
    };
    let kept: Vec<_> = ends.iter_mut().map(open).collect();
    if kept.iter().all(Option::is_none) {
        println!("nothing");
    }
    until_end_of_input();
}

/// Starts the readers of another user, and accepts them. Returns their messages with the connections.
fn foreign(transport: Transport) -> (Base, Child, Vec<(Connection, parlour::Message)>) {
    let base = Base::new();
    chmod(base.path(), 0o755);
    let address = base.address(transport, "camera");
    let server = ServerOptions::new().fds_max(2).mode(0o666).bind(&address).unwrap();
    let uid = new_uid();
    let child = Child::spawn("foreign-readers", &[address, uid.to_string()]);
    let accept = |_| {
        let mut connection = server.accept_timeout(DEADLINE).unwrap();
        assert_eq!(connection.peer().uid(), Some(uid));
        let message = connection.recv_timeout(DEADLINE).unwrap().expect("an attach");
        (connection, message)
    };
    let ends = (0..READERS).map(accept).collect();
    (base, child, ends)
}

fn a_reader_of_another_user_is_refused_by_a_pool_of_one_user(transport: Transport) {
    let (_base, mut child, ends) = foreign(transport);
    let mut pool = options(2).create().unwrap();
    for (connection, message) in ends {
        let error = pool.admit(message, connection.peer()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert_tells(&error);
    }
    // The connections have ended.
    child.expect("nothing");
    child.finish();
}

fn another_user_that_keeps_its_frames_leaves_most_shares_to_others(transport: Transport) {
    let (_base, mut child, ends) = foreign(transport);
    let mut pool = FramePoolOptions::new(LEN).readers(4).share(2).any_user(true).create().unwrap();
    let frame = fill(&mut pool, 1);
    let mut theirs = Vec::new();
    for (mut connection, message) in ends {
        let id = pool.admit(message, connection.peer()).unwrap();
        pool.send(id, &frame, b"note", |payload| connection.send(payload)).unwrap();
        theirs.push((connection, id));
    }
    drop(frame);
    // A quarter of the shares. The order of the messages of different connections is theirs.
    let mut told: Vec<_> = (0..READERS).map(|_| child.line()).collect();
    told.sort();
    assert_eq!(told, ["copied", "copied", "lent"]);
    // It returns nothing, and the readers of this user have their shares, again and again.
    let mut ours: Vec<_> = (0..3).map(|_| attach(&mut pool, transport, &FrameLimits::new())).collect();
    for seed in 0..20 {
        let frame = fill(&mut pool, seed);
        for (connection, id, _) in &mut ours {
            pool.send(*id, &frame, b"note", |payload| connection.send(payload)).unwrap();
        }
        drop(frame);
        for (_, _, end) in &mut ours {
            let frame = end.open();
            assert!(frame.is_lent());
            check(&frame, seed);
        }
    }
    assert_eq!(theirs.iter().map(|(_, id)| pool.held_by(*id)).sum::<usize>(), 1);
    child.kill();
    let all: Vec<_> = (0..pool.blocks()).map(|_| pool.loan_timeout(DEADLINE).unwrap()).collect();
    assert_eq!(all.len(), pool.blocks(), "the end of its process returns its block");
}

/// The kernel does not limit the descriptors of root that are on their way.
fn no_ordinary_user() -> Option<String> {
    if geteuid().is_root() { no_other_users() } else { None }
}

/// `too-many-refs UID`: a publisher and its readers, which send descriptors that nobody receives.
fn too_many_refs(arguments: &[String]) {
    if geteuid().is_root() {
        become_user(arguments[0].parse().unwrap());
    }
    const NOFILE: u64 = 40;
    let mut pool: FramePool = options(2).create().unwrap();
    let (mut ours, mut theirs) = pair(Transport::Unix);
    limited(Resource::Nofile, NOFILE, || {
        let mut attached = 0;
        // The reader is dropped. Its descriptors are in the message, which waits in the channel.
        let error = loop {
            match FrameReader::attach(&FrameLimits::new(), |payload| theirs.send(payload)) {
                Ok(_) => attached += 1,
                Err(error) => break error,
            }
            assert!(attached < NOFILE, "the kernel does not limit the descriptors that are on their way");
        };
        let system = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        let errno = system.and_then(io::Error::raw_os_error);
        assert_eq!(errno, Some(Errno::TOOMANYREFS.raw_os_error()), "{error}");
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert_tells(&error);
        assert!(attached > 2);
        for _ in 0..attached {
            drop(ours.recv_timeout(DEADLINE).unwrap().expect("an attach"));
        }
        // Nothing of the attach that failed was sent, and now there is room.
        let mut reader = FrameReader::attach(&FrameLimits::new(), |payload| theirs.send(payload)).unwrap();
        let id = pool.admit(ours.recv_timeout(DEADLINE).unwrap().expect("an attach"), ours.peer()).unwrap();
        let frame = fill(&mut pool, 1);
        pool.send(id, &frame, b"note", |payload| ours.send(payload)).unwrap();
        let received = reader.open(theirs.recv_timeout(DEADLINE).unwrap().expect("a frame")).unwrap();
        assert!(received.is_lent());
        check(&received, 1);
    });
    println!("done");
    until_end_of_input();
}

fn an_attach_with_too_many_descriptors_on_their_way_fails_and_works_later() {
    let mut child = Child::spawn("too-many-refs", &[new_uid().to_string()]);
    child.expect("done");
    child.finish();
}
