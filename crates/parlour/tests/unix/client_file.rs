//! The client's socket file: its properties, its removal by the server, and the reasons for refusing it.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime};

use parlour::{ClientFilePolicy, ConnectOptions, Connection, ServerOptions, Transport};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::by_hand::fifo_client::make_fifo_with;
use crate::by_hand::line::frame;
use crate::by_hand::place::{chmod, client_files, mode};
use crate::by_hand::user::{chown, new_uid, no_other_users};
use crate::by_hand::{Driver, Id, Place, snapshot, unix};
use crate::support::{Base, trials};

trials! {
    the_file_of_a_client_has_its_pid_in_the_name_and_mode_0700,
    the_server_removes_the_clients_file_and_the_client_does_not,
    a_client_that_cannot_connect_leaves_no_file,
    a_client_with_client_file_false_binds_no_file,
    a_proper_file_is_accepted_under_each_policy,
    a_client_without_a_file_is_accepted_unless_one_is_required,
    required_files_must_be_proper,
    ignored_files_are_removed_and_not_checked,
    a_client_whose_file_is_age_old_is_accepted(age in AGES),
    a_client_whose_file_names_process_is_accepted(process in PIDS),
    a_refused_client_does_not_keep_others_out,
    a_client_whose_file_fault_is_refused_and_the_file_removed(fault in BAD_FILES) unless foreign(fault),
}

fn serve(base: &Base, policy: ClientFilePolicy) -> Driver {
    Driver::new(ServerOptions::new().client_file(policy).bind(base.address(Transport::Unix, "door")).unwrap())
}

fn assert_serves(base: &Base, driver: &Driver) {
    let mut theirs = Connection::connect(base.address(Transport::Unix, "door")).unwrap();
    theirs.send(b"hello").unwrap();
    assert_eq!(driver.client().recv().unwrap().unwrap(), b"hello");
}

fn assert_in(driver: &Driver, mut stream: &UnixStream) {
    std::io::Write::write_all(&mut stream, &frame(b"let me in")).unwrap();
    assert_eq!(driver.client().recv().unwrap().unwrap(), b"let me in");
}

fn the_file_of_a_client_has_its_pid_in_the_name_and_mode_0700() {
    let base = Base::new();
    let place = Place::held(&base, "door");
    let listener = unix::listener(&place);
    // A client connects without being accepted, so the file can be inspected before the server removes it.
    let connection = Connection::connect(place.path().to_str().unwrap()).unwrap();
    let files = client_files(place.path());
    assert_eq!(files.len(), 1, "{files:?}");
    let (pid, rest) = files[0].split_once('-').unwrap();
    assert_eq!(pid, std::process::id().to_string());
    let nonce = rest.strip_suffix(".sock").unwrap();
    assert!(nonce.len() == 32 && nonce.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)), "{nonce}");
    let path = place.clients().join(&files[0]);
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    assert_eq!(mode(&path), 0o700);

    let (stream, address) = listener.accept().unwrap();
    assert_eq!(address.as_pathname().unwrap().file_name().unwrap().to_str().unwrap(), files[0]);
    // Another client has a different nonce.
    let _second = Connection::connect(place.path().to_str().unwrap()).unwrap();
    assert_eq!(client_files(place.path()).len(), 2);
    // The client does not remove its file, not even when it closes the connection.
    drop((connection, stream));
    assert_eq!(client_files(place.path()).len(), 2);
}

fn the_server_removes_the_clients_file_and_the_client_does_not() {
    let base = Base::new();
    let server = parlour::Server::bind(base.address(Transport::Unix, "door")).unwrap();
    let connection = Connection::connect(base.address(Transport::Unix, "door")).unwrap();
    assert_eq!(client_files(server.path()).len(), 1, "the client leaves its file alone");
    let accepted = server.accept_timeout(crate::support::DEADLINE).unwrap();
    assert_eq!(client_files(server.path()), [""; 0], "the server removes the file");
    drop((connection, accepted));
    // A client that disconnects before it is accepted does not remove its file either.
    drop(Connection::connect(base.address(Transport::Unix, "door")).unwrap());
    assert_eq!(client_files(server.path()).len(), 1);
    server.accept_timeout(crate::support::DEADLINE).unwrap();
    assert_eq!(client_files(server.path()), [""; 0]);
    assert_eq!(server.stats().refused, 0);
}

fn a_client_that_cannot_connect_leaves_no_file() {
    let base = Base::new();
    let mut place = Place::held(&base, "door");
    // The socket is bound but does not listen.
    let _socket = unix::bound_server(&place);
    let options = ConnectOptions::new().timeout(Duration::from_millis(50));
    assert!(options.connect(place.path().to_str().unwrap()).is_err());
    assert_eq!(client_files(place.path()), [""; 0]);
    place.die();
    assert!(options.connect(place.path().to_str().unwrap()).is_err());
    assert_eq!(client_files(place.path()), [""; 0]);
}

