//! Readers that lack descriptors or address space.

use parlour::frames::FrameLimits;
use parlour::{ErrorKind, Transport};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::ends::{attach, check, ends, fill, options};
use crate::support::roles::until_end_of_input;
use crate::support::{Child, Role, assert_tells, trials};

trials! {
    a_reader_without_descriptors_is_told_so_and_can_attach_again,
    a_reader_without_address_space_maps_the_pool_for_a_later_frame,
}

pub const SCARCE_DESCRIPTORS: Role = Role { name: "scarce-descriptors", play: scarce_descriptors };
pub const SCARCE_MEMORY: Role = Role { name: "scarce-memory", play: scarce_memory };

/// Calls the closure while this resource of the process is limited to `current`.
pub fn limited<T>(resource: Resource, current: u64, call: impl FnOnce() -> T) -> T {
    let before = getrlimit(resource);
    setrlimit(resource, Rlimit { current: Some(current), maximum: before.maximum }).unwrap();
    let result = call();
    setrlimit(resource, before).unwrap();
    result
}

fn scarce_descriptors(_: &[String]) {
    let mut pool = options(1).create().unwrap();
    let (mut connection, id, mut end) = attach(&mut pool, Transport::Unix, &FrameLimits::new());
    let frame = fill(&mut pool, 1);
    pool.send(id, &frame, b"note", |payload| connection.send(payload)).unwrap();
    let error = limited(Resource::Nofile, 3, || end.try_open()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(error.to_string().contains("ulimit -n"), "{error}");
    assert_tells(&error);
    // The lease that was lost has ended.
    drop((connection, end));
    let (mut connection, id, mut end) = attach(&mut pool, Transport::Unix, &FrameLimits::new());
    pool.send(id, &frame, b"note", |payload| connection.send(payload)).unwrap();
    let received = end.open();
    assert!(received.is_lent());
    check(&received, 1);
    println!("done");
    until_end_of_input();
}

fn scarce_memory(_: &[String]) {
    let (mut publisher, mut end) = ends(Transport::Unix, &options(2));
    publisher.publish(1);
    let error = limited(Resource::As, 1 << 20, || end.try_open()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert_tells(&error);
    assert_eq!(publisher.held(), 0, "the block of the lost frame is returned");
    publisher.publish(2);
    let received = end.open();
    assert!(received.is_lent());
    check(&received, 2);
    println!("done");
    until_end_of_input();
}

fn a_reader_without_descriptors_is_told_so_and_can_attach_again() {
    play("scarce-descriptors");
}

fn a_reader_without_address_space_maps_the_pool_for_a_later_frame() {
    play("scarce-memory");
}

fn play(role: &str) {
    let mut child = Child::spawn::<&str>(role, &[]);
    child.expect("done");
    child.finish();
}
