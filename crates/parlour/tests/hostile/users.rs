//! Tests with several users: no user serves, connects to or opens what belongs to another user unless it is permitted.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parlour::{ConnectOptions, Connection, ErrorKind, Server, ServerOptions, Transport};

use crate::by_hand::options::Words;
use crate::by_hand::place::chmod;
use crate::by_hand::user::{self, directory_of, new_uid, no_other_users};
use crate::by_hand::{FifoClient, Id, Place, snapshot, unix};
use crate::support::base::leaves_files;
use crate::support::{Base, Child, DEADLINE, Role, eventually, trials};

trials! {
    a_client_that_expects_another_user_refuses_a_server_of_its_own_user,
    another_users_base_is_refused_by_a_server unless no_other_users(),
    another_users_name_directory_is_refused_by_a_server unless no_other_users(),
    another_users_lock_is_refused_by_a_server unless no_other_users(),
    another_users_server_is_refused_before_a_byte_is_sent unless no_other_users(),
    a_squatter_in_a_shared_base_is_refused_by_uid unless no_other_users(),
    another_users_socket_in_a_directory_of_this_user_is_refused unless no_other_users(),
    a_listener_of_another_user_than_the_sockets_owner_is_refused_by_its_peer_credentials unless no_other_users(),
    root_listens_for_the_user_to_whom_the_directory_belongs_and_for_no_other unless no_other_users(),
    another_users_server_is_accepted_when_it_is_expected unless no_other_users(),
    roots_server_is_accepted_by_everybody unless no_other_users(),
    another_user_cannot_open_anything_of_a_private_server unless no_other_users(),
    another_user_cannot_connect_to_a_private_server unless no_other_users(),
    another_user_of_an_open_server_cannot_touch_anything_but_the_socket unless no_other_users(),
    roots_client_refuses_another_users_server_unless_it_is_expected unless no_other_users(),
    a_server_that_sets_the_group_of_others_says_so_and_leaves_no_socket unless no_other_users(),
    an_address_that_ends_with_the_base_is_told_to_add_a_name,
    a_private_directory_above_the_base_is_named_with_its_owner unless no_other_users(),
    a_base_of_root_that_may_not_be_used_is_named_with_its_owner_and_the_next_step unless no_other_users(),
    an_error_names_the_other_side,
}

/// Returns new users, each with a home directory in `top`, which every user may search.
fn homes<const N: usize>(top: &Base) -> [(u32, PathBuf); N] {
    chmod(top.path(), 0o755);
    std::array::from_fn(|number| {
        let uid = new_uid();
        let home = top.path().join(format!("home{number}"));
        directory_of(&home, uid, 0o755);
        (uid, home)
    })
}

fn child(role: &str, address: impl std::fmt::Display, uid: u32, more: &[String]) -> Child {
    let words = [format!("address={address}"), format!("uid={uid}")];
    Child::spawn(role, &[&words, more].concat())
}

/// Starts a server of this user, open to every user, in its home directory.
fn open_server(uid: u32, home: &Path) -> (Child, String) {
    let address = home.join("open").display().to_string();
    let mut server = child("serve", &address, uid, &["mode=666".to_owned(), "on=unix,fifo".to_owned()]);
    server.expect(&format!("ready {address}"));
    (server, address)
}

#[track_caller]
fn assert_refused(said: &str, kind: &str, parts: &[&str]) {
    assert!(said.starts_with(&format!("error {kind}:")), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is missing in {said:?}");
    }
}

