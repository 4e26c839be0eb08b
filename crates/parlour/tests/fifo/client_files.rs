//! Files in `c/` that the library's client does not create. The server refuses their clients, never writes to them,
//! and removes only FIFOs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use parlour::{Connection, Server, Transport};
use rustix::fs::{Mode, OFlags, open};

use crate::by_hand::fifo_client::{make_fifo, make_fifo_with};
use crate::by_hand::place::chmod;
use crate::by_hand::user::{chown, new_uid, no_other_users};
use crate::by_hand::{Driver, FifoClient, snapshot, unix};
use crate::support::{Base, trials};

trials! {
    file_as_which_is_refused_and_left_unchanged(file in LEFT, which in PAIR) unless foreign(file),
    file_as_which_is_refused_and_removed(file in REMOVED, which in PAIR) unless foreign(file),
    a_pair_of_a_directory_and_nothing_is_refused,
}

const PAIR: [&str; 2] = ["s2c", "c2s"];

/// A name for the test, part of the refusal's reason, and a function that creates the file at the first path. It may
/// also create a file at the second path, which is outside of the directory.
type Wrong = (&'static str, &'static str, fn(&Path, &Path));

const LEFT: &[Wrong] = &[
    ("a_regular_file", "regular file, not a FIFO", |path, _| {
        fs::write(path, "precious").unwrap();
        chmod(path, 0o600);
    }),
    ("a_directory", "irectory", |path, _| fs::create_dir(path).unwrap()),
    ("a_socket", "the client has disconnected", |path, _| drop(unix::bound(path, 0o600))),
    ("a_link_to_a_file", "symbolic link", |path, victim| {
        fs::write(victim, "precious").unwrap();
        chmod(victim, 0o600);
        symlink(victim, path).unwrap();
    }),
    ("a_link_to_a_fifo", "symbolic link", |path, victim| {
        make_fifo(victim);
        symlink(victim, path).unwrap();
    }),
];

const REMOVED: &[Wrong] = &[
    ("a_fifo_that_others_may_read", "mode 0644, not 0600", |path, _| make_fifo_with(path, 0o644)),
    ("a_fifo_that_others_may_write", "mode 0622, not 0600", |path, _| make_fifo_with(path, 0o622)),
    ("a_fifo_that_its_owner_may_execute", "mode 0700, not 0600", |path, _| make_fifo_with(path, 0o700)),
    ("a_fifo_with_a_second_name", "it has 2 hard links", |path, second| {
        make_fifo(second);
        fs::hard_link(second, path).unwrap();
    }),
    ("another_users_fifo", "it belongs to uid", |path, _| {
        make_fifo(path);
        chown(path, new_uid());
    }),
];

fn foreign((name, ..): Wrong) -> Option<String> {
    if name.starts_with("another_users") { no_other_users() } else { None }
}

fn file_as_which_is_refused_and_left_unchanged(file: Wrong, which: &str) {
    refused(file, which, false);
}

fn file_as_which_is_refused_and_removed(file: Wrong, which: &str) {
    refused(file, which, true);
}

fn refused((_, because, make): Wrong, which: &str, removed: bool) {
    let base = Base::with_foreign_files();
    let driver = Driver::new(Server::bind(base.address(Transport::Fifo, "door")).unwrap());
    let mut client = FifoClient::new(driver.server.path());
    let beside = base.path().join("beside");
    let wrong = if which == "s2c" { client.s2c() } else { client.c2s() };
    match which {
        "s2c" => client.make_c2s(),
        _ => {
            client.make_s2c();
            client.open_s2c();
        }
    }
    make(&wrong, &beside);
    // Both ends of the FIFO are open, so opening one end cannot fail because the other is missing.
    let both = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let is_fifo = std::os::unix::fs::FileTypeExt::is_fifo(&fs::symlink_metadata(&wrong).unwrap().file_type());
    let opened = is_fifo.then(|| open(&wrong, both, Mode::empty()).unwrap());
    let before = (snapshot::of(&wrong), beside.exists().then(|| snapshot::of(&beside)));

    client.ask();
    let reason = driver.refused(1);
    assert!(reason.contains(&format!("pid {}", std::process::id())) && reason.contains(because), "{reason}");
    if removed {
        assert!(fs::symlink_metadata(&wrong).is_err(), "{reason}");
    } else {
        let now = (snapshot::of(&wrong), beside.exists().then(|| snapshot::of(&beside)));
        assert_eq!(now, before, "{reason}");
    }
    if let Some(opened) = opened {
        if which == "s2c" {
            assert_eq!(
                rustix::io::read(&opened, &mut [0; 100]),
                Err(rustix::io::Errno::AGAIN),
                "the server wrote to the FIFO"
            );
        }
    }
    if which == "c2s" {
        client.assert_dropped();
        assert!(fs::symlink_metadata(client.s2c()).is_err(), "the server removes the other FIFO of the pair");
    }
    Connection::connect(base.address(Transport::Fifo, "door")).unwrap();
    driver.client();
    assert_eq!(driver.server.stats().refused, 1);
}

fn a_pair_of_a_directory_and_nothing_is_refused() {
    let base = Base::with_foreign_files();
    let driver = Driver::new(Server::bind(base.address(Transport::Fifo, "door")).unwrap());
    let client = FifoClient::new(driver.server.path());
    fs::create_dir(client.s2c()).unwrap();
    fs::write(client.s2c().join("deep"), "precious").unwrap();
    client.ask();
    driver.refused(1);
    assert_eq!(fs::read(client.s2c().join("deep")).unwrap(), b"precious");
}
