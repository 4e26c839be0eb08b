//! Tests of servers that do not listen yet, no longer listen, or have a full backlog.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Connection, ErrorKind, Result, Server, ServerOptions, Transport};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, connect};

use crate::by_hand::place::client_files;
use crate::by_hand::watch::Watch;
use crate::by_hand::{Place, unix};
use crate::support::signals::{interrupt_on, interruptions, send_to_thread};
use crate::support::wait::pass;
use crate::support::{Base, Child, DEADLINE, SOON, eventually, trials};

trials! {
    a_client_that_comes_between_bind_and_listen_is_served,
    a_server_that_never_listens_is_given_up_at_the_deadline,
    a_server_that_dies_between_bind_and_listen_is_reported_as_no_server,
    a_dead_servers_socket_is_immediately_reported_as_no_server,
    a_client_of_a_full_backlog_is_served_when_space_becomes_free,
    clients_in_the_backlog_of_a_server_that_closes_see_the_end,
    a_full_backlog_is_reported_as_busy_at_the_deadline_and_not_earlier,
    a_full_backlog_of_a_real_server_is_reported_as_busy_at_the_deadline;

    for transport in [Transport::Packet, Transport::Unix] =>
        clients_of_a_full_backlog_are_served_in_the_order_in_which_they_came,
        a_crowd_at_a_backlog_of_one_is_served_to_the_last,
        signals_neither_end_nor_extend_the_sleep_in_a_full_backlog,
        a_client_that_sleeps_in_a_full_backlog_learns_at_once_that_the_server_is_gone;
}

const TIMEOUT: Duration = Duration::from_millis(300);

fn try_connect(base: &Base, timeout: Duration) -> Result<Connection> {
    ConnectOptions::new().timeout(timeout).connect(base.address(Transport::Unix, "slow"))
}

fn a_client_that_comes_between_bind_and_listen_is_served() {
    let base = Base::new();
    let place = Place::held(&base, "slow");
    let socket = unix::bound_server(&place);
    let watch = Watch::new(&place.clients());
    thread::scope(|scope| {
        let connecting = scope.spawn(|| try_connect(&base, DEADLINE));
        // Each attempt binds a file of its own and removes it again.
        assert!(watch.sees(6, DEADLINE));
        assert!(!connecting.is_finished());
        let listener = unix::listen_on(socket, 8);
        connecting.join().unwrap().unwrap();
        unix::accept(&listener);
    });
}

