//! Addresses that clients made up: nothing outside the server's own directory is looked at or removed.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use parlour::{ClientFilePolicy, Connection, ServerOptions, Transport};
use rustix::net::{SocketAddrUnix, bind, connect};

use crate::by_hand::line::frame;
use crate::by_hand::{Driver, Id, snapshot, unix};
use crate::support::{Base, trials};

trials! {
    a_client_that_is_bound_elsewhere_under_a_proper_name_is_refused_and_its_file_stays,
    a_client_that_is_bound_by_a_relative_path_is_refused_and_its_file_stays,
    a_link_in_the_place_of_a_clients_file_is_removed_and_its_target_stays,
    a_client_in_a_directory_that_was_swapped_is_refused_and_nothing_of_it_removed,
    a_path_through_the_servers_own_directory_leads_nowhere_else,
    an_abstract_address_is_like_none,
    names_that_no_client_of_ours_has_are_like_none,
    another_clients_file_does_not_vouch_for_a_client,
}

fn serve(base: &Base) -> Driver {
    Driver::new(ServerOptions::new().bind(base.address(Transport::Unix, "guarded")).unwrap())
}

fn assert_serves(base: &Base, driver: &Driver) {
    Connection::connect(base.address(Transport::Unix, "guarded")).unwrap();
    driver.client();
}

fn assert_in(driver: &Driver, mut stream: &UnixStream) {
    std::io::Write::write_all(&mut stream, &frame(b"in")).unwrap();
    assert_eq!(driver.client().recv().unwrap().unwrap(), b"in");
}

/// A client with this address is refused, and its file, or whatever leads there, is left as it is.
fn assert_refused_and_untouched(base: &Base, driver: &Driver, socket: OwnedFd, files: &[&Path]) {
    let before: Vec<_> = files.iter().map(|file| snapshot::tree(file)).collect();
    let count = driver.server.stats().refused;
    let stream = unix::dial_with(socket, driver.server.path());
    unix::assert_ended(&stream);
    let reason = driver.refused(count + 1);
    assert!(reason.contains("no file of its own"), "{reason}");
    let after: Vec<_> = files.iter().map(|file| snapshot::tree(file)).collect();
    assert_eq!(after, before);
    assert_serves(base, driver);
}

fn a_client_that_is_bound_elsewhere_under_a_proper_name_is_refused_and_its_file_stays() {
    let base = Base::new();
    let driver = serve(&base);
    let own = base.path().join("elsewhere");
    fs::create_dir(&own).unwrap();
    for id in [Id::new(), Id::of(1)] {
        let file = own.join(id.sock());
        assert_refused_and_untouched(&base, &driver, unix::bound(&file, 0o700), &[&file]);
    }
    // Not even a `c` of the same shape.
    fs::create_dir_all(base.path().join("other/c")).unwrap();
    let file = base.path().join("other/c").join(Id::new().sock());
    assert_refused_and_untouched(&base, &driver, unix::bound(&file, 0o700), &[&file]);
    // The victim of such a forgery: a live server's own socket.
    let victim = parlour::Server::bind(base.address(Transport::Unix, "victim")).unwrap();
    let before = snapshot::of(&victim.path().join("unix"));
    let file = victim.path().join(Id::new().sock());
    assert_refused_and_untouched(&base, &driver, unix::bound(&file, 0o700), &[&file]);
    base.keeps(&file);
    assert_eq!(snapshot::of(&victim.path().join("unix")), before);
}

fn a_client_that_is_bound_by_a_relative_path_is_refused_and_its_file_stays() {
    let base = Base::new();
    let driver = serve(&base);
    let name = Id::new().sock();
    // As deep as needed to come out at the root.
    let up: PathBuf = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
    let path = up.join(base.path().strip_prefix("/").unwrap()).join(&name);
    let socket = unix::bound(&path, 0o700);
    assert_refused_and_untouched(&base, &driver, socket, &[&base.path().join(&name)]);
    // One that would lead out of `c` if it were followed from there.
    let name = Id::new().sock();
    let path = base.path().join("guarded/c/../..").join(&name);
    assert_refused_and_untouched(&base, &driver, unix::bound(&path, 0o700), &[&base.path().join(&name)]);
}

