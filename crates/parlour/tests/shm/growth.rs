//! Rings that begin small and grow with use.

use std::os::fd::OwnedFd;
use std::thread;

use parlour::{ConnectOptions, Connection, ServerOptions, Transport};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, fstat};

use crate::by_hand::Driver;
use crate::by_hand::shm::{
    ALL_SEALS, BEGIN, CONTROL, RING, assert_refused, dial, good_memfd, growing_hello, growing_memfd, hear, hello, say,
};
use crate::by_hand::shm::{memfd, memfd_with};
use crate::support::{Base, DEADLINE, data, trials};

trials! {
    an_unused_connection_takes_at_most_64_kib,
    a_client_of_the_first_layout_gets_a_whole_ring,
    memory_that_does_not_begin_as_it_must_is_refused,
    messages_of_all_lengths_pass_while_rings_of_size_bytes_grow(size in [1 << 16, 1 << 17, 1 << 20]),
    a_peer_that_never_allows_growth_gets_all_messages,
    a_word_about_growth_that_no_reader_writes_ends_the_connection,
}

fn blocks(memfd: &OwnedFd) -> u64 {
    fstat(memfd).unwrap().st_blocks as u64 * 512
}

/// Connects a client by hand whose memory grows. Returns its socket, its memory, and the server's.
fn connect(driver: &Driver) -> (OwnedFd, OwnedFd, OwnedFd) {
    let socket = dial(driver.server.path());
    let mine = growing_memfd(|_| ());
    say(&socket, &growing_hello(RING as u64), &[&mine]);
    let (said, mut memfds) = hear(&socket);
    assert_eq!((&said[..12], memfds.len()), (&growing_hello(0)[..12], 1));
    (socket, mine, memfds.remove(0))
}

fn an_unused_connection_takes_at_most_64_kib() {
    let base = Base::new();
    let driver = Driver::new(ServerOptions::new().bind(base.address(Transport::Shm, "hall")).unwrap());
    let (_socket, mine, theirs) = connect(&driver);
    let mut served = driver.client();
    served.send(data::message(1, 1000)).unwrap();
    assert_eq!((blocks(&mine), blocks(&theirs)), (BEGIN as u64, BEGIN as u64));
    assert!(blocks(&mine) + blocks(&theirs) <= 64 * 1024);
}

fn a_client_of_the_first_layout_gets_a_whole_ring() {
    let base = Base::new();
    let driver = Driver::new(ServerOptions::new().bind(base.address(Transport::Shm, "hall")).unwrap());
    let socket = dial(driver.server.path());
    say(&socket, &hello(RING as u64), &[&good_memfd()]);
    let (said, memfds) = hear(&socket);
    assert_eq!(said[..12], hello(0)[..12]);
    assert_eq!(blocks(&memfds[0]), (CONTROL + (1 << 20)) as u64);
}

fn memory_that_does_not_begin_as_it_must_is_refused() {
    let base = Base::new();
    let driver = Driver::new(ServerOptions::new().bind(base.address(Transport::Shm, "hall")).unwrap());
    let length = CONTROL + RING + 4096;
    let bad = [
        ("no memory", memfd(length, 0, ALL_SEALS)),
        ("a page less", memfd(length, BEGIN - 4096, ALL_SEALS)),
        ("a page more", memfd(length, BEGIN + 4096, ALL_SEALS)),
        ("all memory", memfd(length, length, ALL_SEALS)),
        ("no page behind the ring", memfd(length - 4096, BEGIN, ALL_SEALS)),
        ("no seal against new writers", memfd(length, BEGIN, ALL_SEALS - rustix::fs::SealFlags::FUTURE_WRITE)),
        (
            "pages that were never written",
            memfd_with(MemfdFlags::empty(), length as u64, ALL_SEALS, |file| {
                fallocate(file, FallocateFlags::empty(), 0, BEGIN as u64).unwrap();
            }),
        ),
    ];
    for (number, (what, memory)) in (1..).zip(&bad) {
        let before = blocks(memory);
        let socket = dial(driver.server.path());
        say(&socket, &growing_hello(RING as u64), &[memory]);
        assert_refused(&socket);
        let reason = driver.refused(number);
        assert!(reason.contains("its memory"), "{what}: {reason}");
        assert_eq!(blocks(memory), before, "{what}: the check allocates nothing");
    }
    let socket = dial(driver.server.path());
    say(&socket, &growing_hello(1 << 25), &[&bad[0].1]);
    assert_refused(&socket);
    connect(&driver);
}