fn a_server_that_never_listens_is_given_up_at_the_deadline() {
    let base = Base::new();
    let place = Place::held(&base, "slow");
    let _socket = unix::bound_server(&place);
    let begin = Instant::now();
    let error = try_connect(&base, TIMEOUT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoServer, "{error}");
    assert!(error.to_string().contains("does not listen"), "{error}");
    assert!((TIMEOUT..TIMEOUT + SOON).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert_eq!(client_files(place.path()), [""; 0]);
}

fn a_server_that_dies_between_bind_and_listen_is_reported_as_no_server() {
    let base = Base::new();
    let mut place = Place::held(&base, "slow");
    let socket = unix::bound_server(&place);
    let watch = Watch::new(&place.clients());
    thread::scope(|scope| {
        let connecting = scope.spawn(|| try_connect(&base, DEADLINE));
        assert!(watch.sees(4, DEADLINE));
        let begin = Instant::now();
        drop(socket);
        place.die();
        assert_eq!(connecting.join().unwrap().unwrap_err().kind(), ErrorKind::NoServer);
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    });
}

fn a_dead_servers_socket_is_immediately_reported_as_no_server() {
    let base = Base::new();
    let mut server = Child::spawn("hold", &[base.address(Transport::Unix, "slow")]);
    server.expect("ready");
    server.kill();
    assert!(base.name("slow").join("unix").exists());
    let begin = Instant::now();
    let error = try_connect(&base, DEADLINE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoServer, "{error}");
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert_eq!(client_files(&base.name("slow")), [""; 0]);
}

/// Connects until the backlog is full. Returns the connections in it.
fn fill(path: &std::path::Path) -> Vec<UnixStream> {
    let mut queue = Vec::new();
    loop {
        let socket = unix::socket();
        fcntl_setfl(&socket, OFlags::NONBLOCK).unwrap();
        match connect(&socket, &SocketAddrUnix::new(path.join("unix")).unwrap()) {
            Ok(()) => queue.push(UnixStream::from(socket)),
            Err(Errno::AGAIN) => return queue,
            Err(errno) => panic!("connect: {errno}"),
        }
    }
}

fn a_full_backlog_is_reported_as_busy_at_the_deadline_and_not_earlier() {
    full(false);
}

fn a_full_backlog_of_a_real_server_is_reported_as_busy_at_the_deadline() {
    full(true);
}

fn full(real: bool) {
    let base = Base::new();
    let server = real.then(|| ServerOptions::new().backlog(3).bind(base.address(Transport::Unix, "slow")).unwrap());
    let place = (!real).then(|| Place::held(&base, "slow"));
    let _listener = place.as_ref().map(|place| unix::listen_on(unix::bound_server(place), 3));
    let queue = fill(&base.name("slow"));
    assert!((3..6).contains(&queue.len()), "{} clients wait", queue.len());
    let begin = Instant::now();
    let error = try_connect(&base, TIMEOUT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!((TIMEOUT..TIMEOUT + SOON).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert_eq!(client_files(&base.name("slow")), [""; 0]);
    drop(server);
}

fn a_client_of_a_full_backlog_is_served_when_space_becomes_free() {
    let base = Base::new();
    let server = ServerOptions::new().backlog(1).bind(base.address(Transport::Unix, "slow")).unwrap();
    let queue = fill(server.path());
    let watch = Watch::new(&server.path().join("c"));
    thread::scope(|scope| {
        let connecting = scope.spawn(|| try_connect(&base, DEADLINE));
        // The client makes its second attempt, which sleeps.
        assert!(watch.sees(3, DEADLINE));
        for _ in &queue {
            server.accept_timeout(DEADLINE).unwrap();
        }
        let mut theirs = connecting.join().unwrap().unwrap();
        theirs.send(b"at last").unwrap();
        assert_eq!(server.accept_timeout(DEADLINE).unwrap().recv().unwrap().unwrap(), b"at last");
    });
}

fn clients_in_the_backlog_of_a_server_that_closes_see_the_end() {
    let base = Base::new();
    let server = Server::bind(base.address(Transport::Unix, "slow")).unwrap();
    let streams: Vec<_> = (0..3).map(|_| unix::dial(server.path())).collect();
    let mut connection = try_connect(&base, DEADLINE).unwrap();
    server.close().unwrap();
    streams.iter().for_each(unix::assert_ended);
    match connection.recv_timeout(DEADLINE) {
        Ok(None) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}"),
        Ok(Some(message)) => panic!("{message:?}"),
    }
    assert_eq!(client_files(&base.name("slow")), [""; 0]);
}

/// A client of a full server in a thread of its own. It sleeps in connect(2).
struct Sleeper {
    thread: JoinHandle<Result<Connection>>,
    task: PathBuf,
}

impl Sleeper {
    fn start(address: &str, timeout: Duration) -> Self {
        let (address, (tell, told)) = (address.to_owned(), mpsc::channel());
        let thread = thread::spawn(move || {
            tell.send(fs::read_link("/proc/thread-self").unwrap()).unwrap();
            ConnectOptions::new().timeout(timeout).connect(address)
        });
        let sleeper = Self { thread, task: PathBuf::from("/proc").join(told.recv().unwrap()) };
        eventually("the client sleeps in connect", || sleeper.sleeps());
        sleeper
    }

    fn sleeps(&self) -> bool {
        let call = fs::read_to_string(self.task.join("syscall")).unwrap_or_default();
        call.split(' ').next() == Some(&libc::SYS_connect.to_string())
    }
}

/// Returns a server with a full backlog, and the clients that fill it.
fn full_server(base: &Base, transport: Transport) -> (Server, String, Vec<Connection>) {
    let address = base.address(transport, "slow");
    let server = ServerOptions::new().backlog(1).bind(&address).unwrap();
    let mut queue = Vec::new();
    loop {
        match ConnectOptions::new().timeout(TIMEOUT).connect(&address) {
            Ok(connection) => queue.push(connection),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
                return (server, address, queue);
            }
        }
    }
}

fn clients_of_a_full_backlog_are_served_in_the_order_in_which_they_came(transport: Transport) {
    let base = Base::new();
    let (server, address, queue) = full_server(&base, transport);
    let sleepers: Vec<_> = (0..10).map(|_| Sleeper::start(&address, DEADLINE * 6)).collect();
    let mut clients = Vec::new();
    // Each client that the server accepts lets one in, and it is the one that has slept for longest.
    for sleeper in sleepers {
        server.accept_timeout(DEADLINE).unwrap();
        clients.push(sleeper.thread.join().unwrap().unwrap());
    }
    drop(queue);
}

/// More clients than the backlog holds come at once, and the server takes its time for each.
fn a_crowd_at_a_backlog_of_one_is_served_to_the_last(transport: Transport) {
    const CLIENTS: usize = 200;
    let base = Base::new();
    let address = base.address(transport, "slow");
    let server = ServerOptions::new().backlog(1).bind(&address).unwrap();
    let options = ConnectOptions::new().timeout(DEADLINE * 3);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| options.connect(&address))).collect();
        for _ in 0..CLIENTS {
            server.accept_timeout(DEADLINE).unwrap();
            pass(Duration::from_millis(5));
        }
        let failed = clients.into_iter().filter_map(|client| client.join().unwrap().err()).count();
        assert_eq!(failed, 0, "of {CLIENTS} clients");
    });
}

