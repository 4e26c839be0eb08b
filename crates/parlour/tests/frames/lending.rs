//! Frames that arrive, are read and are returned.

use std::thread;

use parlour::frames::{FrameLimits, FramePool, FramePoolOptions, FrameReader};
use parlour::{ConnectOptions, Connection, ErrorKind, Message, ServerOptions, Transport};

use super::ends::{CARRIERS, LEN, check, ends, options, pair};
use crate::support::{Base, DEADLINE, data, trials};

trials! {
    for transport in CARRIERS =>
        a_frame_arrives_with_its_note_in_the_memory_of_the_publisher,
        a_block_is_filled_again_and_again_after_its_frame_is_dropped,
        a_block_that_was_sent_twice_is_held_until_both_frames_are_dropped,
        a_copy_into_a_slice_has_as_many_bytes_as_fit,
        a_frame_outlives_its_reader_and_its_connection,
        a_frame_outlives_the_publisher,
        frames_of_every_length_arrive,
        frames_and_other_messages_share_a_connection,
        frames_of_two_pools_share_a_connection,
        a_trusted_frame_is_read_in_place,
        a_client_that_allows_no_descriptors_reads_frames;

    attaching_over_fifo_fails_and_names_other_transports,
    a_publisher_that_allows_no_descriptors_is_told_apart,
    options_out_of_range_are_refused,
    a_frame_of_another_pool_is_refused,
    a_message_of_another_publisher_is_refused_and_returns_nothing,
    an_old_message_is_refused_and_returns_nothing,
}

fn a_frame_arrives_with_its_note_in_the_memory_of_the_publisher(transport: Transport) {
    let (mut publisher, mut end) = ends(transport, &options(2));
    publisher.publish(1);
    let frame = end.open();
    assert!(frame.is_lent());
    assert_eq!(frame.len(), LEN);
    check(&frame, 1);
    assert_eq!(publisher.held(), 1);
    drop(frame);
    assert_eq!(publisher.held(), 0);
}

fn a_block_is_filled_again_and_again_after_its_frame_is_dropped(transport: Transport) {
    let (mut publisher, mut end) = ends(transport, &options(2));
    assert_eq!(publisher.pool.blocks(), 3);
    let mut kept = Vec::new();
    for seed in 0..100 {
        publisher.publish(seed);
        let frame = end.open();
        assert!(frame.is_lent());
        kept.push((seed, frame));
        for (seed, frame) in &kept {
            check(frame, *seed);
        }
        if kept.len() == 2 {
            kept.remove(seed % 2);
        }
    }
}

fn a_block_that_was_sent_twice_is_held_until_both_frames_are_dropped(transport: Transport) {
    let (mut publisher, mut end) = ends(transport, &options(1));
    let frame = publisher.fill(1);
    publisher.send(&frame).unwrap();
    publisher.send(&frame).unwrap();
    drop(frame);
    let (one, other) = (end.open(), end.open());
    assert!(one.is_lent() && other.is_lent(), "a block that it has does not count against its share again");
    drop(one);
    assert_eq!(publisher.held(), 1);
    check(&other, 1);
    drop(other);
    assert_eq!(publisher.held(), 0);
}

fn a_copy_into_a_slice_has_as_many_bytes_as_fit(transport: Transport) {
    let (mut publisher, mut end) = ends(transport, &options(1));
    publisher.publish(1);
    publisher.publish(1);
    let (lent, by_value) = (end.open(), end.open());
    assert!(lent.is_lent() && !by_value.is_lent());
    for frame in [lent, by_value] {
        let whole = frame.to_vec().unwrap();
        for size in [0, 1, LEN - 1, LEN, LEN + 10] {
            let mut bytes = vec![0xee; size];
            let count = frame.copy_to_slice(&mut bytes).unwrap();
            assert_eq!(count, size.min(LEN));
            assert_eq!(bytes[..count], whole[..count]);
            assert!(bytes[count..].iter().all(|&byte| byte == 0xee));
        }
    }
}

fn a_frame_outlives_its_reader_and_its_connection(transport: Transport) {
    let (mut publisher, mut end) = ends(transport, &options(2));
    publisher.publish(1);
    let frame = end.open();
    drop(end);
    assert!(publisher.connection.recv_timeout(DEADLINE).unwrap().is_none());
    publisher.pool.remove(publisher.id);
    for seed in 2..10 {
        let filled = publisher.fill(seed);
        let error = publisher.send(&filled).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    }
    assert_eq!(publisher.held(), 1);
    check(&frame, 1);
    // The drop of the last frame ends the lease, which returns everything.
    drop(frame);
    let all: Vec<_> = (0..3).map(|seed| publisher.fill(seed)).collect();
    assert_eq!(all.len(), publisher.pool.blocks());
}