fn a_client_with_client_file_false_binds_no_file() {
    let base = Base::new();
    let place = Place::held(&base, "door");
    let listener = unix::listener(&place);
    let _connection = ConnectOptions::new().client_file(false).connect(place.path().to_str().unwrap()).unwrap();
    assert_eq!(client_files(place.path()), [""; 0]);
    assert!(listener.accept().unwrap().1.is_unnamed());
}

const POLICIES: [ClientFilePolicy; 3] = [ClientFilePolicy::Check, ClientFilePolicy::Require, ClientFilePolicy::Ignore];

fn a_proper_file_is_accepted_under_each_policy() {
    for policy in POLICIES {
        let base = Base::new();
        let driver = serve(&base, policy);
        assert_serves(&base, &driver);
        let (stream, file) = unix::dial_bound(driver.server.path());
        assert_in(&driver, &stream);
        assert!(!file.exists());
        assert_eq!(driver.server.stats().refused, 0);
    }
}

fn a_client_without_a_file_is_accepted_unless_one_is_required() {
    for policy in [ClientFilePolicy::Check, ClientFilePolicy::Ignore] {
        let base = Base::new();
        let driver = serve(&base, policy);
        assert_in(&driver, &unix::dial(driver.server.path()));
        // A client that is bound outside of `c/`, under a name that the library does not use, counts as unbound.
        let elsewhere = base.path().join("my.socket");
        assert_in(&driver, &unix::dial_with(unix::bound(&elsewhere, 0o755), driver.server.path()));
        assert!(elsewhere.exists());
        let mut theirs =
            ConnectOptions::new().client_file(false).connect(base.address(Transport::Unix, "door")).unwrap();
        theirs.send(b"unbound").unwrap();
        assert_eq!(driver.client().recv().unwrap().unwrap(), b"unbound");
        assert_eq!(driver.server.stats().refused, 0);
    }
}

fn required_files_must_be_proper() {
    let base = Base::new();
    let driver = serve(&base, ClientFilePolicy::Require);
    let elsewhere = base.path().join("my.socket");
    let dials: [&dyn Fn() -> UnixStream; 2] = [&|| unix::dial(driver.server.path()), &|| {
        unix::dial_with(unix::bound(&elsewhere, 0o700), driver.server.path())
    }];
    for (count, dial) in (1..).zip(dials) {
        unix::assert_ended(&dial());
        let reason = driver.refused(count);
        assert!(reason.contains("no file of its own"), "{reason}");
    }
    assert!(elsewhere.exists());
    let error = ConnectOptions::new()
        .client_file(false)
        .connect(base.address(Transport::Unix, "door"))
        .and_then(|mut connection| connection.recv_timeout(crate::support::DEADLINE));
    assert!(!matches!(error, Ok(Some(_))), "{error:?}");
    driver.refused(3);
    assert_serves(&base, &driver);
}

fn ignored_files_are_removed_and_not_checked() {
    let base = Base::new();
    let driver = serve(&base, ClientFilePolicy::Ignore);
    let path = driver.server.path();
    for (id, mode) in [(Id::new(), 0o777), (Id::of(1), 0o700), (Id::of(1), 0o644)] {
        let file = path.join("c").join(id.sock());
        let socket = unix::bound(&file, mode);
        set_age(&file, 3600);
        assert_in(&driver, &unix::dial_with(socket, path));
        assert!(!file.exists());
    }
    assert_eq!(driver.server.stats().refused, 0);
}

