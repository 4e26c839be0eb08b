//! Invalid greetings, silent clients, and limits on handshakes.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Connection, ErrorKind, ServerOptions, Transport};

use crate::by_hand::Driver;
use crate::by_hand::shm::{ALL_SEALS, CONTROL, RING, assert_refused, dial, good_memfd, hear, hello, memfd, say};
use crate::support::baseline::Baseline;
use crate::support::wait::answered;
use crate::support::{Base, Child, DEADLINE, SOON, trials};

trials! {
    a_hand_written_client_is_greeted,
    a_bad_hello_is_refused_and_affects_no_other_client,
    a_hello_without_exactly_one_descriptor_is_refused_and_none_is_kept,
    a_silent_client_is_dropped_at_the_deadline_and_delays_no_other,
    surplus_handshakes_are_refused_as_busy,
    a_silent_client_that_disconnects_frees_its_slot_immediately,
    a_server_out_of_descriptors_turns_clients_away_and_recovers,
    a_client_that_can_fall_back_does_so_before_its_timeout,
    a_client_that_cannot_fall_back_waits_for_its_whole_timeout,
    each_side_chooses_the_size_of_its_own_ring,
    each_side_limits_the_size_of_the_peers_ring,
}

fn serve(base: &Base, options: &ServerOptions) -> Driver {
    Driver::new(options.bind(base.address(Transport::Shm, "hall")).unwrap())
}

fn connect(base: &Base) -> parlour::Result<Connection> {
    answered(|time| ConnectOptions::new().timeout(time).connect(base.address(Transport::Shm, "hall")))
}

/// Checks that another client is served.
fn assert_serves(base: &Base, driver: &Driver) {
    let mut theirs = connect(base).unwrap();
    driver.client().send(b"served").unwrap();
    assert_eq!(theirs.recv_timeout(DEADLINE).unwrap().unwrap(), b"served");
}