fn a_frame_outlives_the_publisher(transport: Transport) {
    let (mut publisher, mut end) = ends(transport, &options(2));
    publisher.publish(1);
    publisher.publish(2);
    let first = end.open();
    drop(publisher);
    // The memory was announced before, and the second frame had arrived.
    check(&end.open(), 2);
    check(&first, 1);
    assert!(end.connection.recv_timeout(DEADLINE).unwrap().is_none());
}

fn frames_of_every_length_arrive(transport: Transport) {
    let (mut publisher, mut end) = ends(transport, &options(2));
    for length in [LEN, 1, 0, LEN - 1, 4096] {
        let mut frame = publisher.pool.loan().unwrap();
        assert_eq!(frame.len(), LEN);
        frame.truncate(length);
        frame.truncate(LEN + 1);
        frame.copy_from_slice(data::message(length, length));
        let frame = frame.freeze();
        assert_eq!(frame[..], *data::message(length, length));
        let (pool, connection) = (&mut publisher.pool, &mut publisher.connection);
        pool.send(publisher.id, &frame, b"", |payload| connection.send(payload)).unwrap();
        let received = end.open();
        assert_eq!((received.note(), received.len(), received.is_empty()), (&b""[..], length, length == 0));
        let mut bytes = vec![9; 50_000];
        received.copy_to(&mut bytes).unwrap();
        data::check(&bytes, length, length);
    }
}

fn frames_and_other_messages_share_a_connection(transport: Transport) {
    let (mut publisher, mut end) = ends(transport, &options(2));
    publisher.connection.send("before").unwrap();
    publisher.publish(1);
    publisher.connection.send("after").unwrap();
    let before = end.connection.recv().unwrap().unwrap();
    assert_eq!(before, b"before");
    assert!(!FrameReader::is_frame(&before));
    let frame = end.open();
    assert_eq!(end.try_open().unwrap_err().kind(), ErrorKind::Protocol, "the program knows which message is a frame");
    check(&frame, 1);
    publisher.publish(2);
    check(&end.open(), 2);
}

/// Each pool has a reader of its own, and the program says before each message to which of them it belongs.
fn frames_of_two_pools_share_a_connection(transport: Transport) {
    let (mut ours, mut theirs) = pair(transport);
    let mut pools = [LEN, 4 * LEN].map(|len| FramePoolOptions::new(len).readers(1).share(1).create().unwrap());
    let mut readers = Vec::new();
    let mut ids = Vec::new();
    for pool in &mut pools {
        readers.push(FrameReader::attach(&FrameLimits::new(), |payload| theirs.send(payload)).unwrap());
        ids.push(pool.admit(ours.recv_timeout(DEADLINE).unwrap().expect("an attach"), ours.peer()).unwrap());
    }
    // The second frame of each pool is sent by value, because the first one is kept.
    let mut kept = Vec::new();
    for (seed, which) in [0, 1, 1, 0].into_iter().enumerate() {
        let mut frame = pools[which].try_loan().unwrap().expect("a block is free");
        frame.truncate(LEN);
        frame.copy_from_slice(data::message(seed, LEN));
        ours.send(&[which as u8]).unwrap();
        pools[which].send(ids[which], &frame.freeze(), b"note", |payload| ours.send(payload)).unwrap();
        let which = usize::from(theirs.recv_timeout(DEADLINE).unwrap().expect("a message")[0]);
        let frame = readers[which].open(theirs.recv_timeout(DEADLINE).unwrap().expect("a frame")).unwrap();
        check(&frame, seed);
        assert_eq!(frame.is_lent(), seed < 2);
        kept.push(frame);
    }
    drop(kept);
    assert_eq!([0, 1].map(|which| pools[which].held_by(ids[which])), [0, 0]);
}

#[allow(unsafe_code)]
fn a_trusted_frame_is_read_in_place(transport: Transport) {
    let (mut publisher, end) = ends(transport, &options(1));
    // SAFETY: the publisher is the pool of this test, which fills no block before it is returned.
    let mut reader = unsafe { end.reader.trust_publisher() };
    let mut connection = end.connection;
    let mut places = Vec::new();
    for seed in 0..4 {
        publisher.publish(seed);
        let frame = reader.open(connection.recv().unwrap().unwrap()).unwrap();
        assert!(frame.is_lent());
        assert_eq!(frame.note(), b"note");
        data::check(&frame, seed, LEN);
        places.push(frame.as_ptr());
    }
    assert_eq!(places[0], places[2], "two blocks take turns");
    assert_ne!(places[0], places[1]);
}