/// Sets the modification time of a file to this many seconds ago. A negative number is in the future.
fn set_age(file: &Path, seconds: i64) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    let then = Timespec { tv_sec: now - seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: then, last_modification: then };
    utimensat(CWD, file, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// A name for the test, and the age of a file in seconds: the times of files and the clock of a server may differ by
/// any amount.
const AGES: [(&str, i64); 5] =
    [("ten_seconds", 10), ("a_minute", 60), ("a_day", 86_400), ("years", 1_000_000_000), ("minus_one_day", -86_400)];

fn a_client_whose_file_is_age_old_is_accepted((_, seconds): (&'static str, i64)) {
    for policy in [ClientFilePolicy::Check, ClientFilePolicy::Require] {
        let base = Base::new();
        let driver = serve(&base, policy);
        let file = driver.server.path().join("c").join(Id::new().sock());
        let socket = unix::bound(&file, 0o700);
        set_age(&file, seconds);
        assert_in(&driver, &unix::dial_with(socket, driver.server.path()));
        assert!(!file.exists());
        assert_eq!(driver.server.stats().refused, 0);
    }
}

/// A name for the test, and a process id. A client in another PID namespace has an id of that namespace.
const PIDS: [(&str, u32); 3] = [("process_one", 1), ("the_parent", 0), ("no_process", i32::MAX as u32)];

fn a_client_whose_file_names_process_is_accepted((name, pid): (&'static str, u32)) {
    let pid = if name == "the_parent" { std::os::unix::process::parent_id() } else { pid };
    for policy in [ClientFilePolicy::Check, ClientFilePolicy::Require] {
        let base = Base::new();
        let driver = serve(&base, policy);
        let file = driver.server.path().join("c").join(Id::of(pid).sock());
        let stream = unix::dial_with(unix::bound(&file, 0o700), driver.server.path());
        std::io::Write::write_all(&mut &stream, &frame(b"let me in")).unwrap();
        let mut connection = driver.client();
        assert_eq!(connection.recv().unwrap().unwrap(), b"let me in");
        // The name is a label, and the kernel identifies the process.
        assert_eq!(connection.peer().pid(), Some(std::process::id()));
        assert_eq!(connection.peer().pid_provenance(), parlour::Provenance::Kernel);
        assert!(!file.exists());
        assert_eq!(driver.server.stats().refused, 0);
    }
}

/// Replaces the file.
fn replace(file: &Path, make: impl FnOnce(&Path)) {
    fs::remove_file(file).unwrap();
    make(file);
}

/// A name for the test, the reason of the refusal, and a change to a correct file before the client connects. The
/// server removes the changed file.
type BadFile = (&'static str, &'static str, fn(&Path));
const BAD_FILES: &[BadFile] = &[
    ("has_mode_0600", "mode 0600, not 0700", |file| chmod(file, 0o600)),
    ("has_mode_0755", "mode 0755, not 0700", |file| chmod(file, 0o755)),
    ("has_mode_0770", "mode 0770, not 0700", |file| chmod(file, 0o770)),
    ("has_mode_0777", "mode 0777, not 0700", |file| chmod(file, 0o777)),
    ("has_mode_1700", "mode 1700, not 0700", |file| chmod(file, 0o1700)),
    ("has_mode_4700", "mode 4700, not 0700", |file| chmod(file, 0o4700)),
    ("is_a_regular_file", "is a regular file, not a socket", |file| {
        replace(file, |file| fs::write(file, "x").unwrap());
        chmod(file, 0o700);
    }),
    ("is_a_fifo", "is a FIFO, not a socket", |file| replace(file, |file| make_fifo_with(file, 0o700))),
    ("is_missing", "has no file of its own", |file| fs::remove_file(file).unwrap()),
    ("belongs_to_another_user", "belongs to uid", |file| chown(file, new_uid())),
];

fn foreign((name, ..): BadFile) -> Option<String> {
    if name.contains("another_user") { no_other_users() } else { None }
}

fn a_client_whose_file_fault_is_refused_and_the_file_removed((_, reason, spoil): BadFile) {
    for policy in [ClientFilePolicy::Check, ClientFilePolicy::Require] {
        let base = Base::new();
        let driver = serve(&base, policy);
        let file = driver.server.path().join("c").join(Id::new().sock());
        let socket = unix::bound(&file, 0o700);
        spoil(&file);
        let stream = unix::dial_with(socket, driver.server.path());
        unix::assert_ended(&stream);
        let said = driver.refused(1);
        assert!(said.contains(reason), "{said}");
        assert!(said.contains(&format!("pid {} (kernel)", std::process::id())), "{said}");
        assert!(fs::symlink_metadata(&file).is_err(), "the file still exists");
        assert!(driver.is_idle());
        assert_serves(&base, &driver);
        assert_eq!(driver.server.stats().refused, 1);
    }
}

fn a_refused_client_does_not_keep_others_out() {
    let base = Base::new();
    let driver = serve(&base, ClientFilePolicy::Check);
    let path = driver.server.path().to_owned();
    let other = path.join("c").join(Id::of(1).sock());
    let refused = unix::dial_with(unix::bound(&other, 0o750), &path);
    unix::assert_ended(&refused);
    let said = driver.refused(1);
    assert!(said.contains("the client's file has mode 0750, not 0700"), "{said}");
    assert!(!other.exists());
    // A directory cannot be removed with unlink(2). It stays, and the client is refused.
    let directory = path.join("c").join(Id::new().sock());
    let socket = unix::bound(&directory, 0o700);
    replace(&directory, |path| fs::create_dir(path).unwrap());
    let before = snapshot::of(&directory);
    unix::assert_ended(&unix::dial_with(socket, &path));
    assert!(driver.refused(2).contains("is a directory"));
    assert_eq!(snapshot::of(&directory), before);
    base.keeps(&directory);
    assert_serves(&base, &driver);
}
