//! Blocks of shared memory that a hub sends.

use std::os::fd::AsFd;
use std::thread;

use parlour::hub::{Client, DisconnectReason, Event, HubOptions, SlowClientPolicy};
use parlour::{
    ConnectOptions, Connection, ErrorKind, Payload, ServerOptions, SharedBytes, Transport, TryRecvError, TrySendError,
};
use rustix::fs::fstat;

use super::room::{Room, joined};
use crate::support::{DEADLINE, assert_tells, data, kernel_refuses_descriptors, trials};

trials! {
    for transport in Transport::ALL =>
        a_block_reaches_every_client_without_a_copy unless has_no_blocks(transport),
        blocks_and_bytes_arrive_in_order_through_a_full_channel unless has_no_blocks(transport),
        the_number_of_blocks_that_wait_is_limited unless has_no_blocks(transport),
        a_client_with_too_many_blocks_is_slow unless has_no_blocks(transport),
        the_hub_waits_until_a_block_has_room unless has_no_blocks(transport),
        the_blocks_of_other_threads_are_limited unless has_no_blocks(transport),
        closing_delivers_blocks_before_which_nothing_waits unless has_no_blocks(transport),
        closing_delivers_the_blocks_that_wait unless has_no_blocks(transport),
        finishing_waits_for_the_blocks_that_wait unless has_no_blocks(transport),
        a_client_that_leaves_gives_its_blocks_back unless has_no_blocks(transport),
        a_client_that_allows_no_descriptors_misses_blocks_alone unless has_no_blocks(transport),
        a_block_for_a_client_over_fifo_is_missed_and_reported unless has_no_blocks(transport);

    descriptors_other_than_blocks_are_refused,
}

fn has_no_blocks(transport: Transport) -> Option<&'static str> {
    (transport == Transport::Fifo).then_some("fifo carries no shared memory")
}

/// Identifies the memory of a block independently of the descriptor: device and inode.
fn identity(block: &SharedBytes) -> (u64, u64) {
    let stat = fstat(block.as_fd()).unwrap();
    (stat.st_dev, stat.st_ino)
}

#[track_caller]
fn expect_block(connection: &mut Connection, bytes: &[u8], block: &SharedBytes) {
    let mut message = connection.recv_timeout(DEADLINE).unwrap().expect("a message");
    assert_eq!(message, bytes);
    let blocks = message.take_shared().unwrap();
    assert_eq!(blocks.iter().map(identity).collect::<Vec<_>>(), [identity(block)]);
}

#[track_caller]
fn expect(connection: &mut Connection, number: usize, length: usize) {
    let mut message = connection.recv_timeout(DEADLINE).unwrap().expect("a message");
    data::check(&message, number, length);
    assert!(message.take_shared().unwrap().is_empty());
}

/// The smallest rings, so that they are full soon.
fn options(policy: SlowClientPolicy) -> HubOptions {
    let server = ServerOptions::new().ring_size(64 * 1024);
    HubOptions::from(server).write_buffer_max(100_000).slow_client_policy(policy).blocks_max(2)
}

fn join(room: &mut Room) -> (Client, Connection) {
    room.join_with(&ConnectOptions::new().fds_max(4))
}

/// Sends until some bytes are buffered in the hub. Returns the number of messages.
fn fill(room: &mut Room, client: Client) -> usize {
    let mut count = 0;
    loop {
        room.hub.send(client, data::message(count, 3001)).unwrap();
        count += 1;
        room.hub.flush().unwrap();
        if room.hub.write_buffer_len(client) > 0 {
            return count;
        }
        assert!(count < 100_000, "the channel is never full");
    }
}

