//! Tests of the well-known FIFO, into which every process of the same user may write anything.

use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Connection, ErrorKind, Server, Transport};

use crate::by_hand::cost;
use crate::by_hand::fifo_client::{flood, write_request};
use crate::by_hand::line::frame;
use crate::by_hand::place::client_files;
use crate::by_hand::{Driver, FifoClient, Id};
use crate::support::{Base, Child, DEADLINE, SOON, trials};

trials! {
    a_line_fault_is_counted_and_affects_no_other_client(fault in BAD_LINES),
    empty_lines_are_not_counted_as_refusals,
    half_a_line_does_not_hide_the_honest_request_behind_it,
    a_request_in_pieces_is_put_together,
    a_replayed_request_is_counted_and_has_no_effect,
    a_request_that_is_repeated_during_its_handshake_has_no_effect,
    a_request_for_files_that_are_not_there_is_counted,
    a_new_server_does_not_see_requests_to_the_old_one,
    a_full_fifo_is_reported_as_busy_at_the_clients_deadline_and_not_earlier,
    open_connections_are_untouched_by_a_flood,
    a_server_serves_again_after_a_flood,
}

fn serve(base: &Base) -> Driver {
    Driver::new(Server::bind(base.address(Transport::Fifo, "desk")).unwrap())
}

fn assert_serves(base: &Base, driver: &Driver) {
    let mut theirs = Connection::connect(base.address(Transport::Fifo, "desk")).unwrap();
    theirs.send(b"hello").unwrap();
    assert_eq!(driver.client().recv().unwrap().unwrap(), b"hello");
}

/// Returns a request to which `change` was applied, with a matching checksum.
fn sealed(change: impl Fn(String) -> String) -> Vec<u8> {
    let request = String::from_utf8(Id::new().request()).unwrap();
    let body = change(request.rsplit_once(' ').unwrap().0.to_owned());
    format!("{body} {:08x}\n", crc32fast::hash(body.as_bytes())).into_bytes()
}

