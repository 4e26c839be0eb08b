//! Tests of files and directories with which another user could interfere. They are refused with an error that names
//! the path, the owner and the mode, and are left unchanged.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use parlour::{Connection, Error, ErrorKind, ServerOptions, Transport};
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat, open};

use crate::by_hand::fifo_client::make_fifo_with;
use crate::by_hand::place::{self, chmod};
use crate::by_hand::{Place, snapshot, unix};
use crate::support::base::leaves_files;
use crate::support::{Base, assert_tells, trials};

trials! {
    server::place_is_refused_and_left_as_it_is(place in PLACES) unless cannot_make(place.2),
    client::place_is_refused_and_left_as_it_is(place in CLIENT_PLACES) unless cannot_make(place.2),
    a_base_below_a_sticky_directory_that_others_may_write_is_accepted,
    a_link_on_the_way_to_the_base_is_refused_and_its_target_named,
    a_lock_with_a_second_hard_link_is_refused,
    a_path_or_a_link_with_control_characters_is_escaped_in_errors,
}

/// The file that the test puts in a place.
#[derive(Clone, Copy, Debug)]
enum What {
    Directory(u32),
    Regular(u32),
    Link,
    Fifo(u32),
    Socket,
    /// A device without effects: that of `/dev/null`.
    Device,
}
use What::{Device, Directory, Fifo, Link, Regular, Socket};

fn make_device(path: &Path) -> rustix::io::Result<()> {
    mknodat(CWD, path, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, makedev(1, 3))
}

/// Returns the reason why this process cannot create such a file, if there is one.
fn cannot_make(what: What) -> Option<String> {
    let Device = what else { return None };
    let top = Base::new();
    make_device(&top.path().join("device")).err().map(|errno| format!("this process may not create devices: {errno}"))
}

/// A test name; the place, relative to a directory of this user in which the name is `above/base/name`; the file in
/// that place; and whether the error states its mode.
type ServerPlace = (&'static str, &'static str, What, bool);

const PLACES: &[ServerPlace] = &[
    ("a_base_that_others_may_write", "above/base", Directory(0o777), true),
    ("a_base_that_a_group_may_write", "above/base", Directory(0o770), true),
    ("a_link_as_base", "above/base", Link, false),
    ("a_file_as_base", "above/base", Regular(0o600), true),
    ("a_parent_that_others_may_write", "above", Directory(0o777), true),
    ("a_parent_that_a_group_may_write", "above", Directory(0o775), true),
    ("a_link_as_name_directory", "above/base/name", Link, false),
    ("a_file_as_name_directory", "above/base/name", Regular(0o600), true),
    ("a_name_directory_that_others_may_write", "above/base/name", Directory(0o777), true),
    ("a_name_directory_that_a_group_may_write", "above/base/name", Directory(0o770), true),
    ("a_sticky_name_directory_that_others_may_write", "above/base/name", Directory(0o1777), true),
    ("a_link_as_lock", "above/base/name/lock", Link, false),
    ("a_directory_as_lock", "above/base/name/lock", Directory(0o700), true),
    ("a_fifo_as_lock", "above/base/name/lock", Fifo(0o600), true),
    ("a_socket_as_lock", "above/base/name/lock", Socket, true),
    ("a_lock_that_others_may_read", "above/base/name/lock", Regular(0o644), true),
    ("a_lock_that_others_may_write", "above/base/name/lock", Regular(0o622), true),
    ("a_link_as_c", "above/base/name/c", Link, false),
    ("a_file_as_c", "above/base/name/c", Regular(0o600), true),
    ("a_c_that_others_may_write", "above/base/name/c", Directory(0o777), true),
    ("a_link_as_socket", "above/base/name/unix", Link, false),
    ("a_file_as_socket", "above/base/name/unix", Regular(0o600), true),
    ("a_directory_as_socket", "above/base/name/unix", Directory(0o700), true),
    ("a_fifo_as_socket", "above/base/name/unix", Fifo(0o600), true),
    ("a_link_as_fifo", "above/base/name/fifo", Link, false),
    ("a_file_as_fifo", "above/base/name/fifo", Regular(0o600), true),
    ("a_directory_as_fifo", "above/base/name/fifo", Directory(0o700), true),
    ("a_socket_as_fifo", "above/base/name/fifo", Socket, true),
    ("a_device_as_lock", "above/base/name/lock", Device, true),
    ("a_device_as_socket", "above/base/name/unix", Device, true),
    ("a_device_as_fifo", "above/base/name/fifo", Device, true),
    ("a_file_as_control", "above/base/name/control", Regular(0o600), true),
    ("a_fifo_as_control", "above/base/name/control", Fifo(0o600), true),
    ("a_file_as_new_fifo", "above/base/name/fifo.new", Regular(0o600), true),
];