fn a_link_in_the_place_of_a_clients_file_is_removed_and_its_target_stays() {
    let base = Base::new();
    let driver = serve(&base);
    let id = Id::new();
    let victim = base.path().join("victim");
    let _socket = unix::bound(&victim, 0o700);
    let inside = driver.server.path().join("c").join(id.sock());
    symlink(&victim, &inside).unwrap();
    // Bound elsewhere under the same name.
    let own = base.path().join(id.sock());
    let socket = unix::bound(&own, 0o700);
    let before = (snapshot::of(&victim), snapshot::of(&own));
    unix::assert_ended(&unix::dial_with(socket, driver.server.path()));
    let reason = driver.refused(1);
    assert!(reason.contains("symbolic link, not a socket"), "{reason}");
    assert_eq!((snapshot::of(&victim), snapshot::of(&own)), before);
    assert!(fs::symlink_metadata(&inside).is_err(), "the link itself is removed");
    assert_serves(&base, &driver);
}

fn a_client_in_a_directory_that_was_swapped_is_refused_and_nothing_of_it_removed() {
    let base = Base::new();
    let driver = serve(&base);
    // Bound in one directory, which then leads to another that has a file of that name.
    let (real, shown) = (base.path().join("real"), base.path().join("shown"));
    fs::create_dir(&real).unwrap();
    fs::create_dir(&shown).unwrap();
    let name = Id::new().sock();
    let socket = unix::bound(&shown.join(&name), 0o700);
    fs::rename(&shown, base.path().join("hidden")).unwrap();
    symlink(&real, &shown).unwrap();
    fs::write(real.join(&name), "precious").unwrap();
    let hidden = base.path().join("hidden");
    assert_refused_and_untouched(&base, &driver, socket, &[&real, &hidden, &shown]);
}

fn a_path_through_the_servers_own_directory_leads_nowhere_else() {
    let base = Base::new();
    let driver = serve(&base);
    let deep = driver.server.path().join("c/deep");
    fs::create_dir(&deep).unwrap();
    let file = deep.join(Id::new().sock());
    base.keeps(&deep);
    base.keeps(&file);
    assert_refused_and_untouched(&base, &driver, unix::bound(&file, 0o700), &[&file]);
}

fn an_abstract_address_is_like_none() {
    let base = Base::new();
    let driver = serve(&base);
    let id = Id::new();
    let file = driver.server.path().join("c").join(id.sock());
    let _other = unix::bound(&file, 0o700);
    let before = snapshot::of(&file);
    let socket = unix::socket();
    bind(&socket, &SocketAddrUnix::new_abstract_name(id.sock().as_bytes()).unwrap()).unwrap();
    assert_in(&driver, &unix::dial_with(socket, driver.server.path()));
    // And one that the kernel chooses.
    let socket = unix::socket();
    connect(&socket, &SocketAddrUnix::new(driver.server.path().join("unix")).unwrap()).unwrap();
    assert_in(&driver, &UnixStream::from(socket));
    assert_eq!(snapshot::of(&file), before);
    assert_eq!(driver.server.stats().refused, 0);
}

fn names_that_no_client_of_ours_has_are_like_none() {
    let base = Base::new();
    let driver = serve(&base);
    let (pid, nonce) = (std::process::id(), Id::new().nonce);
    for name in [
        "lock".to_owned() + ".sock",
        format!("{pid}.sock"),
        format!("0{pid}-{nonce}.sock"),
        format!("{pid}-{}.sock", nonce.to_uppercase()),
        format!("{pid}-{nonce}.socket"),
        format!("{pid}-{nonce}.s2c"),
        format!("{pid}-{nonce}.sock "),
    ] {
        for directory in [base.path().to_owned(), driver.server.path().join("c")] {
            let file = directory.join(&name);
            if file.exists() {
                continue;
            }
            let socket = unix::bound(&file, 0o700);
            let before = snapshot::of(&file);
            assert_in(&driver, &unix::dial_with(socket, driver.server.path()));
            assert_eq!(snapshot::of(&file), before, "{}", file.display());
            base.keeps(&file);
        }
    }
    assert_eq!(driver.server.stats().refused, 0);
}

/// A file in `c/` that was bound by one client vouches for that one: here the name is used by a client of another
/// process id.
fn another_clients_file_does_not_vouch_for_a_client() {
    let base = Base::new();
    let options = ServerOptions::new().client_file(ClientFilePolicy::Require);
    let driver = Driver::new(options.bind(base.address(Transport::Unix, "guarded")).unwrap());
    let id = Id::of(1);
    let file = driver.server.path().join("c").join(id.sock());
    let _theirs = unix::bound(&file, 0o700);
    let own = base.path().join(id.sock());
    unix::assert_ended(&unix::dial_with(unix::bound(&own, 0o700), driver.server.path()));
    let reason = driver.refused(1);
    assert!(reason.contains("says pid 1"), "{reason}");
    assert!(own.exists());
}