/// A test name, and a malformed line.
type BadLine = (&'static str, fn() -> Vec<u8>);
const BAD_LINES: &[BadLine] = &[
    ("of_junk", || b"hello\n".to_vec()),
    ("that_is_not_text", || b"\xff\xfe\x00\x01\n".to_vec()),
    ("with_a_wrong_checksum", || {
        let mut request = Id::new().request();
        let last = request.len() - 2;
        request[last] = if request[last] == b'0' { b'1' } else { b'0' };
        request
    }),
    ("longer_than_any_request", || [&vec![b'x'; 4000][..], b"\n"].concat()),
    ("that_is_truncated", || [&Id::new().request()[..40], b"\n"].concat()),
    ("with_trailing_text", || {
        let request = Id::new().request();
        [&request[..request.len() - 1], b" more\n"].concat()
    }),
    ("of_a_later_version", || sealed(|body| body.replace("parlour1", "parlour2"))),
    ("without_a_pid", || sealed(|body| body.replace(&format!(" {} ", std::process::id()), " "))),
    ("with_the_pid_0", || sealed(|body| body.replace(&format!(" {} ", std::process::id()), " 0 "))),
    ("with_a_negative_pid", || sealed(|body| body.replace(&format!(" {} ", std::process::id()), " -1 "))),
    ("with_a_pid_out_of_range", || sealed(|body| body.replace(&format!(" {} ", std::process::id()), " 4294967297 "))),
    ("with_a_path_for_a_nonce", || {
        sealed(|body| body.rsplit_once(' ').unwrap().0.to_owned() + " ../../../../etc/passwd")
    }),
    ("with_a_nonce_in_capitals", || sealed(|body| body[..9].to_owned() + &body[9..].to_uppercase() + "A")),
];

fn a_line_fault_is_counted_and_affects_no_other_client((_, line): BadLine) {
    let line = line();
    let base = Base::new();
    let driver = serve(&base);
    for count in 1..4 {
        write_request(driver.server.path(), &line);
        let reason = driver.refused(count);
        assert!(reason.contains("malformed request line"), "{reason}");
    }
    assert_serves(&base, &driver);
    assert_eq!(driver.server.stats().refused, 3);
}

fn empty_lines_are_not_counted_as_refusals() {
    let base = Base::new();
    let driver = serve(&base);
    write_request(driver.server.path(), b"\n\n\n");
    assert_serves(&base, &driver);
    assert_eq!(driver.server.stats().refused, 0);
}

fn half_a_line_does_not_hide_the_honest_request_behind_it() {
    let base = Base::new();
    let driver = serve(&base);
    for half in [&Id::new().request()[..30], b"junk", &[b'x'; 4000]] {
        write_request(driver.server.path(), half);
        assert_serves(&base, &driver);
    }
    // The same junk, followed by a newline of its own.
    write_request(driver.server.path(), b"junk");
    write_request(driver.server.path(), b"\n");
    driver.refused(1);
    assert_serves(&base, &driver);
}

fn a_request_in_pieces_is_put_together() {
    let base = Base::new();
    let driver = serve(&base);
    let mut client = FifoClient::new(driver.server.path());
    client.make_s2c();
    client.make_c2s();
    client.open_s2c();
    for byte in client.id.request() {
        write_request(driver.server.path(), &[byte]);
    }
    client.expect_hello();
}

fn a_replayed_request_is_counted_and_has_no_effect() {
    let base = Base::new();
    let driver = serve(&base);
    let mut client = FifoClient::greeted(driver.server.path());
    client.open_c2s();
    client.unlink();
    client.acknowledge();
    let mut ours = driver.client();
    for count in 1..4 {
        client.ask();
        let reason = driver.refused(count);
        assert!(reason.contains("disconnected"), "{reason}");
    }
    assert!(driver.is_idle());
    ours.send(b"still yours").unwrap();
    assert_eq!(client.read(100), frame(b"still yours"));
    assert_serves(&base, &driver);
}

fn a_request_that_is_repeated_during_its_handshake_has_no_effect() {
    let base = Base::new();
    let driver = serve(&base);
    let mut client = FifoClient::asking(driver.server.path());
    for _ in 0..5 {
        client.ask();
    }
    client.expect_hello();
    client.ask();
    client.open_c2s();
    client.acknowledge();
    let mut ours = driver.client();
    ours.send(b"once").unwrap();
    assert_eq!(client.read(100), frame(b"once"), "the client was greeted once");
    assert_serves(&base, &driver);
    assert!(driver.is_idle());
    assert_eq!(driver.server.stats().refused, 0);
}

fn a_request_for_files_that_are_not_there_is_counted() {
    let base = Base::new();
    let driver = serve(&base);
    for (count, pid) in (1..).zip([1, std::process::id(), i32::MAX as u32]) {
        write_request(driver.server.path(), &Id::of(pid).request());
        let reason = driver.refused(count);
        assert!(reason.contains(&format!("pid {pid}: the client has disconnected")), "{reason}");
    }
    assert_serves(&base, &driver);
}

fn a_new_server_does_not_see_requests_to_the_old_one() {
    let base = Base::new();
    let address = base.address(Transport::Fifo, "desk");
    for clean in [false, true] {
        let mut old = Child::spawn("hold", std::slice::from_ref(&address));
        old.expect("ready");
        // The client keeps the old FIFO open, and thereby what it has written into it.
        let holding = crate::by_hand::fifo_client::open_well_known(&base.name("desk"));
        let mut client = FifoClient::asking(&base.name("desk"));
        match clean {
            true => old.finish(),
            false => old.kill(),
        }
        let driver = serve(&base);
        assert!(!client.has_files(), "the files belonged to the old server's client");
        assert_serves(&base, &driver);
        assert_eq!(driver.server.stats().refused, 0);
        assert!(!crate::support::wait::readable_within(client.from_server.as_ref().unwrap(), Duration::ZERO));
        // The new server answers a new request.
        client.make_s2c();
        client.make_c2s();
        client.open_s2c();
        client.ask();
        client.expect_hello();
        // Otherwise the server would wait for the acknowledgement at its end.
        client.open_c2s();
        client.acknowledge();
        drop(driver.client());
        drop(holding);
    }
}

const TIMEOUT: Duration = Duration::from_millis(400);

fn assert_busy(base: &Base) {
    let begin = Instant::now();
    let error = ConnectOptions::new().timeout(TIMEOUT).connect(base.address(Transport::Fifo, "desk")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!((TIMEOUT..TIMEOUT + SOON).contains(&begin.elapsed()), "{:?}", begin.elapsed());
}

fn a_full_fifo_is_reported_as_busy_at_the_clients_deadline_and_not_earlier() {
    let base = Base::new();
    let mut stopped = Child::spawn("hold", &[base.address(Transport::Fifo, "desk")]);
    stopped.expect("ready");
    cost::stop(&stopped);
    let _flooder = flood(&base.name("desk"));
    assert_busy(&base);
    assert_eq!(client_files(&base.name("desk")), [""; 0]);
}

fn open_connections_are_untouched_by_a_flood() {
    let base = Base::new();
    let address = base.address(Transport::Fifo, "desk");
    let server = Server::bind(&address).unwrap();
    let connecting = std::thread::spawn(move || Connection::connect(address).unwrap());
    let mut ours = server.accept_timeout(DEADLINE).unwrap();
    let mut theirs = connecting.join().unwrap();
    let _flooder = flood(server.path());
    assert_busy(&base);
    theirs.send(b"there").unwrap();
    assert_eq!(ours.recv_timeout(DEADLINE).unwrap().unwrap(), b"there");
    ours.send(b"and back").unwrap();
    assert_eq!(theirs.recv_timeout(DEADLINE).unwrap().unwrap(), b"and back");
}

fn a_server_serves_again_after_a_flood() {
    let base = Base::new();
    let server = Server::bind(base.address(Transport::Fifo, "desk")).unwrap();
    let _flooder = flood(server.path());
    let driver = Driver::new(server);
    assert_serves(&base, &driver);
    write_request(driver.server.path(), &b"x\n".repeat(2000));
    driver.refused(2000);
    assert_serves(&base, &driver);
}
