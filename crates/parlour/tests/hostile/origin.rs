//! Files that pretend to show the origin of a client.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use parlour::{ConnectOptions, Connection, ErrorKind, Origin, Server, ServerOptions, Transport};

use crate::by_hand::fifo_client::make_fifo;
use crate::by_hand::place::{self, client_files};
use crate::by_hand::user::{self, new_uid, no_other_users};
use crate::by_hand::{Driver, FifoClient, Id, unix};
use crate::support::{Base, Child, DEADLINE, ROLE, Role, trials};

trials! {
    a_client_with_a_forged_origin_is_refused_and_no_file_of_it_stays,
    a_client_over_fifo_with_a_forged_origin_is_refused_and_no_file_of_it_stays,
    an_origin_that_is_written_by_hand_is_read,
    a_client_of_another_user_shows_no_origin unless no_other_users(),
    a_server_believes_the_origin_that_root_shows unless no_other_users(),
    a_client_of_root_that_cannot_show_its_origin_does_not_connect unless no_other_users(),
    a_client_that_cannot_write_its_origin_does_not_connect;

    for transport in Transport::ALL =>
        a_client_with_an_origin_does_not_connect_through_a_read_only_base unless crate::disk::no_mounts();
}

const ORIGIN: &str = "parlour1 origin\nhost a\nuid 1000\nend\n";

/// Returns an id with the mark of a client that shows its origin.
fn marked() -> Id {
    let id = Id::new();
    Id { nonce: format!("7669613a2f2f{}", &id.nonce[12..]), ..id }
}

fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::write(path, text).unwrap();
    place::chmod(path, 0o600);
}

/// A way to change the file of an origin.
type Forge = fn(&Path);

/// The forgeries: the word of the reason, and the function that makes the file.
const FORGERIES: &[(&str, Forge)] = &[
    ("is missing", |_| {}),
    ("does not state an origin", |path| write(path, "")),
    ("does not state an origin", |path| write(path, ORIGIN.replace("host a", "host a b"))),
    ("does not state an origin", |path| write(path, ORIGIN.replace("host a", "host \u{1b}[2J"))),
    ("does not state an origin", |path| write(path, ORIGIN.replace("uid 1000", "uid 01000"))),
    ("does not state an origin", |path| write(path, format!("{ORIGIN}\n"))),
    ("does not state an origin", |path| write(path, vec![b'x'; 1 << 20])),
    ("does not state an origin", |path| write(path, [0xff; 40])),
    ("is a symbolic link", |path| {
        let target = path.parent().unwrap().parent().unwrap().parent().unwrap().join("target");
        write(&target, ORIGIN);
        symlink(target, path).unwrap();
    }),
    ("has another name", |path| {
        let other = path.parent().unwrap().parent().unwrap().parent().unwrap().join("other");
        write(&other, ORIGIN);
        fs::hard_link(other, path).unwrap();
    }),
    ("is open to other users", |path| {
        write(path, ORIGIN);
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }),
    ("is not a regular file", |path| make_fifo(path)),
];

fn serve(base: &Base, transport: Transport) -> Driver {
    Driver::new(ServerOptions::new().bind(base.address(transport, "room")).unwrap())
}

fn via(server: &Server, id: &Id) -> std::path::PathBuf {
    server.path().join("c").join(id.sock().replace(".sock", ".via"))
}

/// Removes what a forgery has made outside of the directory of the name.
fn clear(base: &Base) {
    for file in ["target", "other"] {
        let path = base.path().join(file);
        if path.exists() {
            assert_eq!(fs::read_to_string(&path).unwrap(), ORIGIN);
            fs::remove_file(path).unwrap();
        }
    }
}

fn a_client_with_a_forged_origin_is_refused_and_no_file_of_it_stays() {
    let base = Base::new();
    let driver = serve(&base, Transport::Unix);
    for (count, (why, forge)) in (1..).zip(FORGERIES) {
        let id = marked();
        forge(&via(&driver.server, &id));
        let socket = unix::bound(&driver.server.path().join("c").join(id.sock()), 0o700);
        unix::assert_ended(&unix::dial_with(socket, driver.server.path()));
        let reason = driver.refused(count);
        assert!(reason.contains(&format!("the file with the origin of the client {why}")), "{reason}");
        assert_eq!(client_files(driver.server.path()), [""; 0], "{why}");
        clear(&base);
    }
    Connection::connect(base.address(Transport::Unix, "room")).unwrap();
    assert_eq!(driver.client().peer().origin(), None);
}