fn a_client_that_expects_another_user_refuses_a_server_of_its_own_user() {
    let base = Base::new();
    let ours = rustix::process::geteuid().as_raw();
    for &transport in Transport::ALL {
        let address = base.address(transport, "mine");
        let server = Server::bind(&address).unwrap();
        let error = ConnectOptions::new().server_uid(ours + 7).connect(&address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        for part in [format!("uid {ours}"), format!("uid {}", ours + 7)] {
            assert!(error.to_string().contains(&part), "{error}");
        }
        assert!(server.try_accept().unwrap_err().is_empty());
        assert_eq!(server.stats().refused, 0, "the client did not contact the server");
    }
}

fn another_users_base_is_refused_by_a_server() {
    let top = Base::new();
    let [(uid, home), (other, _)] = homes::<2>(&top);
    for mode in [0o700, 0o755] {
        chmod(&home, mode);
        let before = snapshot::tree(&home);
        let (path, owner, mode) = (home.display().to_string(), format!("uid {uid}"), format!("{mode:04o}"));
        let error = Server::bind(home.join("name").to_str().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsafeDirectory, "{error}");
        for part in [&path, &owner, &mode] {
            assert!(error.to_string().contains(part.as_str()), "{error}");
        }
        let said = child("serve", home.join("name").display(), other, &[]).line();
        assert_refused(&said, "unsafe directory", &[&path, &owner, &mode]);
        assert_eq!(snapshot::tree(&home), before);
    }
}

fn another_users_name_directory_is_refused_by_a_server() {
    let top = Base::new();
    let [(uid, home)] = homes::<1>(&top);
    let ours = top.path().join("ours");
    fs::create_dir(&ours).unwrap();
    for mode in [0o700, 0o755] {
        let name = ours.join(format!("name{mode:o}"));
        directory_of(&name, uid, mode);
        let before = snapshot::tree(&name);
        let error = Server::bind(name.to_str().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsafeDirectory, "{error}");
        for part in [name.display().to_string(), format!("uid {uid}"), format!("{mode:04o}")] {
            assert!(error.to_string().contains(&part), "{error}");
        }
        assert_eq!(snapshot::tree(&name), before);
    }
    // A server of that user does not take a name in a directory that root has created either.
    let name = home.join("roots");
    fs::create_dir(&name).unwrap();
    chmod(&name, 0o755);
    let said = child("serve", name.display(), uid, &[]).line();
    assert_refused(&said, "unsafe directory", &[name.to_str().unwrap(), "uid 0", "0755"]);
}

fn another_users_lock_is_refused_by_a_server() {
    let top = Base::new();
    let [(uid, _)] = homes::<1>(&top);
    let name = top.path().join("name");
    fs::create_dir(&name).unwrap();
    chmod(&name, 0o700);
    let lock = name.join("lock");
    leaves_files();
    File::create(&lock).unwrap();
    chmod(&lock, 0o600);
    user::chown(&lock, uid);
    let before = snapshot::of(&lock);
    let error = Server::bind(name.to_str().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsafeDirectory, "{error}");
    for part in [lock.to_str().unwrap(), &format!("uid {uid}"), "0600"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(snapshot::of(&lock), before);
}

fn another_users_server_is_refused_before_a_byte_is_sent() {
    let top = Base::new();
    let [(uid, home), (other, _)] = homes::<2>(&top);
    // A hand-made server detects any contact.
    let place = Place::held_at(&home.join("squat"));
    chmod(place.path(), 0o755);
    let listener = unix::listener(&place);
    chmod(&place.path().join("unix"), 0o666);
    for path in snapshot::tree(place.path()).keys() {
        user::chown(path, uid);
    }
    let home_path = home.display().to_string();
    let said = child("reach", place.path().display(), other, &[]).line();
    assert_refused(&said, "unsafe directory", &[&home_path, &format!("uid {uid}")]);
    let said = child("reach", place.path().display(), other, &[format!("server_uid={}", new_uid())]).line();
    assert_refused(&said, "unsafe directory", &[&home_path]);
    let said = child("reach", format!("fifo:{}", place.path().display()), other, &[]).line();
    assert_refused(&said, "unsafe directory", &[&home_path]);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "the client has connected");
}

/// The base directory belongs to root, and another user has a directory in it, for instance by root's mistake.
fn a_squatter_in_a_shared_base_is_refused_by_uid() {
    let top = Base::new();
    let [(squatter, _), (client, _)] = homes::<2>(&top);
    let shared = top.path().join("shared");
    fs::create_dir(&shared).unwrap();
    chmod(&shared, 0o1777);
    // The library's server is not used here: it would refuse the base directory.
    let place = Place::held_at(&shared.join("bank"));
    chmod(place.path(), 0o755);
    let listener = unix::listener(&place);
    chmod(&place.path().join("unix"), 0o666);
    for path in snapshot::tree(place.path()).keys() {
        user::chown(path, squatter);
    }
    for &transport in Transport::ALL {
        let said = child("reach", format!("{transport}:{}", place.path().display()), client, &[]).line();
        assert_refused(&said, "unsafe directory", &[place.path().to_str().unwrap(), &format!("uid {squatter}")]);
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "the client has connected");
}

fn another_users_socket_in_a_directory_of_this_user_is_refused() {
    let base = Base::new();
    let place = Place::held(&base, "mixed");
    let listener = unix::listener(&place);
    let uid = new_uid();
    user::chown(&place.path().join("unix"), uid);
    let error = Connection::connect(place.path().to_str().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains(&format!("uid {uid}")), "{error}");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "the client has connected");
    assert_eq!(place_files(&place), [""; 0]);
}

