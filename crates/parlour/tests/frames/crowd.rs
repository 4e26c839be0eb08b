//! One publisher and many readers.

use std::thread;

use parlour::frames::{AtShare, FrameLimits, FramePoolOptions, FrameReader};
use parlour::hub::{Event, HubOptions};
use parlour::{Connection, ErrorKind, ServerOptions, Transport, TrySendError};

use super::ends::{CARRIERS, End, LEN, attach, check, fill, options};
use crate::support::{Base, DEADLINE, data, trials};

trials! {
    for transport in CARRIERS =>
        a_hub_sends_each_frame_to_all_of_its_readers,
        a_reader_that_keeps_its_frames_delays_no_other,
        four_readers_in_threads_see_every_frame_whole;
}

fn a_hub_sends_each_frame_to_all_of_its_readers(transport: Transport) {
    const READERS: usize = 4;
    let base = Base::new();
    let address = base.address(transport, "camera");
    let mut hub = HubOptions::from(ServerOptions::new().fds_max(2)).bind(&address).unwrap();
    let mut pool = options(2).readers(READERS).create().unwrap();
    let mut readers = Vec::new();
    let connecting: Vec<_> = (0..READERS)
        .map(|_| {
            let address = address.clone();
            thread::spawn(move || {
                let mut connection = Connection::connect(&address).unwrap();
                let reader = FrameReader::attach(&FrameLimits::new(), |payload| connection.send(payload)).unwrap();
                End { connection, reader }
            })
        })
        .collect();
    while readers.len() < READERS {
        match hub.next_event_timeout(DEADLINE).unwrap() {
            Event::Joined(..) => {}
            Event::Message(client, message) => {
                let peer = hub.peer(client).unwrap().clone();
                readers.push((client, pool.admit(message, &peer).unwrap()));
            }
            event => panic!("{event:?}"),
        }
    }
    let mut ends: Vec<_> = connecting.into_iter().map(|thread| thread.join().unwrap()).collect();
    for seed in 0..20 {
        let frame = fill(&mut pool, seed);
        for (client, reader) in &readers {
            pool.send(*reader, &frame, b"note", |payload| hub.send(*client, payload)).unwrap();
        }
        hub.flush().unwrap();
        drop(frame);
        for end in &mut ends {
            let frame = end.open();
            assert!(frame.is_lent());
            check(&frame, seed);
        }
    }
    // Another thread sends through a handle, and a client that has left costs nothing.
    let handle = hub.handle().unwrap();
    ends.remove(0);
    let frame = fill(&mut pool, 100);
    for (client, reader) in &readers {
        let outcome = pool.send(*reader, &frame, b"note", |payload| {
            handle.send(*client, payload).map_err(|error| match error {
                TrySendError::Failed(error) => error,
                TrySendError::Full(_) => panic!("the queue of the handle has room"),
            })
        });
        outcome.or_else(|error| if error.kind() == ErrorKind::Disconnected { Ok(()) } else { Err(error) }).unwrap();
    }
    handle.wake();
    let (mut left, mut is_woken) = (None, false);
    while left.is_none() || !is_woken {
        match hub.next_event_timeout(DEADLINE).unwrap() {
            Event::Left(client, _) => left = Some(client),
            // The messages that were queued before were taken before.
            Event::Woken => is_woken = true,
            _ => {}
        }
    }
    hub.flush().unwrap();
    for end in &mut ends {
        check(&end.open(), 100);
    }
    let (_, gone) = readers.iter().find(|(client, _)| Some(*client) == left).unwrap();
    drop(frame);
    let all: Vec<_> = (0..pool.blocks()).map(|_| pool.loan_timeout(DEADLINE).unwrap()).collect();
    assert_eq!(all.len(), READERS * 2 + 1);
    assert_eq!(pool.held_by(*gone), 0);
}

fn a_reader_that_keeps_its_frames_delays_no_other(transport: Transport) {
    let mut pool = options(2).readers(2).at_share(AtShare::Refuse).create().unwrap();
    let (mut slow, slow_id, mut slow_end) = attach(&mut pool, transport, &FrameLimits::new());
    let (mut quick, quick_id, mut quick_end) = attach(&mut pool, transport, &FrameLimits::new());
    let mut kept = Vec::new();
    for seed in 0..50 {
        let frame = fill(&mut pool, seed);
        match pool.send(slow_id, &frame, b"note", |payload| slow.send(payload)) {
            Ok(()) => kept.push((seed, slow_end.open())),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Busy),
        }
        pool.send(quick_id, &frame, b"note", |payload| quick.send(payload)).unwrap();
        let received = quick_end.open();
        assert!(received.is_lent());
        check(&received, seed);
    }
    assert_eq!(kept.len(), 2);
    for (seed, frame) in &kept {
        check(frame, *seed);
    }
}

/// The publisher waits for blocks, and readers drop their frames in other threads.
fn four_readers_in_threads_see_every_frame_whole(transport: Transport) {
    const FRAMES: usize = 400;
    let mut pool = FramePoolOptions::new(LEN).share(2).at_share(AtShare::Wait).create().unwrap();
    let mut readers = Vec::new();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (connection, id, mut end) = attach(&mut pool, transport, &FrameLimits::new());
            readers.push((connection, id));
            thread::spawn(move || {
                let mut seed = 0;
                let mut before = None;
                while let Some(message) = end.connection.recv_timeout(DEADLINE).unwrap() {
                    let frame = end.reader.open(message).unwrap();
                    assert!(frame.is_lent());
                    data::check(&frame.to_vec().unwrap(), seed, LEN);
                    seed += 1;
                    // Every second frame is kept until the next one.
                    before = (seed % 2 == 0).then_some(frame);
                }
                drop(before);
                seed
            })
        })
        .collect();
    for seed in 0..FRAMES {
        let mut frame = pool.loan_timeout(DEADLINE).unwrap();
        frame.copy_from_slice(data::message(seed, LEN));
        let frame = frame.freeze();
        for (connection, id) in &mut readers {
            let send = |payload: parlour::Payload<'_>| connection.send_timeout(payload, DEADLINE);
            pool.send_timeout(*id, &frame, b"note", DEADLINE, send).unwrap();
        }
    }
    drop(readers);
    for thread in threads {
        assert_eq!(thread.join().unwrap(), FRAMES);
    }
    let all: Vec<_> = (0..9).map(|_| pool.loan_timeout(DEADLINE).unwrap()).collect();
    assert_eq!(all.len(), pool.blocks());
}