fn a_client_over_fifo_with_a_forged_origin_is_refused_and_no_file_of_it_stays() {
    let base = Base::new();
    let driver = serve(&base, Transport::Fifo);
    for (count, (why, forge)) in (1..).zip(FORGERIES) {
        let mut client = FifoClient::with_id(driver.server.path(), marked());
        forge(&via(&driver.server, &client.id));
        client.make_s2c();
        client.make_c2s();
        client.open_s2c();
        client.ask();
        assert_eq!(client.answer(), Some(client.id.refused("denied")), "{why}");
        let reason = driver.refused(count);
        assert!(reason.contains(&format!("the file with the origin of the client {why}")), "{reason}");
        assert_eq!(client_files(driver.server.path()), [""; 0], "{why}");
        clear(&base);
    }
    Connection::connect(base.address(Transport::Fifo, "room")).unwrap();
    assert_eq!(driver.client().peer().origin(), None);
}

fn an_origin_that_is_written_by_hand_is_read() {
    let base = Base::new();
    let driver = serve(&base, Transport::Unix);
    for id in [marked(), Id::new()] {
        write(&via(&driver.server, &id), ORIGIN);
        let socket = unix::bound(&driver.server.path().join("c").join(id.sock()), 0o700);
        let stream = unix::dial_with(socket, driver.server.path());
        let origin = driver.client().peer().origin().map(ToString::to_string);
        // Without the mark, nothing is looked up, and the file is left to the sweep.
        let is_marked = id.nonce.starts_with("7669613a2f2f");
        assert_eq!(origin, is_marked.then(|| "host a (claims uid 1000)".to_owned()));
        assert_eq!(client_files(driver.server.path()).len(), usize::from(!is_marked));
        drop(stream);
    }
}

/// A process of another user cannot create the file. If it names one of this user in its address, it is not looked up.
fn a_client_of_another_user_shows_no_origin() {
    let base = Base::new();
    place::chmod(base.path(), 0o755);
    let server = ServerOptions::new().mode(0o666).bind(base.address(Transport::Unix, "open")).unwrap();
    let uid = new_uid();
    let words = [
        format!("address={}", base.address(Transport::Unix, "open")),
        format!("uid={uid}"),
        format!("server_uid={}", rustix::process::geteuid().as_raw()),
        "origin=a".to_owned(),
    ];
    let client = Child::spawn("reach", &words);
    let served = server.accept_timeout(DEADLINE).unwrap();
    assert_eq!((served.peer().uid(), served.peer().origin()), (Some(uid), None));
    drop((client, served));

    // With the files of a client of this user in its address.
    let id = marked();
    write(&via(&server, &id), ORIGIN);
    let home = base.path().join("home");
    user::directory_of(&home, uid, 0o755);
    let elsewhere = home.join(id.sock());
    let mut child = Child::spawn(
        "reach-bound",
        &[format!("uid={uid}"), format!("bound={}", elsewhere.display()), format!("path={}", server.path().display())],
    );
    child.expect("connected");
    let served = server.accept_timeout(DEADLINE).unwrap();
    assert_eq!((served.peer().uid(), served.peer().origin()), (Some(uid), None));
    assert!(via(&server, &id).exists());
    let bridged =
        ConnectOptions::new().origin(Origin::new("b")).connect(base.address(Transport::Unix, "open")).unwrap();
    assert_eq!(server.accept_timeout(DEADLINE).unwrap().peer().origin().unwrap().host(), "b");
    drop(bridged);
    server.close().unwrap();
}

/// Starts a server of another user, and returns it with its address and its user.
fn another_users_server(base: &Base) -> (Child, String, u32) {
    place::chmod(base.path(), 0o755);
    let uid = new_uid();
    let home = base.path().join("home");
    user::directory_of(&home, uid, 0o755);
    let address = home.join("room").display().to_string();
    let mut server = Child::spawn("serve-origins", &[format!("address={address}"), format!("uid={uid}")]);
    server.expect("ready");
    (server, address, uid)
}

fn a_server_believes_the_origin_that_root_shows() {
    for transport in [Transport::Unix, Transport::Packet, Transport::Shm] {
        let base = Base::new();
        let (mut server, path, uid) = another_users_server(&base);
        let address = format!("{transport}:{path}");
        let options = ConnectOptions::new().server_uid(uid);
        // The mode of the files does not depend on the umask.
        for umask in [0o022, 0o077, 0o777] {
            let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
            let client = options.clone().origin(Origin::new("a").with_uid(7)).connect(&address).unwrap();
            rustix::process::umask(before);
            server.expect("host a (claims uid 7)");
            drop(client);
        }
        let client = options.connect(&address).unwrap();
        server.expect("none");
        drop(client);
        assert_eq!(client_files(path.as_ref()), [""; 0], "{transport}");

        // Root is told apart from a process of the server's user that writes the same.
        let id = marked();
        let via = Path::new(&path).join("c").join(id.sock().replace(".sock", ".via"));
        write(&via, ORIGIN);
        fs::set_permissions(&via, fs::Permissions::from_mode(0o646)).unwrap();
        let Transport::Unix = transport else { continue };
        let socket = unix::bound(&Path::new(&path).join("c").join(id.sock()), 0o700);
        unix::assert_ended(&unix::dial_with(socket, path.as_ref()));
        server.expect("refused: the file with the origin of the client is open to other users");
        assert_eq!(client_files(path.as_ref()), [""; 0], "{transport}");
    }
}