fn a_client_that_allows_no_descriptors_reads_frames(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "camera");
    let server = ServerOptions::new().fds_max(2).bind(&address).unwrap();
    let connecting = thread::spawn(move || Connection::connect(&address).unwrap());
    let mut served = server.accept().unwrap();
    let mut client = connecting.join().unwrap();
    let mut reader = FrameReader::attach(&FrameLimits::new(), |payload| client.send(payload)).unwrap();
    let mut pool = options(1).create().unwrap();
    let id = pool.admit(served.recv().unwrap().unwrap(), served.peer()).unwrap();
    let frame = super::ends::fill(&mut pool, 1);
    pool.send(id, &frame, b"note", |payload| served.send(payload)).unwrap();
    let frame = reader.open(client.recv().unwrap().unwrap()).unwrap();
    assert!(frame.is_lent());
    check(&frame, 1);
}

fn attaching_over_fifo_fails_and_names_other_transports() {
    let (mut client, _served) = pair(Transport::Fifo);
    let error = FrameReader::attach(&FrameLimits::new(), |payload| client.send(payload)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("shm, packet or unix"), "{error}");
}

fn a_publisher_that_allows_no_descriptors_is_told_apart() {
    let (mut client, mut served) = ConnectOptions::new().pair(Transport::Unix).unwrap();
    match FrameReader::attach(&FrameLimits::new(), |payload| client.send(payload)) {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Refused, "{error}"),
        // Before Linux 6.16 only the publisher notices.
        Ok(_) => assert_eq!(served.recv().unwrap_err().kind(), ErrorKind::Protocol),
    }
}

fn options_out_of_range_are_refused() {
    let all = [
        FramePoolOptions::new(0),
        FramePoolOptions::new((64 << 30) + 1),
        FramePoolOptions::new(1).readers(0),
        FramePoolOptions::new(1).share(0),
        FramePoolOptions::new(1).own_blocks(0),
        FramePoolOptions::new(1).own_blocks(usize::MAX),
        FramePoolOptions::new(1).readers(1024).share(1),
        FramePoolOptions::new(1).readers(usize::MAX).share(usize::MAX),
    ];
    for options in all {
        let error = options.create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{options:?}: {error}");
    }
    let largest = FramePoolOptions::new(1).readers(341).share(3).create().unwrap();
    assert_eq!((largest.blocks(), largest.frame_len_max()), (1024, 1));
    assert_eq!(FramePool::new(100).unwrap().blocks(), 9);
}

fn a_frame_of_another_pool_is_refused() {
    let (mut publisher, _end) = ends(Transport::Unix, &options(1));
    let mut other = options(1).create().unwrap();
    let frame = super::ends::fill(&mut other, 1);
    let error = publisher.send(&frame).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

/// Attaches a reader, and returns the message of a frame that was sent to it.
fn received(publisher: &mut super::ends::Publisher, end: &mut super::ends::End, seed: usize) -> Message {
    publisher.publish(seed);
    let message = end.connection.recv_timeout(DEADLINE).unwrap().expect("a frame");
    assert!(FrameReader::is_frame(&message));
    message
}

fn a_message_of_another_publisher_is_refused_and_returns_nothing() {
    let (mut one, mut one_end) = ends(Transport::Unix, &options(1));
    let (mut other, mut other_end) = ends(Transport::Unix, &options(2));
    let own = received(&mut one, &mut one_end, 1);
    let foreign = received(&mut other, &mut other_end, 2);
    let error = one_end.reader.open(foreign).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert_eq!((one.held(), other.held()), (1, 1));
    check(&one_end.reader.open(own).unwrap(), 1);
    assert_eq!(one.held(), 0);
    // The same before the reader has the memory of its own pool.
    let (mut third, mut third_end) = ends(Transport::Unix, &options(1));
    let foreign = received(&mut other, &mut other_end, 3).into_vec();
    third.publish(3);
    third_end.connection.recv_timeout(DEADLINE).unwrap();
    third.connection.send(&foreign).unwrap();
    assert_eq!(third_end.try_open().unwrap_err().kind(), ErrorKind::Protocol);
}

fn an_old_message_is_refused_and_returns_nothing() {
    let (mut publisher, mut end) = ends(Transport::Unix, &options(1));
    let message = received(&mut publisher, &mut end, 1).into_vec();
    // Relayed, so that it can be opened twice.
    publisher.connection.send(&message).unwrap();
    check(&end.open(), 1);
    for seed in 2..4 {
        publisher.publish(seed);
        drop(end.open());
    }
    publisher.publish(4);
    let frame = end.open();
    publisher.connection.send(&message).unwrap();
    assert_eq!(end.try_open().unwrap_err().kind(), ErrorKind::Protocol);
    assert_eq!(publisher.held(), 1);
    check(&frame, 4);
}