fn a_block_reaches_every_client_without_a_copy(transport: Transport) {
    let mut room = Room::new(transport);
    let (clients, mut connections): (Vec<_>, Vec<_>) = (0..3).map(|_| join(&mut room)).unzip();
    let [one, two, three] = [100_000, 10, 0].map(|length| SharedBytes::new(data::message(1, length)).unwrap());
    room.hub.send(clients[0], b"before").unwrap();
    assert_eq!(room.hub.broadcast(Payload::new(b"one").shared(&[&one])).unwrap(), []);
    room.hub.send(clients[0], b"between").unwrap();
    room.hub.send(clients[0], Payload::new(b"").shared(&[&three])).unwrap();
    let handle = room.hub.handle().unwrap();
    handle.broadcast_except(clients[1], Payload::new(b"two").shared(&[&two])).unwrap();
    room.assert_quiet();
    room.hub.flush().unwrap();
    assert_eq!(connections[0].recv_timeout(DEADLINE).unwrap().unwrap(), b"before");
    for connection in &mut connections {
        expect_block(connection, b"one", &one);
    }
    assert_eq!(connections[0].recv_timeout(DEADLINE).unwrap().unwrap(), b"between");
    expect_block(&mut connections[0], b"", &three);
    for index in [0, 2] {
        expect_block(&mut connections[index], b"two", &two);
    }
    assert!(connections.iter().all(|connection| !connection.has_message()));
}

fn blocks_and_bytes_arrive_in_order_through_a_full_channel(transport: Transport) {
    let mut room = Room::with(transport, &options(SlowClientPolicy::Refuse).blocks_max(100));
    let (client, mut connection) = join(&mut room);
    let block = SharedBytes::new(data::message(5, 1000)).unwrap();
    let count = fill(&mut room, client);
    for number in 0..10 {
        room.hub.send(client, Payload::new(data::message(number, 100)).shared(&[&block])).unwrap();
        room.hub.send(client, data::message(number, 200)).unwrap();
    }
    let buffered = room.hub.write_buffer_len(client);
    assert!(buffered > 10 * (104 + 204), "{buffered} bytes");
    let shutdown = room.hub.shutdown_handle();
    thread::scope(|scope| {
        let block = &block;
        scope.spawn(move || {
            (0..count).for_each(|number| expect(&mut connection, number, 3001));
            for number in 0..10 {
                expect_block(&mut connection, data::message(number, 100), block);
                expect(&mut connection, number, 200);
            }
            shutdown.shutdown();
        });
        assert_eq!(room.hub.next_event().unwrap_err().kind(), ErrorKind::Shutdown);
    });
}

fn the_number_of_blocks_that_wait_is_limited(transport: Transport) {
    let mut room = Room::with(transport, &options(SlowClientPolicy::Refuse));
    let (client, mut connection) = join(&mut room);
    let block = SharedBytes::new(b"block").unwrap();
    let message = Payload::new(b"with a block");
    let count = fill(&mut room, client);
    room.hub.send(client, message.shared(&[&block])).unwrap();
    room.hub.send(client, message.shared(&[&block])).unwrap();
    let error = room.hub.send(client, message.shared(&[&block])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert_eq!(room.hub.broadcast(message.shared(&[&block])).unwrap(), [client]);
    room.hub.send(client, b"bytes have a limit of their own").unwrap();
    for number in 0..count {
        room.assert_quiet();
        expect(&mut connection, number, 3001);
    }
    for _ in 0..2 {
        room.assert_quiet();
        expect_block(&mut connection, b"with a block", &block);
    }
    room.hub.send(client, message.shared(&[&block, &block, &block])).unwrap();
    room.assert_quiet();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"bytes have a limit of their own");
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap().take_shared().unwrap().len(), 3);
}

fn a_client_with_too_many_blocks_is_slow(transport: Transport) {
    let mut room = Room::with(transport, &options(SlowClientPolicy::Disconnect));
    let (client, connection) = join(&mut room);
    let block = SharedBytes::new(b"block").unwrap();
    fill(&mut room, client);
    for _ in 0..3 {
        room.hub.send(client, Payload::new(b"").shared(&[&block])).unwrap();
    }
    assert!(matches!(room.left(client), DisconnectReason::Slow));
    drop(connection);
}

fn the_hub_waits_until_a_block_has_room(transport: Transport) {
    const BLOCKS: usize = 300;
    let mut room = Room::with(transport, &options(SlowClientPolicy::Wait(DEADLINE)));
    let (client, mut connection) = join(&mut room);
    let block = SharedBytes::new(b"block").unwrap();
    let shutdown = room.hub.shutdown_handle();
    thread::scope(|scope| {
        let sent = &block;
        scope.spawn(move || {
            for number in 0..BLOCKS {
                expect_block(&mut connection, data::message(number, 2000), sent);
            }
            shutdown.shutdown();
        });
        for number in 0..BLOCKS {
            room.hub.send(client, Payload::new(data::message(number, 2000)).shared(&[&block])).unwrap();
        }
        assert_eq!(room.hub.next_event().unwrap_err().kind(), ErrorKind::Shutdown);
    });
}

