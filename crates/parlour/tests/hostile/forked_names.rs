//! Tests that the child processes of a server keep neither its name nor its sockets.

use std::fs;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use parlour::{Connection, ErrorKind, Server, ServerOptions, Transport};
use rustix::event::PollFlags;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::forking::{fork, join};
use crate::by_hand::{FifoClient, place, snapshot};
use crate::support::{Base, Child, DEADLINE, Role, SOON, eventually, failure, trials, wait};

trials! {
    descendant_that_outlives_the_server_does_not_keep_the_name(descendant in DESCENDANTS),
    a_forked_child_has_none_of_the_servers_files_open,
    a_forked_child_can_take_a_name_of_its_own,
    a_forked_child_cannot_take_the_parents_name,
    a_servers_end_frees_the_name_while_a_forked_child_lives,
    a_forked_child_that_does_act_leaves_the_parents_server_alone(act in ["accept", "drop", "close", "exit"]),
}

/// `parent ADDRESS`: takes the name over every transport and prints `ready`. Then executes the lines of stdin and
/// answers each:
///
/// - `fork`, `fork-twice`, `spawn`: creates a child that lives until stdin ends, or for a thousand seconds. Prints its
///   process id.
/// - `child accept|drop|close|exit`: creates a child that does this with the server, and waits for it. Prints `done`.
/// - `child-binds ADDRESS`: creates a child that binds this address, and waits for it. Prints `bound` or the kind of
///   the error.
/// - `accept`: accepts a client and echoes one message. Prints `accepted`.
/// - `close`: closes the server and continues. Prints `done`.
pub const PARENT: Role = Role { name: "parent", play: parent };

fn parent(arguments: &[String]) {
    let options = ServerOptions::new().transports(Transport::ALL.iter().copied());
    let mut server = Some(options.bind(&arguments[0]).unwrap());
    println!("ready");
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("fork", _) => println!("{}", fork(wait_for_the_end)),
            ("fork-twice", _) => {
                let child = fork(|| println!("{}", fork(wait_for_the_end)));
                join(child);
            }
            ("spawn", _) => {
                let sleep = Command::new("sleep").arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).spawn();
                println!("{}", sleep.unwrap().id());
            }
            ("child", act) => {
                let act = act.to_owned();
                // The child takes the server itself; the parent's copy remains.
                let child = fork(|| act_in_child(&act, server.take().unwrap()));
                join(child);
                println!("done");
            }
            ("child-binds", address) => {
                let address = address.to_owned();
                join(fork(|| match Server::bind(address) {
                    Ok(_) => println!("bound"),
                    Err(error) => println!("{}: {error}", error.kind()),
                }));
            }
            ("accept", _) => {
                let mut connection = server.as_ref().unwrap().accept_timeout(DEADLINE).unwrap();
                let message = connection.recv_timeout(DEADLINE).unwrap().unwrap();
                connection.send(&message).unwrap();
                println!("accepted");
            }
            ("close", _) => {
                server.take().unwrap().close().unwrap();
                println!("done");
            }
            (other, _) => panic!("unknown line {other:?}"),
        }
    }
}

/// In a forked child: waits until the test ends the input that the whole family shares, without reading from it.
fn wait_for_the_end() {
    while !wait::ready(io::stdin(), PollFlags::empty(), DEADLINE) {}
}

fn act_in_child(act: &str, server: Server) {
    match act {
        "accept" => {
            for error in [
                server.accept().unwrap_err(),
                server.accept_timeout(DEADLINE).unwrap_err(),
                failure(server.try_accept()),
                server.incoming().next().unwrap().unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::NameLost);
                assert!(error.to_string().contains("forked child"), "{error}");
            }
            // The accessors of the server still return what is true of the parent's.
            assert!(server.path().exists() && server.stats().refused == 0);
        }
        "drop" => drop(server),
        "close" => server.close().unwrap(),
        "exit" => std::process::exit(0),
        other => panic!("unknown act {other:?}"),
    }
}

fn serve(base: &Base) -> (Child, PathBuf) {
    let path = base.name("family");
    let mut parent = Child::spawn("parent", &[path.display().to_string()]);
    parent.expect("ready");
    (parent, path)
}

fn is_alive(pid: u32) -> bool {
    // A zombie does not count as alive.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    test_kill_process(Pid::from_raw(pid as i32).unwrap()).is_ok() && !stat.contains(") Z ")
}

/// Returns the paths of the files that a process has open.
fn open_files(pid: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    entries.filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
}

/// Returns true if a child has neither the lock nor a listener of its parent open.
fn has_released(child: u32, parent: u32, path: &Path) -> bool {
    let is_socket = |file: &&PathBuf| file.to_string_lossy().starts_with("socket:");
    let sockets = |pid: u32| open_files(pid).iter().filter(is_socket).count();
    let files = open_files(child);
    !files.contains(&path.join("lock")) && !files.contains(&path.join("fifo")) && sockets(child) < sockets(parent)
}

