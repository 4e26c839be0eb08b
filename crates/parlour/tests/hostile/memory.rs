//! Tests of shared memory that is unsuitable or cannot be allocated.

use std::fs::File;
use std::os::fd::OwnedFd;

use parlour::{Connection, ErrorKind, Server, ServerOptions, Transport};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::by_hand::Driver;
use crate::by_hand::shm::{
    ALL_SEALS, CONTROL, RING, assert_refused, dial, good_memfd, hear, hello, memfd, memfd_with, memory_with_holes, say,
};
use crate::support::{Base, Child, Role, trials};

trials! {
    memory_that_could_change_under_the_server_is_refused_before_it_is_mapped,
    memory_that_cannot_be_allocated_is_a_connect_error_and_raises_no_signal,
    an_owner_record_over_the_limit_on_files_is_a_bind_error_and_raises_no_signal,
}

const WHOLE: usize = CONTROL + RING;

fn memory_that_could_change_under_the_server_is_refused_before_it_is_mapped() {
    let base = Base::new();
    let driver = Driver::new(ServerOptions::new().bind(base.address(Transport::Shm, "hall")).unwrap());
    let regular = |directory: &str| {
        let file = tempfile::tempfile_in(directory).ok()?;
        file.set_len(WHOLE as u64).unwrap();
        Some(OwnedFd::from(file))
    };
    let mut bad: Vec<(String, OwnedFd)> = vec![
        ("memory that is too small".to_owned(), memfd(WHOLE - 1, WHOLE - 1, ALL_SEALS)),
        ("empty memory".to_owned(), memfd(0, 0, ALL_SEALS)),
        ("memory that is too large".to_owned(), memfd(WHOLE + 1, WHOLE + 1, ALL_SEALS)),
        ("a sparse terabyte".to_owned(), memfd(1 << 40, 0, ALL_SEALS)),
        ("memory without any allocated page".to_owned(), memfd(WHOLE, 0, ALL_SEALS)),
        ("memory whose last page is not allocated".to_owned(), memfd(WHOLE, WHOLE - 4096, ALL_SEALS)),
        ("memory without seals".to_owned(), memfd(WHOLE, WHOLE, SealFlags::empty())),
        (
            "memory with F_SEAL_WRITE instead of F_SEAL_FUTURE_WRITE".to_owned(),
            memfd(WHOLE, WHOLE, (ALL_SEALS - SealFlags::FUTURE_WRITE) | SealFlags::WRITE),
        ),
        (
            "memory of huge pages, which reports no holes".to_owned(),
            memfd_with(MemfdFlags::HUGETLB, 2 << 20, ALL_SEALS, |_| ()),
        ),
        ("a pipe".to_owned(), rustix::pipe::pipe().unwrap().0),
        ("a socket".to_owned(), dial(driver.server.path())),
        ("a device".to_owned(), File::open("/dev/zero").unwrap().into()),
        ("a directory".to_owned(), File::open("/").unwrap().into()),
    ];
    bad.extend(
        ALL_SEALS.iter().map(|seal| (format!("memory without {seal:?}"), memfd(WHOLE, WHOLE, ALL_SEALS - seal))),
    );
    let with_holes = memory_with_holes(WHOLE as u64, ALL_SEALS);
    bad.extend(with_holes.into_iter().map(|(what, memfd)| (what.to_owned(), memfd)));
    bad.extend(regular("/var/tmp").map(|file| ("a file".to_owned(), file)));
    bad.extend(regular("/dev/shm").map(|file| ("a file in /dev/shm".to_owned(), file)));
    for (number, (what, descriptor)) in (1..).zip(&bad) {
        let blocks = |memfd: &OwnedFd| rustix::fs::fstat(memfd).unwrap().st_blocks;
        let before = blocks(descriptor);
        let socket = dial(driver.server.path());
        say(&socket, &hello(RING as u64), &[descriptor]);
        assert_refused(&socket);
        assert_eq!(blocks(descriptor), before, "{what}: the check allocates nothing");
        let reason = driver.refused(number);
        assert!(reason.contains("its memory"), "{what}: {reason}");
    }
    let socket = dial(driver.server.path());
    say(&socket, &hello(RING as u64), &[&good_memfd()]);
    assert_eq!(hear(&socket).1.len(), 1, "suitable memory is accepted");
}

pub const SMALL_FILES: Role = Role { name: "small-files", play: small_files };

/// `small-files ADDRESS`: connects while the limit on file sizes is too low for shared memory, and prints the transport
/// or the error.
fn small_files(arguments: &[String]) {
    let limit = Rlimit { current: Some(100_000), ..getrlimit(Resource::Fsize) };
    setrlimit(Resource::Fsize, limit).unwrap();
    match Connection::connect(&arguments[0]) {
        Ok(connection) => println!("{}", connection.transport()),
        Err(error) => println!("{}: {error}", error.kind()),
    }
}

pub const NO_FILES: Role = Role { name: "no-files", play: no_files };

/// `no-files ADDRESS BYTES`: binds while the limit on file sizes is this low, and prints the error.
fn no_files(arguments: &[String]) {
    let limit = Rlimit { current: Some(arguments[1].parse().unwrap()), ..getrlimit(Resource::Fsize) };
    setrlimit(Resource::Fsize, limit).unwrap();
    match Server::bind(&arguments[0]) {
        Ok(_) => println!("bound"),
        Err(error) => println!("{}: {error}", error.kind()),
    }
}

fn an_owner_record_over_the_limit_on_files_is_a_bind_error_and_raises_no_signal() {
    let base = Base::new();
    let bind = |limit: &str| {
        let mut child = Child::spawn("no-files", &[base.name("hall").to_str().unwrap(), limit]);
        let said = child.line();
        child.finish();
        said
    };
    for limit in ["0", "1", "100"] {
        let said = bind(limit);
        assert!(said.starts_with(&format!("{}: cannot lock {}/lock", ErrorKind::Io, base.name("hall").display())));
        assert!(said.contains("ulimit -f"), "{said}");
        assert_eq!(base.files(), [""; 0]);
    }
    assert_eq!(bind("8192"), "bound");
    // A dead name stays as it was.
    let mut server = Child::spawn("serve", &[format!("address={}", base.name("hall").display())]);
    assert!(server.line().starts_with("ready"));
    server.kill();
    let before = base.files();
    assert!(bind("0").contains("ulimit -f"));
    assert_eq!(base.files(), before);
}

fn memory_that_cannot_be_allocated_is_a_connect_error_and_raises_no_signal() {
    let base = Base::new();
    let options = ServerOptions::new().transports([Transport::Shm, Transport::Unix]);
    let driver = Driver::new(options.bind(base.name("hall").display().to_string()).unwrap());
    let mut child = Child::spawn("small-files", &[base.address(Transport::Shm, "hall")]);
    let said = child.line();
    assert!(said.starts_with(&format!("{}: cannot create shared memory", ErrorKind::Io)), "{said}");
    child.finish();
    // A client that demands no transport falls back to another one that the server offers.
    let mut child = Child::spawn("small-files", &[base.name("hall")]);
    child.expect("unix");
    child.finish();
    drop(driver);
    assert_eq!(base.files(), [""; 0]);
}