fn the_blocks_of_other_threads_are_limited(transport: Transport) {
    let mut room = Room::with(transport, &options(SlowClientPolicy::Refuse));
    let (client, mut connection) = join(&mut room);
    let handle = room.hub.handle().unwrap();
    let block = SharedBytes::new(b"block").unwrap();
    let blocks = [&block];
    let message = Payload::new(b"frame").shared(&blocks);
    handle.send(client, message).unwrap();
    handle.send(client, message).unwrap();
    match handle.send(client, message) {
        Err(TrySendError::Full(_)) => {}
        other => panic!("{other:?}"),
    }
    handle.send(client, b"bytes").unwrap();
    room.assert_quiet();
    handle.send(client, message).unwrap();
    room.assert_quiet();
    room.hub.flush().unwrap();
    expect_block(&mut connection, b"frame", &block);
    expect_block(&mut connection, b"frame", &block);
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"bytes");
    expect_block(&mut connection, b"frame", &block);
}

/// The channel is full, and nothing is in the write buffer.
fn closing_delivers_blocks_before_which_nothing_waits(transport: Transport) {
    const BYTES: &[u8] = &[b'x'; 3000];
    let mut room = Room::with(transport, &options(SlowClientPolicy::Refuse));
    let (client, mut connection) = join(&mut room);
    let block = SharedBytes::new(b"block").unwrap();
    let mut count = 0;
    while room.hub.write_buffer_len(client) == 0 {
        room.hub.send(client, Payload::new(BYTES).shared(&[&block])).unwrap();
        count += 1;
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            (0..count).for_each(|_| expect_block(&mut connection, BYTES, &block));
            assert_eq!(connection.recv_timeout(DEADLINE).unwrap(), None);
        });
        room.hub.close_timeout(DEADLINE).unwrap();
    });
}

fn closing_delivers_the_blocks_that_wait(transport: Transport) {
    let mut room = Room::with(transport, &options(SlowClientPolicy::Refuse));
    let (client, mut connection) = join(&mut room);
    let handle = room.hub.handle().unwrap();
    let block = SharedBytes::new(b"block").unwrap();
    let count = fill(&mut room, client);
    for _ in 0..2 {
        room.hub.send(client, Payload::new(b"sent").shared(&[&block])).unwrap();
        // The client has no room for these before the hub closes.
        handle.send(client, Payload::new(b"queued").shared(&[&block])).unwrap();
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            (0..count).for_each(|number| expect(&mut connection, number, 3001));
            for bytes in [&b"sent"[..], b"sent", b"queued", b"queued"] {
                expect_block(&mut connection, bytes, &block);
            }
            assert_eq!(connection.recv_timeout(DEADLINE).unwrap(), None);
        });
        room.hub.close_timeout(DEADLINE).unwrap();
    });
}

fn finishing_waits_for_the_blocks_that_wait(transport: Transport) {
    let mut room = Room::with(transport, &options(SlowClientPolicy::Refuse));
    let (client, mut connection) = join(&mut room);
    let block = SharedBytes::new(b"block").unwrap();
    let count = fill(&mut room, client);
    room.hub.send(client, Payload::new(b"the last").shared(&[&block])).unwrap();
    room.hub.finish(client).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            (0..count).for_each(|number| expect(&mut connection, number, 3001));
            expect_block(&mut connection, b"the last", &block);
            assert_eq!(connection.recv_timeout(DEADLINE).unwrap(), None);
            connection.finish().unwrap();
        });
        room.closed(client);
    });
}