/// The defaults accept the largest ring that this side uses itself.
fn each_side_limits_the_size_of_the_peers_ring() {
    let base = Base::new();
    let address = base.address(Transport::Shm, "hall");
    let error = ServerOptions::new().peer_ring_max((1 << 16) - 1).bind(&address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOption, "{error}");
    let error = ConnectOptions::new().peer_ring_max(0).connect(&address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOption, "{error}");

    let driver = serve(&base, &ServerOptions::new().ring_size(1 << 17).peer_ring_max(1 << 18));
    let connect = |options: ConnectOptions| options.timeout(DEADLINE).connect(&address);
    connect(ConnectOptions::new().ring_size(1 << 18)).unwrap();
    let error = connect(ConnectOptions::new().ring_size(1 << 19)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    let reason = driver.refused(1);
    assert!(reason.contains("524288 bytes; 262144 are allowed (option peer_ring_max)"), "{reason}");
    let error = connect(ConnectOptions::new().ring_size(1 << 16).peer_ring_max(1 << 16)).unwrap_err();
    assert!(error.to_string().contains("131072 bytes; 65536 are allowed (option peer_ring_max)"), "{error}");
    connect(ConnectOptions::new().ring_size(1 << 16).peer_ring_max(1 << 17)).unwrap();
    drop(driver);

    let driver = serve(&base, &ServerOptions::new());
    connect(ConnectOptions::new().ring_size(1 << 24)).unwrap();
    let error = connect(ConnectOptions::new().ring_size(1 << 25)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    drop(driver);
    let _driver = serve(&base, &ServerOptions::new().ring_size(1 << 25));
    connect(ConnectOptions::new().ring_size(1 << 25)).unwrap();
}

fn a_hand_written_client_is_greeted() {
    let base = Base::new();
    let driver = serve(&base, &ServerOptions::new().ring_size(1 << 17));
    let socket = dial(driver.server.path());
    say(&socket, &hello(RING as u64), &[&good_memfd()]);
    let (said, memfds) = hear(&socket);
    assert_eq!((said, memfds.len()), (hello(1 << 17).to_vec(), 1));
    let mut client = driver.client();
    drop(socket);
    assert_eq!(client.recv_timeout(DEADLINE).unwrap(), None);
}

fn a_bad_hello_is_refused_and_affects_no_other_client() {
    let base = Base::new();
    let driver = serve(&base, &ServerOptions::new());
    let good = hello(RING as u64);
    let mut bad: Vec<Vec<u8>> = vec![good[..23].to_vec(), [&good[..], &[0]].concat(), vec![b'p'; 1], vec![0; 4096]];
    bad.extend(
        [0, 1, RING as u64 - 1, RING as u64 + 1, 1 << 15, 1 << 27, 1 << 40, u64::MAX].map(|size| hello(size).to_vec()),
    );
    for place in [0, 7, 8, 9, 10, 11] {
        let mut bytes = good;
        bytes[place] ^= 0xff;
        bad.push(bytes.to_vec());
    }
    // A refusal, which only servers send and which comes without memory.
    let mut refusal = hello(0);
    refusal[8..10].copy_from_slice(&[2, 1]);
    for (number, bytes) in (1..).zip(&bad) {
        let socket = dial(driver.server.path());
        say(&socket, bytes, &[&good_memfd()]);
        assert_refused(&socket);
        let reason = driver.refused(number);
        assert!(reason.contains("greeting"), "{bytes:x?}: {reason}");
    }
    let socket = dial(driver.server.path());
    say(&socket, &refusal, &[]);
    assert_refused(&socket);
    assert!(driver.is_idle(), "no client was accepted");
    assert_serves(&base, &driver);
}

fn a_hello_without_exactly_one_descriptor_is_refused_and_none_is_kept() {
    let base = Base::new();
    let mut server = Child::spawn("scarce", &[&base.address(Transport::Shm, "hall")]);
    server.expect("ready");
    // The server answers after its accepting thread was started.
    assert_eq!(server.ask("accepted"), "0");
    let before = Baseline::of(server.pid());
    let memfds: Vec<OwnedFd> = (0..253).map(|_| memfd(CONTROL + RING, 0, ALL_SEALS)).collect();
    let all: Vec<&OwnedFd> = memfds.iter().collect();
    for (number, count) in (1..).zip([0, 2, 3, 253]) {
        let socket = dial(&base.name("hall"));
        say(&socket, &hello(RING as u64), &all[..count]);
        assert_refused(&socket);
        let refused = server.ask("refused");
        assert!(refused.starts_with(&format!("{number} ")) && refused.contains("descriptors"), "{refused}");
    }
    before.assert_restored(server.pid());
    server.finish();
}

/// The server does not accept. A client of `packet` connects to the kernel's queue without that.
fn a_client_that_can_fall_back_does_so_before_its_timeout() {
    let base = Base::new();
    let address = base.name("hall").display().to_string();
    let server = ServerOptions::new().transports([Transport::Shm, Transport::Packet]).bind(&address).unwrap();
    let begin = Instant::now();
    let mut client = ConnectOptions::new().timeout(DEADLINE).connect(&address).unwrap();
    let took = begin.elapsed();
    assert_eq!(client.transport(), Transport::Packet);
    assert!((DEADLINE / 10..DEADLINE / 2).contains(&took), "the client fell back after {took:?}");
    client.send(b"here").unwrap();
    // The abandoned `shm` handshake does not count as a client.
    let mut served = server.accept_timeout(DEADLINE).unwrap();
    assert_eq!(served.recv().unwrap().unwrap(), b"here");
    assert_eq!(base.files(), ["hall/", "hall/c/", "hall/control", "hall/lock", "hall/packet", "hall/shm"]);
}

fn a_client_that_cannot_fall_back_waits_for_its_whole_timeout() {
    let base = Base::new();
    let _server = ServerOptions::new().bind(base.address(Transport::Shm, "hall")).unwrap();
    let begin = Instant::now();
    let options = ConnectOptions::new().timeout(TIMEOUT);
    let error = options.connect(base.name("hall").display().to_string()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(begin.elapsed() >= TIMEOUT, "the client gave up after {:?}", begin.elapsed());
}

const TIMEOUT: Duration = Duration::from_millis(500);

/// Longer than a busy machine takes to serve a few clients.
const LONG_TIMEOUT: Duration = Duration::from_secs(3);

fn a_silent_client_is_dropped_at_the_deadline_and_delays_no_other() {
    let base = Base::new();
    let driver = serve(&base, &ServerOptions::new().handshake_timeout(LONG_TIMEOUT));
    let begin = Instant::now();
    let silent: Vec<_> = (0..3).map(|_| dial(driver.server.path())).collect();
    (0..3).for_each(|_| assert_serves(&base, &driver));
    assert!(begin.elapsed() < LONG_TIMEOUT, "three clients were served after {:?}", begin.elapsed());
    for socket in &silent {
        assert_refused(socket);
        assert!(begin.elapsed() >= LONG_TIMEOUT, "dropped after {:?}", begin.elapsed());
    }
    assert!(begin.elapsed() < LONG_TIMEOUT + SOON, "dropped after {:?}", begin.elapsed());
    let reason = driver.refused(3);
    assert!(reason.contains("did not say hello in time"), "{reason}");
}

fn surplus_handshakes_are_refused_as_busy() {
    let base = Base::new();
    let driver = serve(&base, &ServerOptions::new().half_open_max(2));
    let _silent = [dial(driver.server.path()), dial(driver.server.path())];
    let third = dial(driver.server.path());
    assert_refused(&third);
    let reason = driver.refused(1);
    assert!(reason.contains("2 handshakes are under way"), "{reason}");
    // A client whose hello arrives before the server checks the socket takes no slot. A slower client is refused as
    // busy and may retry.
    match connect(&base) {
        Ok(_) => drop(driver.client()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Busy, "{error}"),
    }
}

fn a_silent_client_that_disconnects_frees_its_slot_immediately() {
    let base = Base::new();
    let driver = serve(&base, &ServerOptions::new().half_open_max(1));
    for number in 1..10 {
        drop(dial(driver.server.path()));
        let reason = driver.refused(number);
        assert!(reason.contains("disconnected"), "{reason}");
    }
    assert_serves(&base, &driver);
}

fn a_server_out_of_descriptors_turns_clients_away_and_recovers() {
    let base = Base::new();
    let address = base.address(Transport::Shm, "hall");
    let mut server = Child::spawn("scarce", &[&address]);
    server.expect("ready");
    let mut early = Connection::connect(&address).unwrap();
    let echo = |connection: &mut Connection| {
        connection.send(b"still here").unwrap();
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"still here");
    };
    echo(&mut early);
    for spare in ["0", "1"] {
        server.ask(&format!("spare {spare}"));
        let error = answered(|time| ConnectOptions::new().timeout(time).connect(&address)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy, "{spare} spare descriptors: {error}");
        echo(&mut early);
        // The role needs spare descriptors to list its own.
        server.ask("plenty");
    }
    echo(&mut Connection::connect(&address).unwrap());
    echo(&mut early);
    server.finish();
}

fn each_side_chooses_the_size_of_its_own_ring() {
    let base = Base::new();
    for size in [0, 1, (1 << 16) - 1, (1 << 16) + 1, 1 << 15, 3 << 16, 1 << 27, usize::MAX] {
        let error = ServerOptions::new().ring_size(size).bind(base.address(Transport::Shm, "bad")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{error}");
        let error = ConnectOptions::new().ring_size(size).connect(base.address(Transport::Shm, "bad")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{error}");
    }
    let driver = serve(&base, &ServerOptions::new().ring_size(1 << 16));
    let options = ConnectOptions::new().ring_size(1 << 21);
    let mut client = options.connect(base.address(Transport::Shm, "hall")).unwrap();
    let mut served = driver.client();
    let fill = |end: &mut Connection| {
        let message = [0; 4092];
        (0..).take_while(|_| end.try_flush().is_ok() && end.try_send(&message[..]).is_ok()).count()
    };
    assert_eq!((fill(&mut client), fill(&mut served)), (1 << 9, 1 << 4));
}