/// A place where a client looks. The name is held.
type ClientPlace = (&'static str, &'static str, What);

const CLIENT_PLACES: &[ClientPlace] = &[
    ("a_base_that_others_may_write", "above/base", Directory(0o777)),
    ("a_link_as_base", "above/base", Link),
    ("a_link_as_name_directory", "above/base/name", Link),
    ("a_name_directory_that_others_may_write", "above/base/name", Directory(0o777)),
    ("a_link_as_socket", "above/base/name/unix", Link),
    ("a_file_as_socket", "above/base/name/unix", Regular(0o600)),
    ("a_directory_as_socket", "above/base/name/unix", Directory(0o700)),
    ("a_fifo_as_socket", "above/base/name/unix", Fifo(0o600)),
    ("a_link_as_fifo", "above/base/name/fifo", Link),
    ("a_file_as_fifo", "above/base/name/fifo", Regular(0o600)),
    ("a_directory_as_fifo", "above/base/name/fifo", Directory(0o700)),
    ("a_socket_as_fifo", "above/base/name/fifo", Socket),
    ("a_fifo_that_others_may_write", "above/base/name/fifo", Fifo(0o622)),
    ("a_device_as_socket", "above/base/name/unix", Device),
    ("a_device_as_fifo", "above/base/name/fifo", Device),
];

/// Puts the file in its place and creates all directories above it. A link points to a victim of the expected kind.
fn put(top: &Path, where_it_is: &str, what: What) {
    leaves_files();
    let path = top.join(where_it_is);
    let mut directory = top.to_owned();
    for part in Path::new(where_it_is).parent().unwrap() {
        directory.push(part);
        if !directory.exists() {
            fs::create_dir(&directory).unwrap();
            chmod(&directory, 0o700);
        }
    }
    match what {
        Directory(mode) => {
            if !path.exists() {
                fs::create_dir(&path).unwrap();
            }
            chmod(&path, mode);
        }
        Regular(mode) => {
            fs::write(&path, "precious").unwrap();
            chmod(&path, mode);
        }
        Fifo(mode) => make_fifo_with(&path, mode),
        Socket => drop(unix::bound(&path, 0o600)),
        Device => make_device(&path).unwrap(),
        Link => {
            let victim = top.join("victim");
            match Path::new(where_it_is).file_name().unwrap().to_str().unwrap() {
                "lock" => fs::write(&victim, "precious").unwrap(),
                "unix" => drop(unix::bound(&victim, 0o600)),
                "fifo" => make_fifo_with(&victim, 0o600),
                _ => {
                    // The existing directory becomes the target.
                    match path.exists() {
                        true => fs::rename(&path, &victim).unwrap(),
                        false => fs::create_dir(&victim).unwrap(),
                    }
                    chmod(&victim, 0o700);
                }
            }
            symlink(&victim, &path).unwrap();
        }
    }
}

/// Returns the state of everything below `top`, except for the files that a server may create in its own directory
/// before it finds the fault, and the times of that directory.
fn state(top: &Path) -> Vec<(PathBuf, snapshot::FileState)> {
    let name = top.join("above/base/name");
    let may_be_made = ["lock", "c"].map(|file| name.join(file));
    let is_fixed = |path: &Path| path != name && !may_be_made.iter().any(|made| made == path);
    snapshot::tree(top).into_iter().filter(|(path, _)| is_fixed(path)).collect()
}

/// Checks that a refusal names the path and the owner, and the mode if the mode is the fault.
fn assert_names(error: &Error, path: &Path, what: What, names_mode: bool) {
    assert_eq!(error.kind(), ErrorKind::UnsafeDirectory, "{error}");
    assert_tells(error);
    let uid = rustix::process::geteuid().as_raw();
    let mut parts = vec![path.display().to_string(), format!("uid {uid}")];
    parts.push(match what {
        Directory(mode) | Regular(mode) | Fifo(mode) if names_mode => format!("{mode:04o}"),
        Socket | Device if names_mode => "0600".to_owned(),
        Link => "symbolic link".to_owned(),
        _ => String::new(),
    });
    for part in parts {
        assert!(error.to_string().contains(&part), "{part:?} is missing in {:?}", error.to_string());
    }
}

mod server {
    use super::*;

    pub fn place_is_refused_and_left_as_it_is((_, where_it_is, what, names_mode): ServerPlace) {
        let top = Base::new();
        put(top.path(), where_it_is, what);
        let path = top.path().join(where_it_is);
        let (all, this) = (state(top.path()), snapshot::tree(&path));
        let address = top.path().join("above/base/name");
        let options = ServerOptions::new().transports(Transport::ALL.iter().copied());
        for _ in 0..2 {
            let error = options.bind(address.to_str().unwrap()).unwrap_err();
            assert_names(&error, &path, what, names_mode);
            assert_eq!(state(top.path()), all);
            if !matches!(what, Directory(_)) {
                assert_eq!(snapshot::tree(&path), this);
            }
            assert_eq!(place::mode(&path), mode_of(&path, what));
        }
    }
}