fn place_files(place: &Place) -> Vec<String> {
    crate::by_hand::place::client_files(place.path())
}

/// All files belong to the expected user, but the kernel reports that root listens.
fn a_listener_of_another_user_than_the_sockets_owner_is_refused_by_its_peer_credentials() {
    let top = Base::new();
    let [(uid, _), (other, home)] = homes::<2>(&top);
    let (_server, address) = open_server(other, &home);
    for path in snapshot::tree(&home).keys() {
        user::chown(path, uid);
    }
    let error = ConnectOptions::new().server_uid(uid).connect(format!("unix:{address}")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains(&format!("belongs to uid {other}, not to uid {uid}")), "{error}");
}

/// A service manager of root listens for a server of another user. In the directory of that user only root can do so.
fn root_listens_for_the_user_to_whom_the_directory_belongs_and_for_no_other() {
    let top = Base::new();
    let [(uid, home), (other, _)] = homes::<2>(&top);
    let place = Place::held_at(&home.join("activated"));
    let listener = unix::listener(&place);
    let connect = || ConnectOptions::new().server_uid(uid).connect(place.path().to_str().unwrap());
    for owner in [0, other] {
        user::chown(place.path(), owner);
        let error = connect().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Denied | ErrorKind::UnsafeDirectory), "{error}");
    }
    user::chown(place.path(), uid);
    for owner in [0, uid] {
        user::chown(&place.path().join("unix"), owner);
        let client = connect().unwrap();
        assert_eq!(client.peer().uid(), Some(0));
        drop(unix::accept(&listener));
    }
    user::chown(&place.path().join("unix"), other);
    let error = connect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}

fn another_users_server_is_accepted_when_it_is_expected() {
    let top = Base::new();
    let [(uid, home), (other, _)] = homes::<2>(&top);
    let (_server, address) = open_server(uid, &home);
    let mut client = child("reach", &address, other, &[format!("server_uid={uid}")]);
    let said = client.line();
    assert!(said.starts_with("connected") && said.contains(&format!("uid {uid} (kernel)")), "{said}");
    assert_eq!(client.ask("hello"), "hello");
    // A FIFO serves only its own user.
    let said = child("reach", format!("fifo:{address}"), other, &[format!("server_uid={uid}")]).line();
    assert!(said.starts_with("error denied") || said.starts_with("error unsupported"), "{said}");
}

fn roots_client_refuses_another_users_server_unless_it_is_expected() {
    let top = Base::new();
    let [(uid, home)] = homes::<1>(&top);
    let (_server, address) = open_server(uid, &home);
    let error = Connection::connect(&address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsafeDirectory, "{error}");
    let mut connection = ConnectOptions::new().server_uid(uid).connect(&address).unwrap();
    connection.send(b"hello").unwrap();
    assert_eq!(connection.recv().unwrap().unwrap(), b"hello");
}

fn roots_server_is_accepted_by_everybody() {
    let top = Base::new();
    let [(other, _)] = homes::<1>(&top);
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let options = ServerOptions::new().mode(0o666).allow({
        let seen = seen.clone();
        move |peer| {
            seen.lock().unwrap().push(peer.uid());
            true
        }
    });
    let server = crate::by_hand::Driver::new(options.bind(top.name("system").to_str().unwrap()).unwrap());
    let mut client = child("reach", top.name("system").display(), other, &[]);
    let said = client.line();
    assert!(said.contains("uid 0 (kernel)"), "{said}");
    let accepted = server.client();
    assert_eq!((accepted.peer().uid(), accepted.peer().pid()), (Some(other), Some(client.pid())));
    assert_eq!(*seen.lock().unwrap(), [Some(other)]);
}