fn signals_neither_end_nor_extend_the_sleep_in_a_full_backlog(transport: Transport) {
    interrupt_on(libc::SIGUSR1);
    let base = Base::new();
    let (server, address, queue) = full_server(&base, transport);
    let sleeper = Sleeper::start(&address, DEADLINE * 2);
    for count in 1..=20 {
        send_to_thread(&sleeper.thread, libc::SIGUSR1);
        eventually("the signal is handled", || interruptions() >= count);
        eventually("the client sleeps again", || sleeper.sleeps());
    }
    for _ in &queue {
        server.accept_timeout(DEADLINE).unwrap();
    }
    sleeper.thread.join().unwrap().unwrap();

    let base = Base::new();
    let (_server, address, _queue) = full_server(&base, transport);
    let begin = Instant::now();
    let sleeper = Sleeper::start(&address, TIMEOUT);
    while !sleeper.thread.is_finished() {
        send_to_thread(&sleeper.thread, libc::SIGUSR1);
        thread::yield_now();
    }
    assert_eq!(sleeper.thread.join().unwrap().unwrap_err().kind(), ErrorKind::Busy);
    assert!((TIMEOUT..TIMEOUT + SOON).contains(&begin.elapsed()), "{:?}", begin.elapsed());
}

fn a_client_that_sleeps_in_a_full_backlog_learns_at_once_that_the_server_is_gone(transport: Transport) {
    let base = Base::new();
    let (server, address, _queue) = full_server(&base, transport);
    let sleepers: Vec<_> = (0..3).map(|_| Sleeper::start(&address, DEADLINE * 6)).collect();
    let begin = Instant::now();
    server.close().unwrap();
    for sleeper in sleepers {
        let error = sleeper.thread.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoServer, "{error}");
    }
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}
