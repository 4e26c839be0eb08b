//! Tests of a connector on whose path something is swapped between two connections.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use parlour::{ConnectOptions, Connection, ErrorKind};

use crate::by_hand::fifo_client::make_fifo_with;
use crate::by_hand::place::chmod;
use crate::by_hand::user::{chown, new_uid, no_other_users};
use crate::by_hand::{Place, unix};
use crate::forking::{fork_among_threads, join};
use crate::support::{Base, assert_tells, trials};

trials! {
    a_connector_refuses_change_since_its_last_connection(change in CHANGES),
    a_connector_refuses_place_that_was_given_to_another_user(place in GIVEN) unless no_other_users(),
    a_forked_child_takes_no_change_away_from_the_connector_of_its_parent;
}

/// A test name, the place relative to a directory of this user in which the name is `above/base/name`, and what is done
/// to the place.
type Change = (&'static str, &'static str, fn(&Path));

const CHANGES: &[Change] = &[
    ("a_parent_that_others_may_write", "above", |path| chmod(path, 0o777)),
    ("a_parent_that_a_group_may_write", "above", |path| chmod(path, 0o775)),
    ("a_base_that_others_may_write", "above/base", |path| chmod(path, 0o777)),
    ("a_name_that_others_may_write", "above/base/name", |path| chmod(path, 0o777)),
    ("a_name_that_a_group_may_write", "above/base/name", |path| chmod(path, 0o770)),
    ("a_c_that_others_may_write", "above/base/name/c", |path| chmod(path, 0o777)),
    ("a_link_as_parent", "above", replace_by_a_link),
    ("a_link_as_base", "above/base", replace_by_a_link),
    ("a_link_as_name", "above/base/name", replace_by_a_link),
    ("a_link_as_socket", "above/base/name/unix", replace_by_a_link),
    ("a_file_as_base", "above/base", replace_by_a_file),
    ("a_file_as_name", "above/base/name", replace_by_a_file),
    ("a_file_as_socket", "above/base/name/unix", replace_by_a_file),
    ("a_directory_as_socket", "above/base/name/unix", |path| {
        move_away(path);
        fs::create_dir(path).unwrap();
    }),
    ("a_fifo_as_socket", "above/base/name/unix", |path| {
        move_away(path);
        make_fifo_with(path, 0o600);
    }),
];

/// Places in the same directory.
const GIVEN: &[(&str, &str)] = &[
    ("a_directory_above_the_base", "above"),
    ("a_base", "above/base"),
    ("a_name", "above/base/name"),
    ("a_socket", "above/base/name/unix"),
    ("a_directory_of_clients_files", "above/base/name/c"),
];

/// Moves what is in a place to another one, where it works as before.
fn move_away(path: &Path) -> std::path::PathBuf {
    let other = path.ancestors().find(|above| above.ends_with("above")).unwrap().with_file_name("moved");
    fs::rename(path, &other).unwrap();
    other
}

fn replace_by_a_link(path: &Path) {
    let other = move_away(path);
    symlink(other, path).unwrap();
}

fn replace_by_a_file(path: &Path) {
    move_away(path);
    fs::write(path, "precious").unwrap();
    chmod(path, 0o600);
}

/// Connects twice through one connector, does something to the path, and checks that the connector refuses it as a new
/// client does, at every further attempt.
fn refused_after(top: &Base, change: impl FnOnce()) {
    let above = top.path().join("above");
    fs::create_dir_all(above.join("base")).unwrap();
    chmod(&above, 0o700);
    chmod(&above.join("base"), 0o700);
    let name = above.join("base/name");
    let listener = unix::listener(&Place::held_at(&name));
    let address = format!("unix:{}", name.display());
    let connector = ConnectOptions::new().connector(&address).unwrap();
    for _ in 0..2 {
        connector.connect().unwrap();
        unix::accept(&listener);
    }
    change();
    let expected = Connection::connect(&address).unwrap_err();
    for _ in 0..3 {
        let error = connector.connect().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::UnsafeDirectory | ErrorKind::Denied), "{error}");
        assert_eq!(error.to_string(), expected.to_string());
        assert_tells(&error);
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "the client has connected");
}

fn a_connector_refuses_change_since_its_last_connection((_, place, change): Change) {
    let top = Base::with_foreign_files();
    refused_after(&top, || change(&top.path().join(place)));
}

fn a_connector_refuses_place_that_was_given_to_another_user((_, place): (&str, &str)) {
    let top = Base::with_foreign_files();
    refused_after(&top, || chown(&top.path().join(place), new_uid()));
}

/// Both processes have the same instance of inotify(7), whose events are there once.
fn a_forked_child_takes_no_change_away_from_the_connector_of_its_parent() {
    let top = Base::with_foreign_files();
    let base = top.path().join("base");
    fs::create_dir(&base).unwrap();
    chmod(&base, 0o700);
    let listener = unix::listener(&Place::held_at(&base.join("name")));
    let connector = ConnectOptions::new().connector(format!("unix:{}", base.join("name").display())).unwrap();
    connector.connect().unwrap();
    unix::accept(&listener);
    let refused = || assert_eq!(connector.connect().unwrap_err().kind(), ErrorKind::UnsafeDirectory);
    chmod(&base, 0o777);
    join(fork_among_threads(refused));
    refused();
    chmod(&base, 0o700);
    join(fork_among_threads(|| drop(connector.connect().unwrap())));
    connector.connect().unwrap();
}