fn messages_of_all_lengths_pass_while_rings_of_size_bytes_grow(size: usize) {
    let base = Base::new();
    let address = base.address(Transport::Shm, "hall");
    let driver = Driver::new(ServerOptions::new().ring_size(size).bind(&address).unwrap());
    // Around the sizes that the ring takes, and everything between them.
    let lengths: Vec<usize> = (0..40).map(|step| step * 997).collect();
    let edges =
        [1 << 14, 1 << 16, 1 << 17, 1 << 18, 1 << 20].into_iter().flat_map(|size| [size - 5, size - 4, size, size + 1]);
    let lengths: Vec<usize> = lengths.into_iter().chain(edges).chain([0, 1, 3_000_000, 64]).collect();
    for (first, rest) in [(0, 1), (20, 7), (44, 5), (59, 11)] {
        let length = |number: usize| lengths[(first + number * rest) % lengths.len()];
        let mut client = ConnectOptions::new().ring_size(size).timeout(DEADLINE).connect(&address).unwrap();
        let mut served = driver.client();
        let exchange = |mut sender: parlour::Sender, mut receiver: parlour::Receiver| {
            thread::scope(|scope| {
                scope.spawn(move || {
                    (0..120).for_each(|number| sender.send(data::message(number, length(number))).unwrap())
                });
                for number in 0..120 {
                    data::check(&receiver.recv().unwrap().unwrap(), number, length(number));
                }
            });
        };
        // In lockstep first, as long as a message fits into the first size.
        client.send(data::message(0, 9000)).unwrap();
        data::check(&served.recv().unwrap().unwrap(), 0, 9000);
        served.send(data::message(1, 16_380)).unwrap();
        data::check(&client.recv().unwrap().unwrap(), 1, 16_380);
        let ((to_server, from_server), (to_client, from_client)) = (client.split(), served.split());
        thread::scope(|scope| {
            scope.spawn(|| exchange(to_server, from_client));
            exchange(to_client, from_server);
        });
    }
}

/// The client by hand has no word `Adopted`, and takes every byte out of the part that exists.
fn a_peer_that_never_allows_growth_gets_all_messages() {
    let base = Base::new();
    let driver = Driver::new(ServerOptions::new().bind(base.address(Transport::Shm, "hall")).unwrap());
    let (_socket, _mine, theirs) = connect(&driver);
    let mut served = driver.client();
    let sent = (0..).take_while(|_| served.try_flush().is_ok() && served.try_send(&[7; 1020][..]).is_ok()).count();
    assert_eq!((sent, blocks(&theirs)), (16, BEGIN as u64));
}

fn a_word_about_growth_that_no_reader_writes_ends_the_connection() {
    let base = Base::new();
    let driver = Driver::new(ServerOptions::new().bind(base.address(Transport::Shm, "hall")).unwrap());
    // The words `Span` and `Adopted` of the client.
    for (place, value) in
        [(8u64, 16 << 6 | 16u64), (8, 20 << 6 | 14), (8, u64::MAX), (136, 15), (136, 20), (136, u64::MAX)]
    {
        let socket = dial(driver.server.path());
        let mine = growing_memfd(|file| crate::by_hand::shm::put_word(file, place, value));
        say(&socket, &growing_hello(RING as u64), &[&mine]);
        assert_eq!(hear(&socket).1.len(), 1);
        let mut served: Connection = driver.client();
        let error = match place {
            8 => served.recv_timeout(DEADLINE).unwrap_err(),
            _ => served.send(data::message(1, 100_000)).unwrap_err(),
        };
        assert_eq!(error.kind(), parlour::ErrorKind::Protocol, "{value} at {place}: {error}");
        assert_eq!(blocks(&mine), BEGIN as u64);
    }
}
