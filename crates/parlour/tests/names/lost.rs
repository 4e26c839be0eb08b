//! A server whose files are removed or replaced gets an error, and does not harm its successor.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use parlour::{Connection, ErrorKind, Server, ServerOptions, Transport};

use crate::by_hand::fifo_client::make_fifo;
use crate::by_hand::{Driver, FifoClient, Id, cost, unix};
use crate::support::{Base, DEADLINE, eventually, failure, trials};

trials! {
    a_server_whose_accident_is_told_that_its_name_is_lost(accident in ACCIDENTS),
    a_directory_above_that_was_renamed_is_noticed_when_a_client_comes,
    files_that_come_and_go_beside_its_own_do_not_disturb_a_server,
    closing_a_lost_server_leaves_the_files_of_its_successor,
    closing_a_server_that_has_not_noticed_leaves_the_files_of_its_successor,
    closing_a_server_leaves_a_file_that_took_the_place_of_its_own,
    a_name_that_was_lost_can_be_taken_again_once_it_is_closed,
    connections_of_a_lost_server_go_on,
}

fn both() -> ServerOptions {
    ServerOptions::new().transports(Transport::ALL.iter().copied())
}

/// A loss, and how to bring it about in the directory of a name.
type Accident = (&'static str, fn(&Path));

const ACCIDENTS: [Accident; 11] = [
    ("lock_is_removed", |path| fs::remove_file(path.join("lock")).unwrap()),
    ("lock_is_replaced", |path| {
        fs::write(path.join("other"), "").unwrap();
        fs::rename(path.join("other"), path.join("lock")).unwrap();
    }),
    ("socket_is_removed", |path| fs::remove_file(path.join("unix")).unwrap()),
    ("socket_is_replaced", |path| {
        drop(UnixListener::bind(path.join("other")).unwrap());
        fs::rename(path.join("other"), path.join("unix")).unwrap();
    }),
    ("socket_is_renamed", |path| fs::rename(path.join("unix"), path.join("other")).unwrap()),
    ("fifo_is_removed", |path| fs::remove_file(path.join("fifo")).unwrap()),
    ("fifo_is_replaced", |path| {
        make_fifo(&path.join("other"));
        fs::rename(path.join("other"), path.join("fifo")).unwrap();
    }),
    ("directory_is_renamed", |path| fs::rename(path, path.with_extension("old")).unwrap()),
    ("directory_is_removed", |path| fs::remove_dir_all(path).unwrap()),
    ("directory_is_replaced", |path| {
        fs::rename(path, path.with_extension("old")).unwrap();
        fs::create_dir(path).unwrap();
    }),
    ("base_is_renamed", |path| {
        let base = path.parent().unwrap();
        fs::rename(base, base.with_extension("old")).unwrap();
    }),
];

fn a_server_whose_accident_is_told_that_its_name_is_lost((_, take_away): Accident) {
    let top = Base::with_foreign_files();
    let base = top.path().join("base");
    let server = Arc::new(both().bind(base.join("lost").to_str().unwrap()).unwrap());
    let (started, task) = channel();
    let accepting = thread::spawn({
        let server = Arc::clone(&server);
        move || {
            started.send(cost::this_thread()).unwrap();
            server.accept().unwrap_err()
        }
    });
    cost::until_asleep(&task.recv().unwrap());
    take_away(server.path());
    eventually("the blocked accept returns", || accepting.is_finished());
    let error = accepting.join().unwrap();
    assert_eq!(error.kind(), ErrorKind::NameLost, "{error}");
    assert!(error.to_string().contains(server.path().to_str().unwrap()), "{error}");
    // The error is permanent.
    assert_eq!(failure(server.try_accept()).kind(), ErrorKind::NameLost);
    assert_eq!(server.accept_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::NameLost);
    let left: Vec<_> = server.incoming().take(2).map(|item| item.unwrap_err().kind()).collect();
    assert_eq!(left, [ErrorKind::NameLost]);
    Arc::into_inner(server).unwrap().close().unwrap();
}

fn a_directory_above_that_was_renamed_is_noticed_when_a_client_comes() {
    let top = Base::new();
    let above = top.path().join("above");
    fs::create_dir(&above).unwrap();
    let server = Server::bind(above.join("base/lost").to_str().unwrap()).unwrap();
    let renamed = top.path().join("elsewhere");
    fs::rename(&above, &renamed).unwrap();
    // The server checks at most once a second.
    eventually("the server notices", || {
        let _client = unix::dial(&renamed.join("base/lost"));
        match server.accept_timeout(DEADLINE) {
            Ok(_) => false,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NameLost, "{error}");
                true
            }
        }
    });
}