/// A process that is not a child of this process. It is killed when this is dropped.
struct Orphan(u32);

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_raw(self.0 as i32).unwrap(), Signal::KILL);
    }
}

/// The processes that a server creates, each with the line that makes it do so.
const DESCENDANTS: [(&str, &str); 3] =
    [("a_forked_child", "fork"), ("a_grandchild", "fork-twice"), ("a_spawned_program", "spawn")];

fn descendant_that_outlives_the_server_does_not_keep_the_name((_, how): (&str, &str)) {
    let base = Base::new();
    let (mut parent, path) = serve(&base);
    let orphan = Orphan(parent.ask(how).parse().unwrap());
    assert_ne!(orphan.0, parent.pid());
    // The child closes the descriptors when it first runs, which may be after the parent has continued.
    eventually("the child has closed the server's descriptors", || has_released(orphan.0, parent.pid(), &path));
    parent.kill();
    assert!(is_alive(orphan.0), "the child must outlive the server, otherwise the test proves nothing");
    for &transport in Transport::ALL {
        let error = Connection::connect(base.address(transport, "family")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoServer, "{error}");
    }
    let begin = Instant::now();
    let (mut next, _) = serve(&base);
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    for &transport in Transport::ALL {
        talk(&base, &mut next, transport);
    }
    assert!(is_alive(orphan.0));
    assert_eq!(place::list(&path), ["c", "control", "fifo", "lock", "packet", "shm", "unix"]);
}

fn talk(base: &Base, server: &mut Child, transport: Transport) {
    server.say("accept");
    let mut connection = Connection::connect(base.address(transport, "family")).unwrap();
    connection.send(b"hello").unwrap();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    server.expect("accepted");
}

fn a_forked_child_has_none_of_the_servers_files_open() {
    let base = Base::new();
    let (mut parent, path) = serve(&base);
    // A handshake is in progress as well.
    let _asking = FifoClient::asking(&path);
    let child: u32 = parent.ask("fork").parse().unwrap();
    let _orphan = Orphan(child);
    eventually("the child has closed the server's descriptors", || has_released(child, parent.pid(), &path));
    assert!(open_files(parent.pid()).contains(&path.join("lock")));
    assert!(open_files(parent.pid()).contains(&path.join("fifo")));
}

fn a_forked_child_can_take_a_name_of_its_own() {
    let base = Base::new();
    let (mut parent, _) = serve(&base);
    assert_eq!(parent.ask(&format!("child-binds {}", base.name("other").display())), "bound");
    assert_eq!(parent.ask(&format!("child-binds unix:{}", base.name("other").display())), "bound");
    for &transport in Transport::ALL {
        talk(&base, &mut parent, transport);
    }
}

fn a_forked_child_cannot_take_the_parents_name() {
    let base = Base::new();
    let (mut parent, path) = serve(&base);
    let before = snapshot::tree(&path);
    let said = parent.ask(&format!("child-binds {}", path.display()));
    assert!(said.starts_with("name in use: ") && said.contains(&format!("pid {}", parent.pid())), "{said}");
    assert_eq!(snapshot::tree(&path), before);
    talk(&base, &mut parent, Transport::Unix);
}

fn a_servers_end_frees_the_name_while_a_forked_child_lives() {
    let base = Base::new();
    let (mut parent, path) = serve(&base);
    let orphan = Orphan(parent.ask("fork").parse().unwrap());
    assert_eq!(parent.ask("close"), "done");
    assert_eq!(base.files(), [""; 0]);
    let server = Server::bind(path.to_str().unwrap()).unwrap();
    assert!(is_alive(orphan.0));
    drop(server);
    drop(parent);
    eventually("the child ends at the end of its input", || !is_alive(orphan.0));
}

fn a_forked_child_that_does_act_leaves_the_parents_server_alone(act: &str) {
    let base = Base::new();
    let (mut parent, path) = serve(&base);
    // The handshake of this client is in progress. Its deadline and its slot belong to the parent.
    let mut asking = FifoClient::new(&path);
    asking.make_s2c();
    asking.make_c2s();
    asking.open_s2c();
    let before = snapshot::tree(&path);
    for _ in 0..3 {
        assert_eq!(parent.ask(&format!("child {act}")), "done");
    }
    assert_eq!(snapshot::tree(&path), before);
    let error = Server::bind(path.to_str().unwrap()).unwrap_err();
    assert_eq!((error.kind(), error.holder().unwrap().pid), (ErrorKind::NameInUse, parent.pid()));
    for &transport in Transport::ALL {
        talk(&base, &mut parent, transport);
    }
    parent.say("accept");
    asking.ask();
    asking.expect_hello();
    asking.open_c2s();
    asking.acknowledge();
    asking.write(&crate::by_hand::line::frame(b"x"));
    parent.expect("accepted");
}