fn a_client_that_leaves_gives_its_blocks_back(transport: Transport) {
    let mut room = Room::with(transport, &options(SlowClientPolicy::Refuse));
    let (client, connection) = join(&mut room);
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    fill(&mut room, client);
    let block = SharedBytes::new(b"block").unwrap();
    room.hub.send(client, Payload::new(b"").shared(&[&block])).unwrap();
    drop(block);
    assert_eq!(descriptors(), before + 1, "the block waits");
    drop(connection);
    loop {
        match room.event() {
            Event::Left(who, _) if who == client => break,
            Event::Finished(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(descriptors() < before, "the block was dropped with its client");
}

fn a_client_that_allows_no_descriptors_misses_blocks_alone(transport: Transport) {
    if !kernel_refuses_descriptors() {
        return;
    }
    let mut room = Room::with(transport, &options(SlowClientPolicy::Disconnect));
    let (client, mut connection) = room.join();
    let (_, mut other) = join(&mut room);
    let block = SharedBytes::new(b"block").unwrap();
    room.hub.send(client, b"before").unwrap();
    let error = room.hub.send(client, Payload::new(b"x").shared(&[&block])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert_tells(&error);
    assert_eq!(room.hub.broadcast(Payload::new(b"for one").shared(&[&block])).unwrap(), [client]);
    room.hub.send(client, b"after").unwrap();
    let handle = room.hub.handle().unwrap();
    handle.broadcast(Payload::new(b"for one").shared(&[&block])).unwrap();
    assert!(matches!(room.event(), Event::Missed(who) if who == client));
    room.assert_quiet();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"before");
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"after");
    for _ in 0..2 {
        expect_block(&mut other, b"for one", &block);
    }
    // A block that waits is lost when its turn comes, and that is reported. What is behind it arrives.
    let count = fill(&mut room, client);
    room.hub.send(client, Payload::new(b"x").shared(&[&block])).unwrap();
    room.hub.send(client, b"behind").unwrap();
    let mut missed = false;
    for number in 0..count {
        match room.hub.try_next_event() {
            Err(TryRecvError::Empty) => {}
            Ok(Event::Missed(who)) if who == client => missed = true,
            other => panic!("{other:?}"),
        }
        expect(&mut connection, number, 3001);
    }
    if !missed {
        assert!(matches!(room.event(), Event::Missed(who) if who == client));
    }
    room.assert_quiet();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"behind");
}

fn a_block_for_a_client_over_fifo_is_missed_and_reported(transport: Transport) {
    let server = ServerOptions::new().transports([transport, Transport::Fifo]);
    let base = crate::support::Base::new();
    let address = |transport: Transport| base.address(transport, "room");
    let plain = base.name("room").display().to_string();
    let mut hub = HubOptions::from(server).bind(plain).unwrap();
    let block = SharedBytes::new(data::message(1, 1000)).unwrap();
    let options = ConnectOptions::new().fds_max(1);
    thread::scope(|scope| {
        let connecting = scope.spawn(|| options.connect(address(transport)).unwrap());
        let good = joined(&mut hub);
        let mut connection = connecting.join().unwrap();
        let connecting = scope.spawn(|| options.connect(address(Transport::Fifo)).unwrap());
        let poor = joined(&mut hub);
        let mut other = connecting.join().unwrap();
        let error = hub.send(poor, Payload::new(b"x").shared(&[&block])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert_tells(&error);
        let missed = hub.broadcast(Payload::new(b"frame").shared(&[&block])).unwrap();
        assert_eq!(missed, [poor]);
        assert_eq!(hub.send_to(missed, &*block).unwrap(), []);
        hub.handle().unwrap().broadcast(Payload::new(b"again").shared(&[&block])).unwrap();
        match hub.next_event_timeout(DEADLINE) {
            Ok(Event::Missed(client)) => assert_eq!(client, poor),
            other => panic!("{other:?}"),
        }
        hub.flush().unwrap();
        expect_block(&mut connection, b"frame", &block);
        expect_block(&mut connection, b"again", &block);
        data::check(&other.recv_timeout(DEADLINE).unwrap().unwrap(), 1, 1000);
        hub.send(good, b"bytes").unwrap();
        hub.flush().unwrap();
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"bytes");
    });
}

fn descriptors_other_than_blocks_are_refused() {
    let mut room = Room::new(Transport::Unix);
    let (client, connection) = join(&mut room);
    let null = std::fs::File::open("/dev/null").unwrap();
    let error = room.hub.send(client, Payload::new(b"x").fds(&[null.as_fd()])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_tells(&error);
    let block = SharedBytes::new(b"block").unwrap();
    let error = room.hub.send(client, Payload::new(b"x").shared(&[&block; 254])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MessageTooLong, "{error}");
    assert_tells(&error);
    drop(connection);
}
