//! The exact modes of all files and directories that parlour creates, whatever the umask.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use parlour::{ErrorKind, ServerOptions, Transport};

use crate::by_hand::place::{self, mode};
use crate::by_hand::user::{self, no_other_users};
use crate::by_hand::{FifoServer, Place, snapshot, unix};
use crate::support::{Base, Child, trials};

trials! {
    a_directory_from_an_open_service_is_closed_again_for_a_private_one,
    modes_that_shut_the_server_itself_out_are_refused,
    a_service_for_others_in_a_base_that_they_cannot_enter_is_refused,
    fifo_alone_cannot_be_open_to_others,
    a_number_that_is_not_a_group_is_refused,
    the_socket_belongs_to_the_group_that_was_asked_for unless no_other_users(),
    a_foreign_group_is_refused_and_the_name_stays_free unless no_other_users(),
    umask_mask_and_mode_bits_give_exact_modes(mask in UMASKS, bits in MODES),
    umask_mask_and_mode_bits_give_an_unprivileged_server_exact_modes(mask in UMASKS, bits in MODES)
        unless no_other_users(),
    umask_mask_gives_clients_files_of_exact_modes(mask in UMASKS),
    umask_mask_gives_an_unprivileged_client_files_of_exact_modes(mask in UMASKS) unless no_other_users(),
}

const UMASKS: [&str; 4] = ["0000", "0022", "0077", "0777"];

/// Modes of sockets.
const MODES: [(&str, u32); 3] = [("600", 0o600), ("660", 0o660), ("666", 0o666)];

/// A directory for a server of this user, or of our own.
fn home(top: &Base, uid: Option<u32>) -> PathBuf {
    let home = top.path().join("home");
    fs::create_dir(&home).unwrap();
    if let Some(uid) = uid {
        user::chown(&home, uid);
    }
    for path in [top.path(), &home] {
        place::chmod(path, 0o755);
    }
    home
}

fn words(address: &Path, uid: Option<u32>, more: &[&str]) -> Vec<String> {
    let uid = uid.map(|uid| format!("uid={uid}"));
    [format!("address={}", address.display())]
        .into_iter()
        .chain(uid)
        .chain(more.iter().map(|&word| word.to_owned()))
        .collect()
}

fn umask_mask_and_mode_bits_give_exact_modes(mask: &str, (_, bits): (&str, u32)) {
    exact_modes(mask, bits, None);
}

fn umask_mask_and_mode_bits_give_an_unprivileged_server_exact_modes(mask: &str, (_, bits): (&str, u32)) {
    exact_modes(mask, bits, Some(user::new_uid()));
}

fn exact_modes(umask: &str, socket_mode: u32, uid: Option<u32>) {
    let top = Base::new();
    let name = home(&top, uid).join("base").join("name");
    let options = [format!("umask={umask}"), format!("mode={socket_mode:o}"), "on=shm,packet,unix,fifo".to_owned()];
    let mut server = Child::spawn("serve", &words(&name, uid, &options.each_ref().map(String::as_str)));
    server.expect(&format!("ready {}", name.display()));
    let directory = if socket_mode == 0o600 { 0o700 } else { 0o755 };
    for (file, expected) in [
        (name.parent().unwrap().to_owned(), directory),
        (name.clone(), directory),
        (name.join("lock"), 0o600),
        (name.join("shm"), socket_mode),
        (name.join("packet"), socket_mode),
        (name.join("unix"), socket_mode),
        (name.join("fifo"), 0o600),
        (name.join("control"), 0o600),
        (name.join("c"), 0o700),
    ] {
        assert_eq!(format!("{:04o}", mode(&file)), format!("{expected:04o}"), "{}", file.display());
        if let Some(uid) = uid {
            assert_eq!(fs::symlink_metadata(&file).unwrap().uid(), uid);
        }
    }
    assert_eq!(server.ask("umask"), umask, "the host's umask was changed");
    for transport in Transport::ALL {
        let address = PathBuf::from(format!("{transport}:{}", name.display()));
        let mut client = Child::spawn("reach", &words(&address, uid, &["umask=0777"]));
        let said = client.line();
        assert!(said.starts_with("connected"), "{said}");
        assert_eq!(client.ask("hello"), "hello");
    }
    server.finish();
    // The modes are the same in a directory that exists already.
    let mut server = Child::spawn("serve", &words(&name, uid, &options.each_ref().map(String::as_str)));
    server.expect(&format!("ready {}", name.display()));
    assert_eq!(mode(&name.join("unix")), socket_mode);
    assert_eq!(mode(&name.join("lock")), 0o600);
}

fn umask_mask_gives_clients_files_of_exact_modes(mask: &str) {
    client_modes(mask, None);
}

