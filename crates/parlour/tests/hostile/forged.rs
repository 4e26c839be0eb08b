//! Tests of forged client addresses: the server opens, examines and removes nothing outside its own directory.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use parlour::{ClientFilePolicy, Connection, Provenance, ServerOptions, Transport};
use rustix::net::{SocketAddrUnix, bind, connect};

use crate::by_hand::line::frame;
use crate::by_hand::{Driver, Id, snapshot, unix};
use crate::support::{Base, trials};

trials! {
    a_client_that_is_bound_elsewhere_under_a_proper_name_is_refused_and_its_file_stays,
    a_client_that_is_bound_by_a_relative_path_is_refused_and_its_file_stays,
    a_link_in_the_place_of_a_clients_file_is_removed_and_its_target_stays,
    a_client_in_a_directory_that_was_swapped_is_refused_and_nothing_of_it_removed,
    a_client_bound_below_the_directory_of_client_files_is_refused_and_its_file_stays,
    a_client_bound_to_an_abstract_address_counts_as_unbound,
    a_client_bound_under_a_name_that_the_library_does_not_make_counts_as_unbound,
    a_file_that_names_another_process_gives_a_client_no_other_identity,
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

/// Checks that a client with this address is refused, and that its file, and everything on the path to it, is
/// unchanged.
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
    // A directory `c` elsewhere makes no difference.
    fs::create_dir_all(base.path().join("other/c")).unwrap();
    let file = base.path().join("other/c").join(Id::new().sock());
    assert_refused_and_untouched(&base, &driver, unix::bound(&file, 0o700), &[&file]);
    // The victim of such a forgery is the socket of a live server.
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
    // As many components as lead up to the root.
    let up: PathBuf = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
    let path = up.join(base.path().strip_prefix("/").unwrap()).join(&name);
    let socket = unix::bound(&path, 0o700);
    assert_refused_and_untouched(&base, &driver, socket, &[&base.path().join(&name)]);
    // A path that would lead out of `c` if the server resolved it there.
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
    // The client is bound elsewhere under the same file name.
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
    // The client is bound in one directory, whose path then leads to another directory with a file of that name.
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

fn a_client_bound_below_the_directory_of_client_files_is_refused_and_its_file_stays() {
    let base = Base::new();
    let driver = serve(&base);
    let deep = driver.server.path().join("c/deep");
    fs::create_dir(&deep).unwrap();
    let file = deep.join(Id::new().sock());
    base.keeps(&deep);
    base.keeps(&file);
    assert_refused_and_untouched(&base, &driver, unix::bound(&file, 0o700), &[&file]);
}

fn a_client_bound_to_an_abstract_address_counts_as_unbound() {
    let base = Base::new();
    let driver = serve(&base);
    let id = Id::new();
    let file = driver.server.path().join("c").join(id.sock());
    let _other = unix::bound(&file, 0o700);
    let before = snapshot::of(&file);
    let socket = unix::socket();
    bind(&socket, &SocketAddrUnix::new_abstract_name(id.sock().as_bytes()).unwrap()).unwrap();
    assert_in(&driver, &unix::dial_with(socket, driver.server.path()));
    // The kernel chooses the second address (autobind).
    let socket = unix::socket();
    connect(&socket, &SocketAddrUnix::new(driver.server.path().join("unix")).unwrap()).unwrap();
    assert_in(&driver, &UnixStream::from(socket));
    assert_eq!(snapshot::of(&file), before);
    assert_eq!(driver.server.stats().refused, 0);
}

fn a_client_bound_under_a_name_that_the_library_does_not_make_counts_as_unbound() {
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

/// The process id in the name of a file is a label. A client that writes another process there, or uses the name of
/// another client's file, remains the process and the user that the kernel reports.
fn a_file_that_names_another_process_gives_a_client_no_other_identity() {
    let base = Base::new();
    let options = ServerOptions::new().client_file(ClientFilePolicy::Require);
    let driver = Driver::new(options.bind(base.address(Transport::Unix, "guarded")).unwrap());
    let id = Id::of(1);
    let file = driver.server.path().join("c").join(id.sock());
    let _theirs = unix::bound(&file, 0o700);
    let own = base.path().join(id.sock());
    for own in [own, driver.server.path().join("c").join(Id::of(1).sock())] {
        let stream = unix::dial_with(unix::bound(&own, 0o700), driver.server.path());
        let peer = driver.client().peer().clone();
        assert_eq!((peer.pid(), peer.pid_provenance()), (Some(std::process::id()), Provenance::Kernel));
        assert_eq!(
            (peer.uid(), peer.uid_provenance()),
            (Some(rustix::process::geteuid().as_raw()), Provenance::Kernel)
        );
        drop(stream);
    }
    assert!(!file.exists(), "the file with that name was removed");
}