/// `try-open uid=UID PATH...`: prints, for each path, the error numbers of opening it for reading, opening it for
/// writing, and creating a file in it; 0 for success.
pub const TRY_OPEN: Role = Role { name: "try-open", play: try_open };

fn try_open(arguments: &[String]) {
    Words(arguments).become_whom_they_say();
    let number = |result: io::Result<File>| result.map_or_else(|error| error.raw_os_error().unwrap(), |_| 0);
    for path in &arguments[1..] {
        let open = |options: &mut OpenOptions| number(options.custom_flags(libc::O_NONBLOCK).open(path));
        let make = number(File::create(Path::new(path).join("new")));
        println!("{} {} {make}", open(File::options().read(true)), open(File::options().write(true)));
    }
}

/// Returns everything that a server and its clients have in the directory of a name.
fn all_files(path: &Path) -> Vec<String> {
    let mut client = FifoClient::new(path);
    client.make_s2c();
    client.make_c2s();
    client.open_s2c();
    drop(unix::bound(&path.join("c").join(Id::new().sock()), 0o700));
    snapshot::tree(path).keys().map(|path| path.display().to_string()).collect()
}

fn another_user_cannot_open_anything_of_a_private_server() {
    let base = Base::new();
    // No directory above protects the name either.
    chmod(base.path(), 0o755);
    let options = ServerOptions::new().transports(Transport::ALL.iter().copied());
    let server = options.bind(base.name("private").to_str().unwrap()).unwrap();
    let files = all_files(server.path());
    assert_eq!(files.len(), 7 + Transport::ALL.len(), "{files:?}");
    let mut other = Child::spawn("try-open", &[&[format!("uid={}", new_uid())], &files[..]].concat());
    for file in &files {
        // EISDIR precedes EACCES when a directory is opened for writing.
        let write = if Path::new(file) == server.path() { libc::EISDIR } else { libc::EACCES };
        assert_eq!(other.line(), format!("{0} {write} {0}", libc::EACCES), "{file}");
    }
}

fn another_user_of_an_open_server_cannot_touch_anything_but_the_socket() {
    let base = Base::new();
    chmod(base.path(), 0o755);
    let options = ServerOptions::new().mode(0o666).transports(Transport::ALL.iter().copied());
    let server = options.bind(base.name("open").to_str().unwrap()).unwrap();
    let files = all_files(server.path());
    let mut other = Child::spawn("try-open", &[&[format!("uid={}", new_uid())], &files[..]].concat());
    for file in &files {
        let said = other.line();
        let name = Path::new(file).strip_prefix(server.path()).unwrap().to_str().unwrap();
        let expected = match name {
            // The directory may be listed and searched, but not changed.
            "" => format!("0 {} {}", libc::EISDIR, libc::EACCES),
            "packet" | "shm" | "unix" => format!("{0} {0} {1}", libc::ENXIO, libc::ENOTDIR),
            "c" => format!("{0} {1} {0}", libc::EACCES, libc::EISDIR),
            "lock" | "fifo" | "control" => format!("{0} {0} {1}", libc::EACCES, libc::ENOTDIR),
            _ => format!("{0} {0} {0}", libc::EACCES),
        };
        assert_eq!(said, expected, "{file}");
    }
}

fn another_user_cannot_connect_to_a_private_server() {
    let base = Base::new();
    chmod(base.path(), 0o755);
    for &transport in Transport::ALL {
        let address = base.address(transport, "private");
        let server = Server::bind(&address).unwrap();
        let said = child("reach", &address, new_uid(), &[]).line();
        let parts = [server.path().to_str().unwrap(), "its directory has owner uid 0, mode 0700", "--mode 0666"];
        assert_refused(&said, "denied", &parts);
        assert_eq!(server.stats().refused, 0);
    }
    // The directory is open to a group, and the client is not in that group.
    for &transport in Transport::ALL {
        let address = base.address(transport, &format!("group-{transport}"));
        // A FIFO alone cannot be open to a group.
        let server = ServerOptions::new().mode(0o660).transports([transport, Transport::Unix]).bind(&address).unwrap();
        let said = child("reach", &address, new_uid(), &[]).line();
        let parts: &[&str] = match transport {
            Transport::Fifo => &["a FIFO serves only its own user", "owner uid 0, mode 0600", "such as unix"],
            _ => &["its socket has owner uid 0, mode 0660", "--mode 0666"],
        };
        assert_refused(&said, "denied", parts);
        assert_eq!(server.stats().refused, 0);
    }
}