fn umask_mask_gives_an_unprivileged_client_files_of_exact_modes(mask: &str) {
    client_modes(mask, Some(user::new_uid()));
}

/// Servers by hand look at a client's files while it connects.
fn client_modes(umask: &str, uid: Option<u32>) {
    let top = Base::new();
    let home = home(&top, uid);
    let umask = format!("umask={umask}");
    let give_away = |place: &Place| {
        for path in snapshot::tree(place.path()).keys() {
            user::chown(path, uid.unwrap_or(rustix::process::geteuid().as_raw()));
        }
    };

    let place = Place::held_at(&home.join("sockets"));
    let _listener = unix::listener(&place);
    give_away(&place);
    let mut client = Child::spawn("reach", &words(place.path(), uid, &[&umask]));
    let said = client.line();
    assert!(said.starts_with("connected"), "{said}");
    let files = place::client_files(place.path());
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(format!("{:04o}", mode(&place.clients().join(&files[0]))), "0700");

    let server = FifoServer::at(&home.join("fifos"));
    give_away(&server.place);
    let address = PathBuf::from(format!("fifo:{}", server.path().display()));
    let _client = Child::spawn("reach", &words(&address, uid, &[&umask]));
    let id = server.request();
    for file in [id.s2c(), id.c2s()] {
        assert_eq!(format!("{:04o}", mode(&server.place.clients().join(file))), "0600");
    }
}

fn a_directory_from_an_open_service_is_closed_again_for_a_private_one() {
    let base = Base::new();
    place::chmod(base.path(), 0o755);
    let address = base.name("door").display().to_string();
    for (socket_mode, directory) in [(0o666, 0o755), (0o600, 0o700), (0o660, 0o755), (0o600, 0o700)] {
        let server = ServerOptions::new().mode(socket_mode).bind(&address).unwrap();
        assert_eq!(mode(server.path()), directory);
        assert_eq!(mode(&server.path().join("unix")), socket_mode);
        assert_eq!(mode(&server.path().join("c")), 0o700);
        assert_eq!(mode(&server.path().join("lock")), 0o600);
    }
}

fn modes_that_shut_the_server_itself_out_are_refused() {
    let base = Base::new();
    for bad in [0, 0o066, 0o400, 0o200, 0o1600, 0o4755, 0o10600] {
        let error = ServerOptions::new().mode(bad).bind(base.name("shut").to_str().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{bad:o}: {error}");
    }
    assert_eq!(base.files(), [""; 0]);
}

fn a_service_for_others_in_a_base_that_they_cannot_enter_is_refused() {
    let base = Base::new();
    let error = ServerOptions::new().mode(0o666).bind(base.name("open").to_str().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsafeDirectory);
    for part in [base.path().to_str().unwrap(), "0700", "chmod 755"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(mode(base.path()), 0o700, "the mode of the base was changed");
    assert_eq!(base.files(), [""; 0]);
}

fn fifo_alone_cannot_be_open_to_others() {
    let base = Base::new();
    let error = ServerOptions::new().mode(0o666).bind(base.address(Transport::Fifo, "open")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOption, "{error}");
}

/// chown(2) leaves the group unchanged if it gets this number.
fn a_number_that_is_not_a_group_is_refused() {
    let base = Base::new();
    for transport in Transport::ALL {
        let options = ServerOptions::new().mode(0o660).group(u32::MAX).transports([*transport]);
        let error = options.bind(base.name("team").to_str().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{error}");
        assert!(error.to_string().contains("group"), "{error}");
    }
    assert_eq!(base.files(), [""; 0]);
}

fn the_socket_belongs_to_the_group_that_was_asked_for() {
    let base = Base::new();
    place::chmod(base.path(), 0o755);
    let gid = user::new_uid();
    let options = ServerOptions::new().mode(0o660).group(gid).transports(Transport::ALL.iter().copied());
    let server = options.bind(base.name("team").to_str().unwrap()).unwrap();
    let file = |name: &str| fs::symlink_metadata(server.path().join(name)).unwrap();
    assert_eq!((file("unix").gid(), file("unix").mode() & 0o7777), (gid, 0o660));
    for other in ["lock", "fifo", "c", ""] {
        assert_ne!(file(other).gid(), gid, "{other:?}");
    }
}

fn a_foreign_group_is_refused_and_the_name_stays_free() {
    let top = Base::new();
    let uid = user::new_uid();
    let name = home(&top, Some(uid)).join("name");
    let group = format!("group={}", user::new_uid());
    let mut server = Child::spawn("serve", &words(&name, Some(uid), &["mode=660", &group]));
    let said = server.line();
    assert!(said.starts_with("error denied"), "{said}");
    let mut server = Child::spawn("serve", &words(&name, Some(uid), &["mode=660"]));
    server.expect(&format!("ready {}", name.display()));
}
