//! Pools, readers and frames in a forked child.

use parlour::ErrorKind;
use parlour::Transport;
use parlour::frames::{FrameLimits, FrameReader};

use super::ends::{CARRIERS, check, ends, options, pair};
use crate::forking::{fork, join};
use crate::support::roles::until_end_of_input;
use crate::support::{Child, Role, trials};

trials! {
    for transport in CARRIERS =>
        a_forked_child_of_a_publisher_lends_and_returns_nothing,
        a_forked_child_of_a_reader_reads_and_returns_nothing;
}

pub const FORKS_PUBLISHER: Role = Role { name: "forks-publisher", play: forks_publisher };
pub const FORKS_READER: Role = Role { name: "forks-reader", play: forks_reader };

/// `forks-publisher TRANSPORT`: a forked child uses and drops the pool and its handles.
fn forks_publisher(arguments: &[String]) {
    let transport = arguments[0].parse().unwrap();
    let (publisher, mut end) = ends(transport, &options(2));
    let mut place = Some(publisher);
    let publisher = place.as_mut().unwrap();
    publisher.publish(1);
    let received = end.open();
    let (kept, filling) = (publisher.fill(2), publisher.pool.loan().unwrap());
    let mut handles = Some((kept, filling));
    join(fork(|| {
        let (frame, mut filling) = handles.take().unwrap();
        assert!(frame.is_empty() && filling.is_empty());
        filling.copy_from_slice(b"");
        let mut publisher = place.take().unwrap();
        let kinds = [
            publisher.pool.loan().unwrap_err().kind(),
            publisher.pool.try_loan().unwrap_err().kind(),
            publisher.send(&frame).unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::Unsupported; 3]);
        let (mut ours, mut theirs) = pair(Transport::Unix);
        let _reader = FrameReader::attach(&FrameLimits::new(), |payload| theirs.send(payload)).unwrap();
        let admitted = publisher.pool.admit(ours.recv().unwrap().unwrap(), ours.peer());
        assert_eq!(admitted.unwrap_err().kind(), ErrorKind::Unsupported);
        publisher.pool.remove(publisher.id);
        drop((frame, filling, publisher));
    }));
    let publisher = place.as_mut().unwrap();
    assert!(publisher.pool.try_loan().unwrap().is_none(), "the child returned nothing");
    assert_eq!(publisher.held(), 1);
    check(&received, 1);
    drop((received, handles));
    assert_eq!(publisher.held(), 0);
    for seed in 3..20 {
        publisher.publish(seed);
        let frame = end.open();
        assert!(frame.is_lent());
        check(&frame, seed);
    }
    println!("done");
    until_end_of_input();
}

/// `forks-reader TRANSPORT`: a forked child uses and drops the reader and a frame, and outlives those of its parent.
#[allow(unsafe_code)]
fn forks_reader(arguments: &[String]) {
    let transport = arguments[0].parse().unwrap();
    let (mut publisher, end) = ends(transport, &options(2));
    publisher.publish(1);
    publisher.publish(2);
    let mut end = Some(end);
    let mut received = Some(end.as_mut().unwrap().open());
    join(fork(|| {
        let mut end = end.take().unwrap();
        let received = received.take().unwrap();
        assert_eq!(received.to_vec().unwrap_err().kind(), ErrorKind::Unsupported);
        let message = end.connection.recv().unwrap().unwrap();
        assert_eq!(end.reader.open(message).unwrap_err().kind(), ErrorKind::Unsupported);
        drop((received, end));
    }));
    // The child has received the second message, so nobody returns its block before the end.
    assert_eq!(publisher.held(), 2);
    check(received.as_ref().unwrap(), 1);
    drop(received);
    assert_eq!(publisher.held(), 1);
    // A child that lives on does not keep the lease.
    let (reading, writing) = rustix::pipe::pipe().unwrap();
    let mut place = Some(writing);
    let child = fork(|| {
        drop(place.take());
        assert_eq!(rustix::io::read(&reading, &mut [0; 1]), Ok(0));
    });
    drop(end);
    let all: Vec<_> = (0..3).map(|_| publisher.pool.loan().unwrap()).collect();
    assert_eq!(all.len(), 3);
    drop(place);
    join(child);
    println!("done");
    until_end_of_input();
}

fn a_forked_child_of_a_publisher_lends_and_returns_nothing(transport: Transport) {
    play("forks-publisher", transport);
}

fn a_forked_child_of_a_reader_reads_and_returns_nothing(transport: Transport) {
    play("forks-reader", transport);
}

fn play(role: &str, transport: Transport) {
    let mut child = Child::spawn(role, &[transport.to_string()]);
    child.expect("done");
    child.finish();
}