fn files_that_come_and_go_beside_its_own_do_not_disturb_a_server() {
    let base = Base::new();
    let driver = Driver::new(both().bind(base.name("calm").to_str().unwrap()).unwrap());
    for number in 0..20 {
        let (file, renamed) = (driver.server.path().join("beside"), driver.server.path().join("moved"));
        fs::write(&file, "x").unwrap();
        fs::rename(&file, &renamed).unwrap();
        fs::remove_file(&renamed).unwrap();
        fs::write(base.path().join(format!("other{number}")), "x").unwrap();
        fs::remove_file(base.path().join(format!("other{number}"))).unwrap();
    }
    for &transport in Transport::ALL {
        Connection::connect(base.address(transport, "calm")).unwrap();
        assert_eq!(driver.client().transport(), transport);
    }
}

fn closing_a_lost_server_leaves_the_files_of_its_successor() {
    successor(true);
}

fn closing_a_server_that_has_not_noticed_leaves_the_files_of_its_successor() {
    successor(false);
}

/// The lock file is removed under a server, so that another one can take the name in the same directory.
fn successor(noticed: bool) {
    let base = Base::new();
    let address = base.name("next").display().to_string();
    let lost = both().bind(&address).unwrap();
    fs::remove_file(lost.path().join("lock")).unwrap();
    if noticed {
        assert_eq!(failure(lost.try_accept()).kind(), ErrorKind::NameLost);
    }
    let next = Driver::new(both().bind(&address).unwrap());
    // Clients of the new server that are in mid-handshake.
    let path = next.server.path().to_owned();
    let mut client = FifoClient::new(&path);
    client.make_s2c();
    client.make_c2s();
    client.open_s2c();
    let file = path.join("c").join(Id::new().sock());
    let socket = unix::bound(&file, 0o700);
    let before = base.files();

    lost.close().unwrap();
    assert_eq!(base.files(), before, "files of the new server are gone");
    client.ask();
    client.expect_hello();
    client.open_c2s();
    client.unlink();
    client.acknowledge();
    assert_eq!(next.client().transport(), Transport::Fifo);
    let _stream = unix::dial_with(socket, &path);
    assert_eq!(next.client().transport(), Transport::Unix);
    for &transport in Transport::ALL {
        Connection::connect(base.address(transport, "next")).unwrap();
        next.client();
    }
    let error = Server::bind(&address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameInUse);
}

fn closing_a_server_leaves_a_file_that_took_the_place_of_its_own() {
    let base = Base::with_foreign_files();
    let server = both().bind(base.name("odd").to_str().unwrap()).unwrap();
    let path = server.path().to_owned();
    for file in ["unix", "fifo"] {
        fs::remove_file(path.join(file)).unwrap();
        fs::write(path.join(file), "not yours").unwrap();
    }
    server.close().unwrap();
    for file in ["unix", "fifo"] {
        assert_eq!(fs::read(path.join(file)).unwrap(), b"not yours");
    }
}

fn a_name_that_was_lost_can_be_taken_again_once_it_is_closed() {
    let base = Base::new();
    let address = base.name("back").display().to_string();
    let lost = both().bind(&address).unwrap();
    fs::remove_file(lost.path().join("unix")).unwrap();
    assert_eq!(failure(lost.try_accept()).kind(), ErrorKind::NameLost);
    // The server still holds the lock.
    assert_eq!(Server::bind(&address).unwrap_err().kind(), ErrorKind::NameInUse);
    lost.close().unwrap();
    assert_eq!(base.files(), [""; 0]);
    let next = Driver::new(both().bind(&address).unwrap());
    Connection::connect(&address).unwrap();
    next.client();
}

fn connections_of_a_lost_server_go_on() {
    let base = Base::new();
    for &transport in Transport::ALL {
        let address = base.address(transport, "open");
        let server = Server::bind(&address).unwrap();
        let connecting = thread::spawn(move || Connection::connect(address).unwrap());
        let mut ours = server.accept_timeout(DEADLINE).unwrap();
        let mut theirs = connecting.join().unwrap();
        fs::rename(server.path(), server.path().with_extension("old")).unwrap();
        assert_eq!(server.accept().unwrap_err().kind(), ErrorKind::NameLost);
        server.close().unwrap();
        ours.send(b"still here").unwrap();
        assert_eq!(theirs.recv_timeout(DEADLINE).unwrap().unwrap(), b"still here");
        theirs.send(b"so am I").unwrap();
        assert_eq!(ours.recv_timeout(DEADLINE).unwrap().unwrap(), b"so am I");
        fs::remove_dir_all(base.path().join("open.old")).unwrap();
    }
}
