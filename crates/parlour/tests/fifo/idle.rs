//! A server without clients waits in the kernel and uses no CPU time.

use std::fs;
use std::path::Path;
use std::time::Duration;

use parlour::{Connection, ErrorKind, Server, Transport};

use crate::by_hand::{Driver, cost};
use crate::support::{Base, Child, trials};

trials! {
    the_server_holds_its_fifo_open_for_reading_and_writing,
    accept_sees_no_end_of_file_when_the_last_client_leaves,
    a_server_whose_last_client_has_left_does_not_spin,
    a_server_without_clients_does_not_spin,
}

/// Returns the access modes of a process's descriptors of this file, from `/proc`.
fn access_modes(pid: u32, path: &Path) -> Vec<u32> {
    let process = Path::new("/proc").join(pid.to_string());
    let mut modes: Vec<u32> = fs::read_dir(process.join("fd"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == path))
        .map(|entry| {
            let info = fs::read_to_string(process.join("fdinfo").join(entry.file_name())).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            u32::from_str_radix(flags.trim(), 8).unwrap() & libc::O_ACCMODE as u32
        })
        .collect();
    modes.sort_unstable();
    modes
}

fn the_server_holds_its_fifo_open_for_reading_and_writing() {
    let base = Base::new();
    let mut server = Child::spawn("hold", &[base.address(Transport::Fifo, "open")]);
    server.expect("ready");
    let expected: &[i32] = match cfg!(parlour_fifo_two_step) {
        true => &[libc::O_RDONLY, libc::O_WRONLY],
        false => &[libc::O_RDWR],
    };
    let expected: Vec<u32> = expected.iter().map(|&mode| mode as u32).collect();
    assert_eq!(access_modes(server.pid(), &base.name("open").join("fifo")), expected);
}

fn accept_sees_no_end_of_file_when_the_last_client_leaves() {
    let base = Base::new();
    let address = base.address(Transport::Fifo, "patient");
    let server = Server::bind(&address).unwrap();
    for _ in 0..3 {
        std::thread::scope(|scope| {
            let connecting = scope.spawn(|| Connection::connect(&address).unwrap());
            let ours = server.accept_timeout(crate::support::DEADLINE).unwrap();
            drop((connecting.join().unwrap(), ours));
        });
        // The last client has left.
        assert!(server.try_accept().unwrap_err().is_empty());
        let error = server.accept_timeout(Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    }
}

fn assert_cheap(driver: &Driver) {
    let cost = cost::of_thread(&driver.task, Duration::from_secs(1));
    assert!(cost.sleeps < 20 && cost.ran < Duration::from_millis(50), "cost of one second: {cost:?}");
}

fn a_server_whose_last_client_has_left_does_not_spin() {
    let base = Base::new();
    let address = base.address(Transport::Fifo, "quiet");
    let driver = Driver::new(Server::bind(&address).unwrap());
    for _ in 0..3 {
        drop((Connection::connect(&address).unwrap(), driver.client()));
    }
    assert_cheap(&driver);
    Connection::connect(&address).unwrap();
    driver.client();
}

fn a_server_without_clients_does_not_spin() {
    let base = Base::new();
    assert_cheap(&Driver::new(Server::bind(base.address(Transport::Fifo, "quiet")).unwrap()));
}