fn a_server_that_sets_the_group_of_others_says_so_and_leaves_no_socket() {
    let top = Base::new();
    let [(uid, home)] = homes::<1>(&top);
    for transport in [Transport::Shm, Transport::Packet, Transport::Unix] {
        let address = format!("{transport}:{}", home.join("wc").display());
        let said = child("serve", &address, uid, &["mode=660".to_owned(), format!("group={}", uid + 1)]).line();
        assert_refused(&said, "denied", &[&format!("not a member of the group {}", uid + 1), "id -G"]);
        assert!(!home.join("wc").join(transport.to_string()).exists());
    }
}

/// `unix:/tmp` is the name `tmp` in the base `/`.
fn an_address_that_ends_with_the_base_is_told_to_add_a_name() {
    let base = Base::new();
    let shared = base.path().join("shared");
    fs::create_dir(&shared).unwrap();
    chmod(&shared, 0o1777);
    let address = format!("unix:{}", shared.display());
    for error in [Server::bind(&address).unwrap_err(), Connection::connect(&address).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::UnsafeDirectory);
        assert!(error.to_string().contains(&format!("({}/NAME)", shared.display())), "{error}");
        assert!(!error.to_string().contains("remove"), "{error}");
    }
}

fn a_private_directory_above_the_base_is_named_with_its_owner() {
    let top = Base::new();
    let [(uid, home), (other, _)] = homes::<2>(&top);
    chmod(&home, 0o700);
    directory_of(&home.join("base"), uid, 0o755);
    let server_uid = format!("server_uid={uid}");
    let said = child("reach", home.join("base/wc").display(), other, &[server_uid]).line();
    assert_refused(&said, "denied", &[&format!("may not search the directory above it (owner uid {uid}, mode 0700)")]);
}

fn a_base_of_root_that_may_not_be_used_is_named_with_its_owner_and_the_next_step() {
    let top = Base::new();
    chmod(top.path(), 0o755);
    let base = top.path().join("base");
    let server = Server::bind(base.join("wc").display().to_string()).unwrap();
    let other = new_uid();
    for (mode, role, name, reason) in [
        (0o700, "reach", "wc", "may not search the directory above it (owner uid 0, mode 0700)"),
        (0o700, "serve", "other", "may not write to the directory above it (owner uid 0, mode 0700)"),
        (0o755, "serve", "other", "may not write to the directory above it (owner uid 0, mode 0755)"),
    ] {
        chmod(&base, mode);
        let said = child(role, base.join(name).display(), other, &[]).line();
        assert_refused(&said, "denied", &[reason, "another base directory ($PARLOUR_DIR)"]);
    }
    drop(server);
}

fn an_error_names_the_other_side() {
    let base = Base::new();
    for &transport in Transport::ALL {
        let address = base.address(transport, "both");
        let server = Server::bind(&address).unwrap();
        let (mut theirs, mut ours) = std::thread::scope(|scope| {
            let connecting = scope.spawn(|| Connection::connect(&address).unwrap());
            let ours = server.accept_timeout(DEADLINE).unwrap();
            (connecting.join().unwrap(), ours)
        });
        let pid = std::process::id();
        let error = ours.recv_timeout(Duration::ZERO).unwrap_err();
        assert_eq!(error.object(), format!("a client of 'both' (pid {pid})"), "{error}");
        let error = theirs.recv_timeout(Duration::ZERO).unwrap_err();
        assert_eq!(error.object(), format!("'both' (pid {pid})"), "{error}");
        drop(theirs);
        eventually("the client is gone", || match ours.send(b"x") {
            Ok(()) => false,
            Err(error) => {
                assert!(error.to_string().ends_with("the client may connect again"), "{error}");
                true
            }
        });
    }
}