/// The server would take it for a client of this host, and of root.
fn a_client_of_root_that_cannot_show_its_origin_does_not_connect() {
    let base = Base::new();
    let (server, path, uid) = another_users_server(&base);
    let options = ConnectOptions::new().server_uid(uid).origin(Origin::new("a"));
    let clients = Path::new(&path).join("c");
    // Nothing is written behind a link, or into a directory that others may change.
    let elsewhere = base.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::rename(&clients, base.path().join("away")).unwrap();
    symlink(&elsewhere, &clients).unwrap();
    let error = options.connect(format!("unix:{path}")).unwrap_err();
    assert!(error.to_string().contains("the origin of the client cannot be shown to the server"), "{error}");
    fs::remove_file(&clients).unwrap();
    fs::create_dir(&clients).unwrap();
    let error = options.connect(format!("unix:{path}")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsafeDirectory, "{error}");
    assert_eq!(fs::read_dir(&clients).unwrap().count() + fs::read_dir(&elsewhere).unwrap().count(), 0);
    fs::remove_dir(&clients).unwrap();
    fs::rename(base.path().join("away"), &clients).unwrap();
    fs::remove_dir(&elsewhere).unwrap();
    drop(options.connect(format!("unix:{path}")).unwrap());
    drop(server);
}

/// A limit of zero bytes for files stands for every reason for which the file cannot be written.
fn a_client_that_cannot_write_its_origin_does_not_connect() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    for transport in Transport::ALL.iter().copied() {
        let base = Base::new();
        let driver = serve(&base, transport);
        let before = getrlimit(Resource::Fsize);
        setrlimit(Resource::Fsize, Rlimit { current: Some(0), ..before }).unwrap();
        let options = ConnectOptions::new().origin(Origin::new("a"));
        let error = options.connect(base.address(transport, "room")).unwrap_err();
        setrlimit(Resource::Fsize, before).unwrap();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains("the origin of the client cannot be shown to the server"), "{error}");
        assert_eq!(client_files(driver.server.path()), [""; 0], "{transport}");
        assert_eq!(driver.server.stats().accepted, 0);
    }
}

/// A client without an origin connects, because it needs no file.
fn a_client_with_an_origin_does_not_connect_through_a_read_only_base(transport: Transport) {
    let base = Base::new();
    let driver = serve(&base, transport);
    let words = [format!("address={}", base.address(transport, "room")), "origin=a".to_owned()];
    let role = Child::command("reach", &words);
    let mut inside = Command::new("unshare");
    let script = r#"mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@""#;
    inside.args(["--mount", "sh", "-c", script]).arg(base.path());
    inside.arg(role.get_program()).args(role.get_args()).env(ROLE, "reach");
    let mut client = Child::start(&mut inside);
    let said = client.line();
    assert!(said.starts_with("error system error: "), "{said}");
    assert!(said.contains("the origin of the client cannot be shown to the server"), "{said}");
    assert_eq!(client_files(driver.server.path()), [""; 0]);
    assert_eq!(driver.server.stats().accepted, 0);
}

/// `serve-origins address=A uid=UID`: prints the origin of each client, or why it was refused.
pub const SERVE_ORIGINS: Role = Role { name: "serve-origins", play: serve_origins };

fn serve_origins(arguments: &[String]) {
    let words = crate::by_hand::options::Words(arguments);
    words.become_whom_they_say();
    let on = [Transport::Shm, Transport::Packet, Transport::Unix];
    let server = ServerOptions::new().transports(on).bind(words.address()).unwrap();
    println!("ready");
    let mut refused = 0;
    loop {
        match server.accept_timeout(std::time::Duration::from_millis(20)) {
            Ok(connection) => match connection.peer().origin() {
                Some(origin) => println!("{origin}"),
                None => println!("none"),
            },
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Err(error) => panic!("{error}"),
        }
        let stats = server.stats();
        if stats.refused > refused {
            refused = stats.refused;
            println!("refused: {}", stats.last_refusal.unwrap().detail);
        }
    }
}

/// `reach-bound uid=UID bound=FILE path=DIRECTORY`: binds a socket to the file, connects, and prints `connected`.
pub const REACH_BOUND: Role = Role { name: "reach-bound", play: reach_bound };

fn reach_bound(arguments: &[String]) {
    let words = crate::by_hand::options::Words(arguments);
    words.become_whom_they_say();
    let file = words.find("bound").unwrap();
    let socket = unix::bound(file.as_ref(), 0o700);
    let _stream = unix::dial_with(socket, words.find("path").unwrap().as_ref());
    fs::remove_file(file).unwrap();
    println!("connected");
    let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
}
