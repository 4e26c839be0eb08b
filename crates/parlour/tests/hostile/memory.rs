//! Memory that is not what it has to be.

use std::fs::File;
use std::os::fd::OwnedFd;

use parlour::{Connection, ErrorKind, ServerOptions, Transport};
use rustix::fs::SealFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::by_hand::Driver;
use crate::by_hand::shm::{ALL_SEALS, CONTROL, RING, assert_refused, dial, good_memfd, hear, hello, memfd, say};
use crate::support::{Base, Child, Role, trials};

trials! {
    memory_that_could_change_under_the_server_is_refused_before_it_is_mapped,
    memory_that_cannot_be_had_is_an_error_at_connecting_and_no_signal,
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
        ("one that is too small".to_owned(), memfd(WHOLE - 1, WHOLE - 1, ALL_SEALS)),
        ("an empty one".to_owned(), memfd(0, 0, ALL_SEALS)),
        ("one that is too large".to_owned(), memfd(WHOLE + 1, WHOLE + 1, ALL_SEALS)),
        ("a sparse terabyte".to_owned(), memfd(1 << 40, 0, ALL_SEALS)),
        ("one of nothing but holes".to_owned(), memfd(WHOLE, 0, ALL_SEALS)),
        ("one whose end is a hole".to_owned(), memfd(WHOLE, WHOLE - 4096, ALL_SEALS)),
        ("an unsealed one".to_owned(), memfd(WHOLE, WHOLE, SealFlags::empty())),
        (
            "one sealed by another seal".to_owned(),
            memfd(WHOLE, WHOLE, (ALL_SEALS - SealFlags::FUTURE_WRITE) | SealFlags::WRITE),
        ),
        ("a pipe".to_owned(), rustix::pipe::pipe().unwrap().0),
        ("a socket".to_owned(), dial(driver.server.path())),
        ("a device".to_owned(), File::open("/dev/zero").unwrap().into()),
        ("a directory".to_owned(), File::open("/").unwrap().into()),
    ];
    bad.extend(ALL_SEALS.iter().map(|seal| (format!("one without {seal:?}"), memfd(WHOLE, WHOLE, ALL_SEALS - seal))));
    bad.extend(regular("/var/tmp").map(|file| ("a file".to_owned(), file)));
    bad.extend(regular("/dev/shm").map(|file| ("a file in /dev/shm".to_owned(), file)));
    for (number, (what, descriptor)) in (1..).zip(&bad) {
        let socket = dial(driver.server.path());
        say(&socket, &hello(RING as u64), &[descriptor]);
        assert_refused(&socket);
        let reason = driver.refused(number);
        assert!(reason.contains("its memory"), "{what}: {reason}");
    }
    let socket = dial(driver.server.path());
    say(&socket, &hello(RING as u64), &[&good_memfd()]);
    assert_eq!(hear(&socket).1.len(), 1, "and one that is right is taken");
}

pub const SMALL_FILES: Role = Role { name: "small-files", play: small_files };

/// `small-files ADDRESS`: connects where no file may be large enough, and says what comes of it.
fn small_files(arguments: &[String]) {
    let limit = Rlimit { current: Some(100_000), ..getrlimit(Resource::Fsize) };
    setrlimit(Resource::Fsize, limit).unwrap();
    match Connection::connect(&arguments[0]) {
        Ok(connection) => println!("{}", connection.transport()),
        Err(error) => println!("{}: {error}", error.kind()),
    }
}

fn memory_that_cannot_be_had_is_an_error_at_connecting_and_no_signal() {
    let base = Base::new();
    let options = ServerOptions::new().transports([Transport::Shm, Transport::Unix]);
    let driver = Driver::new(options.bind(base.name("hall").display().to_string()).unwrap());
    let mut child = Child::spawn("small-files", &[base.address(Transport::Shm, "hall")]);
    let said = child.line();
    assert!(said.starts_with(&format!("{}: cannot create shared memory", ErrorKind::Io)), "{said}");
    child.finish();
    // Where another transport is on offer and none is demanded, it takes that.
    let mut child = Child::spawn("small-files", &[base.name("hall")]);
    child.expect("unix");
    child.finish();
    drop(driver);
    assert_eq!(base.files(), ["hall/", "hall/c/", "hall/lock"]);
}