/// Returns the mode that the test gave to the file.
fn mode_of(path: &Path, what: What) -> u32 {
    match what {
        Directory(mode) | Regular(mode) | Fifo(mode) => mode,
        Socket | Device => 0o600,
        Link => place::mode(path),
    }
}

mod client {
    use super::*;

    pub fn place_is_refused_and_left_as_it_is((_, where_it_is, what): ClientPlace) {
        let top = Base::new();
        let path = top.path().join(where_it_is);
        put(top.path(), "above/base", Directory(0o700));
        let name = top.path().join("above/base/name");
        let place = Place::held_at(&name);
        let listener = (path != name.join("unix")).then(|| unix::listener(&place));
        put(top.path(), where_it_is, what);
        // The FIFO has a reader, so that opening it for writing would succeed.
        let reading = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let _reader = matches!(what, Fifo(_)).then(|| open(&path, reading, Mode::empty()).unwrap());
        let before = snapshot::tree(top.path());
        let transport = if where_it_is.ends_with("fifo") { Transport::Fifo } else { Transport::Unix };
        let error = Connection::connect(format!("{transport}:{}", name.display())).unwrap_err();
        let kind = match what {
            Fifo(0o622) => ErrorKind::Unsupported,
            _ => ErrorKind::UnsafeDirectory,
        };
        assert_eq!(error.kind(), kind, "{error}");
        assert_tells(&error);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(snapshot::tree(top.path()), before);
        if let Some(listener) = listener {
            listener.set_nonblocking(true).unwrap();
            assert!(listener.accept().is_err(), "the client has connected");
        }
    }
}

fn a_base_below_a_sticky_directory_that_others_may_write_is_accepted() {
    let top = Base::new();
    put(top.path(), "above", Directory(0o1777));
    let server = ServerOptions::new().bind(top.path().join("above/base/name").to_str().unwrap()).unwrap();
    assert_eq!(place::mode(&top.path().join("above")), 0o1777);
    assert_eq!(place::mode(server.path().parent().unwrap()), 0o700);
}

fn a_link_on_the_way_to_the_base_is_refused_and_its_target_named() {
    let top = Base::new();
    put(top.path(), "real/base", Directory(0o700));
    symlink("real", top.path().join("above")).unwrap();
    let address = top.path().join("above/base/name");
    for error in [
        ServerOptions::new().bind(address.to_str().unwrap()).unwrap_err(),
        Connection::connect(address.to_str().unwrap()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::UnsafeDirectory);
        assert!(error.to_string().contains("points to real"), "{error}");
    }
    assert_eq!(place::list(&top.path().join("real/base")), [""; 0]);
}

fn a_lock_with_a_second_hard_link_is_refused() {
    let top = Base::new();
    put(top.path(), "above/base/name/lock", Regular(0o600));
    let lock = top.path().join("above/base/name/lock");
    fs::hard_link(&lock, top.path().join("second")).unwrap();
    let before = snapshot::of(&lock);
    let error = ServerOptions::new().bind(lock.parent().unwrap().to_str().unwrap()).unwrap_err();
    assert_names(&error, &lock, Regular(0o600), true);
    assert_eq!(snapshot::of(&lock), before);
}

/// A link target is chosen by whoever creates the link.
fn a_path_or_a_link_with_control_characters_is_escaped_in_errors() {
    const FOREIGN: &str = "\u{1b}]0;X\u{7}\n\u{9b}31m\u{202e}\r";
    const ESCAPED: &str = r"\x1b]0;X\x07\n\u{9b}31m\u{202e}\r";
    let top = Base::new();
    symlink(FOREIGN, top.path().join("link")).unwrap();
    put(top.path(), "odd", Directory(0o700));
    let odd = top.path().join("odd").join(FOREIGN);
    fs::create_dir(&odd).unwrap();
    chmod(&odd, 0o777);
    for base in [top.path().join("link"), odd] {
        let address = base.join("wc").display().to_string();
        for error in [ServerOptions::new().bind(&address).unwrap_err(), Connection::connect(&address).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::UnsafeDirectory);
            assert_tells(&error);
            assert!(error.to_string().contains(ESCAPED), "{error}");
        }
        let error = parlour::Address::parse(&format!("no such transport{FOREIGN}:{address}")).unwrap_err();
        assert_tells(&error);
    }
}
