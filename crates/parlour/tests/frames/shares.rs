//! Readers that keep their frames: what the publisher does, and that it wakes when one is returned.

use std::os::fd::AsFd;
use std::time::Duration;

use parlour::frames::{AtShare, FrameLimits, FramePool, FramePoolOptions};
use parlour::{Error, ErrorKind, Transport};

use super::ends::{CARRIERS, LEN, attach, check, ends, fill, options};
use crate::support::wait::Sleeper;
use crate::support::{DEADLINE, assert_tells, trials, wait};

trials! {
    for transport in CARRIERS =>
        a_reader_at_its_share_gets_frames_by_value,
        a_reader_at_its_share_is_refused_if_the_options_say_so,
        a_send_to_a_reader_at_its_share_times_out_or_goes_on_when_a_frame_is_dropped,
        a_loop_of_events_learns_when_a_reader_has_place,
        readers_beyond_the_shares_get_frames_by_value_until_one_has_ended,
        a_waiting_loan_is_woken_by_the_drop_of_a_frame,
        a_waiting_loan_is_woken_by_the_end_of_a_reader;

    a_removed_reader_that_holds_nothing_leaves_its_share_to_others,
    a_pool_beyond_the_limits_of_a_reader_is_not_mapped,
    a_frame_that_is_too_long_to_be_copied_is_refused,
    a_send_that_fails_leaves_the_block_free,
    a_waiting_loan_is_woken_by_a_handle_of_this_process,
    the_descriptor_of_a_pool_is_readable_when_a_block_was_returned,
    the_descriptor_is_still_readable_after_an_admission_and_after_a_send,
    the_descriptor_is_still_readable_after_other_readers_were_found_to_have_no_place,
    the_number_of_readers_is_limited_and_those_count_that_only_keep_a_frame,
    a_loan_times_out_while_everything_is_held,
    a_publisher_that_keeps_frames_does_not_wait_for_its_readers,
}

fn a_reader_at_its_share_gets_frames_by_value(transport: Transport) {
    let (mut publisher, mut end) = ends(transport, &options(2));
    let mut kept = Vec::new();
    for seed in 0..10 {
        publisher.publish(seed);
        kept.push(end.open());
    }
    for (seed, frame) in kept.iter().enumerate() {
        assert_eq!(frame.is_lent(), seed < 2);
        check(frame, seed);
    }
    assert_eq!(publisher.held(), 2);
    drop(kept);
    publisher.publish(10);
    assert!(end.open().is_lent());
}

fn a_reader_at_its_share_is_refused_if_the_options_say_so(transport: Transport) {
    let (mut publisher, mut end) = ends(transport, &options(1).at_share(AtShare::Refuse));
    publisher.publish(1);
    let frame = end.open();
    let second = publisher.fill(2);
    let error = publisher.send(&second).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert_tells(&error);
    drop(frame);
    publisher.send(&second).unwrap();
    check(&end.open(), 2);
}

fn a_send_to_a_reader_at_its_share_times_out_or_goes_on_when_a_frame_is_dropped(transport: Transport) {
    let (mut publisher, mut end) = ends(transport, &options(1).at_share(AtShare::Wait));
    publisher.publish(1);
    let frame = end.open();
    let second = publisher.fill(2);
    let (pool, connection, id) = (&mut publisher.pool, &mut publisher.connection, publisher.id);
    let outcome = pool.send_timeout(id, &second, b"", Duration::from_millis(20), |payload| connection.send(payload));
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_tells(&error);
    let sending = Sleeper::start(move || {
        publisher.send(&second).unwrap();
        publisher
    });
    drop(frame);
    let _publisher = sending.result();
    check(&end.open(), 2);
}

fn a_loop_of_events_learns_when_a_reader_has_place(transport: Transport) {
    let (mut publisher, mut end) = ends(transport, &options(1).at_share(AtShare::Wait));
    let frame = publisher.fill(1);
    assert!(publisher.pool.has_place(publisher.id, &frame).unwrap());
    publisher.send(&frame).unwrap();
    let next = publisher.fill(2);
    let received = end.open();
    assert!(!publisher.pool.has_place(publisher.id, &next).unwrap());
    assert!(!wait::readable_within(publisher.pool.as_fd(), Duration::ZERO));
    drop(received);
    assert!(wait::readable(publisher.pool.as_fd()));
    assert!(publisher.pool.has_place(publisher.id, &next).unwrap());
    publisher.pool.remove(publisher.id);
    assert_eq!(publisher.pool.has_place(publisher.id, &next).unwrap_err().kind(), ErrorKind::Disconnected);
}

fn readers_beyond_the_shares_get_frames_by_value_until_one_has_ended(transport: Transport) {
    let mut pool = options(1).create().unwrap();
    let (mut first, first_id, mut first_end) = attach(&mut pool, transport, &FrameLimits::new());
    let (mut second, second_id, mut second_end) = attach(&mut pool, transport, &FrameLimits::new());
    let frame = fill(&mut pool, 1);
    pool.send(first_id, &frame, b"note", |payload| first.send(payload)).unwrap();
    pool.send(second_id, &frame, b"note", |payload| second.send(payload)).unwrap();
    let (one, other) = (first_end.open(), second_end.open());
    assert!(one.is_lent());
    assert!(!other.is_lent(), "the only share is taken");
    check(&other, 1);
    drop((one, first, first_end));
    // A loan that finds nothing at once looks at the leases. So does an admission.
    let all: Vec<_> = (2..3).map(|seed| fill(&mut pool, seed)).collect();
    assert!(pool.try_loan().unwrap().is_none(), "both blocks are held by this process");
    pool.send(second_id, &all[0], b"note", |payload| second.send(payload)).unwrap();
    let other = second_end.open();
    assert!(other.is_lent(), "the share of the first reader is free");
    check(&other, 2);
}

fn a_waiting_loan_is_woken_by_the_drop_of_a_frame(transport: Transport) {
    let (mut publisher, mut end) = ends(transport, &options(2));
    // The last block is kept by this process.
    let _kept = publisher.fill(0);
    let mut frames = Vec::new();
    for seed in 1..3 {
        publisher.publish(seed);
        frames.push(end.open());
    }
    for seed in 3..20 {
        let loaning = Sleeper::start(move || {
            let frame = publisher.pool.loan().unwrap();
            drop(frame);
            publisher
        });
        frames.remove(0);
        publisher = loaning.result().0;
        publisher.publish(seed);
        frames.push(end.open());
        assert!(frames.iter().all(|frame| frame.is_lent()));
    }
}

fn a_waiting_loan_is_woken_by_the_end_of_a_reader(transport: Transport) {
    let (mut publisher, mut end) = ends(transport, &options(1));
    publisher.publish(0);
    drop(end.open());
    let _kept = publisher.fill(1);
    publisher.publish(2);
    let loaning = Sleeper::start(move || {
        publisher.pool.loan().unwrap();
        publisher
    });
    // Nobody returns the block: its message was not opened.
    drop(end);
    let _publisher = loaning.result();
}

fn a_removed_reader_that_holds_nothing_leaves_its_share_to_others() {
    let mut pool = options(1).create().unwrap();
    let (mut first, first_id, mut first_end) = attach(&mut pool, Transport::Unix, &FrameLimits::new());
    let (mut second, second_id, mut second_end) = attach(&mut pool, Transport::Unix, &FrameLimits::new());
    let frame = fill(&mut pool, 1);
    pool.send(first_id, &frame, b"note", |payload| first.send(payload)).unwrap();
    let kept = first_end.open();
    pool.remove(first_id);
    let mut is_lent = |pool: &mut FramePool| {
        pool.send(second_id, &frame, b"note", |payload| second.send(payload)).unwrap();
        second_end.open().is_lent()
    };
    assert!(!is_lent(&mut pool), "the removed reader holds a block");
    drop(kept);
    // Its process keeps the reader.
    assert!(is_lent(&mut pool));
    drop(first_end);
}

fn a_pool_beyond_the_limits_of_a_reader_is_not_mapped() {
    for limits in [FrameLimits::new().frame_max(LEN as u64 - 1), FrameLimits::new().bytes_max(3 * LEN as u64)] {
        let mut pool = options(2).create().unwrap();
        let (mut connection, id, mut end) = attach(&mut pool, Transport::Unix, &limits);
        let frame = fill(&mut pool, 1);
        pool.send(id, &frame, b"note", |payload| connection.send(payload)).unwrap();
        let received = end.open();
        assert!(!received.is_lent());
        check(&received, 1);
        assert_eq!(pool.held_by(id), 0);
    }
}

fn a_frame_that_is_too_long_to_be_copied_is_refused() {
    let (mut publisher, mut end) = ends(Transport::Unix, &options(1).by_value_max(LEN - 1));
    publisher.publish(1);
    let first = end.open();
    let second = publisher.fill(2);
    assert_eq!(publisher.send(&second).unwrap_err().kind(), ErrorKind::Busy);
    drop(first);
    publisher.send(&second).unwrap();
    assert!(end.open().is_lent());
}

fn a_send_that_fails_leaves_the_block_free() {
    let (mut publisher, mut end) = ends(Transport::Unix, &options(1));
    let frame = publisher.fill(1);
    for _ in 0..3 {
        let fails = |_: parlour::Payload<'_>| -> Result<(), Error> { Err(pool_error()) };
        publisher.pool.send(publisher.id, &frame, b"", fails).unwrap_err();
    }
    assert_eq!(publisher.held(), 0);
    publisher.send(&frame).unwrap();
    let received = end.open();
    assert!(received.is_lent());
    // A send that fails while the reader has the block changes nothing either.
    publisher.pool.send(publisher.id, &frame, b"", |_| Err(pool_error())).unwrap_err();
    assert_eq!(publisher.held(), 1);
    drop(received);
    assert_eq!(publisher.held(), 0);
}

/// Returns any error.
fn pool_error() -> Error {
    FramePool::new(0).unwrap_err()
}

fn a_waiting_loan_is_woken_by_a_handle_of_this_process() {
    let mut pool = FramePoolOptions::new(LEN).readers(1).share(1).create().unwrap();
    let (one, other) = (fill(&mut pool, 1), pool.loan().unwrap());
    let clone = one.clone();
    drop(one);
    assert!(pool.try_loan().unwrap().is_none(), "the clone holds the block");
    let loaning = Sleeper::start(move || {
        drop(pool.loan().unwrap());
        pool
    });
    drop(clone);
    let (mut pool, _) = loaning.result();
    let _third = fill(&mut pool, 3);
    let loaning = Sleeper::start(move || drop(pool.loan().unwrap()));
    // A block that was never sent.
    drop(other);
    loaning.result();
}

fn the_descriptor_of_a_pool_is_readable_when_a_block_was_returned() {
    let (mut publisher, mut end) = ends(Transport::Unix, &options(1));
    let _kept = publisher.fill(0);
    publisher.publish(1);
    let frame = end.open();
    for _ in 0..3 {
        assert!(publisher.pool.try_loan().unwrap().is_none());
        assert!(!wait::readable_within(publisher.pool.as_fd(), Duration::ZERO));
    }
    drop(frame);
    assert!(wait::readable(publisher.pool.as_fd()));
    assert!(publisher.pool.try_loan().unwrap().is_some());
}

/// Both take the rings and the ends, for which a loop of events may wait.
fn the_descriptor_is_still_readable_after_an_admission_and_after_a_send() {
    for ends_reader in [false, true] {
        for sends in [false, true] {
            let (mut publisher, mut end) = ends(Transport::Unix, &options(1).readers(2).at_share(AtShare::Wait));
            let (mut other, other_id, mut other_end) =
                attach(&mut publisher.pool, Transport::Unix, &FrameLimits::new());
            let kept = publisher.fill(0);
            publisher.publish(1);
            let frame = end.open();
            publisher.pool.send(other_id, &kept, b"", |payload| other.send(payload)).unwrap();
            let last = publisher.fill(2);
            assert!(publisher.pool.try_loan().unwrap().is_none());
            drop(frame);
            if ends_reader {
                drop(end);
            }
            match sends {
                false => drop(attach(&mut publisher.pool, Transport::Unix, &FrameLimits::new())),
                true => {
                    // Waits in vain, and then for the drop.
                    let sent = publisher.pool.send_timeout(other_id, &last, b"", Duration::ZERO, |_| Ok(()));
                    assert_eq!(sent.unwrap_err().kind(), ErrorKind::TimedOut);
                }
            }
            assert!(wait::readable(publisher.pool.as_fd()));
            assert!(publisher.pool.try_loan().unwrap().is_some());
            drop(other_end.open());
        }
    }
}

fn the_descriptor_is_still_readable_after_other_readers_were_found_to_have_no_place() {
    for has_ended in [false, true] {
        let mut pool = options(1).readers(3).at_share(AtShare::Wait).create().unwrap();
        let mut readers: Vec<_> = (0..3).map(|_| attach(&mut pool, Transport::Unix, &FrameLimits::new())).collect();
        let frame = fill(&mut pool, 1);
        let mut kept = Vec::new();
        for (connection, id, end) in &mut readers {
            pool.send(*id, &frame, b"note", |payload| connection.send(payload)).unwrap();
            kept.push(end.open());
        }
        let ids: Vec<_> = readers.iter().map(|(_, id, _)| *id).collect();
        let next = fill(&mut pool, 2);
        assert!(!pool.has_place(ids[0], &next).unwrap());
        kept.remove(0);
        if has_ended {
            readers.remove(0);
        }
        for id in &ids[1..] {
            assert!(!pool.has_place(*id, &next).unwrap());
        }
        assert!(wait::readable_within(pool.as_fd(), Duration::ZERO), "the first reader has place, or has ended");
        // The others find nothing again, and do not wake each other for ever.
        let mut count = 0;
        while wait::readable_within(pool.as_fd(), Duration::ZERO) {
            count += 1;
            assert!(count < 10, "the descriptor stays readable");
            for id in &ids[1..] {
                assert!(!pool.has_place(*id, &next).unwrap());
            }
        }
    }
}

fn the_number_of_readers_is_limited_and_those_count_that_only_keep_a_frame() {
    let limited = [options(1).leases_max(2), options(1).leases_per_uid_max(2)];
    for options in limited {
        let mut pool = options.create().unwrap();
        let (mut first, id, mut first_end) = attach(&mut pool, Transport::Unix, &FrameLimits::new());
        let _second = attach(&mut pool, Transport::Unix, &FrameLimits::new());
        let frame = fill(&mut pool, 1);
        pool.send(id, &frame, b"note", |payload| first.send(payload)).unwrap();
        let kept = first_end.open();
        drop((first, first_end));
        pool.remove(id);
        let refused = |pool: &mut FramePool| {
            let (mut ours, mut theirs) = super::ends::pair(Transport::Unix);
            let attach = parlour::frames::FrameReader::attach(&FrameLimits::new(), |payload| theirs.send(payload));
            let _reader = attach.unwrap();
            pool.admit(ours.recv().unwrap().unwrap(), ours.peer()).err()
        };
        let error = refused(&mut pool).expect("two readers have a lease");
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert_tells(&error);
        drop(kept);
        assert!(refused(&mut pool).is_none());
    }
}

fn a_loan_times_out_while_everything_is_held() {
    let mut pool = FramePool::new(LEN).unwrap();
    let all: Vec<_> = (0..pool.blocks()).map(|seed| fill(&mut pool, seed)).collect();
    let error = pool.loan_timeout(Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_tells(&error);
    drop(all);
    pool.loan_timeout(DEADLINE).unwrap();
}

fn a_publisher_that_keeps_frames_does_not_wait_for_its_readers() {
    let (mut publisher, mut end) = ends(Transport::Unix, &options(2).own_blocks(3));
    assert_eq!(publisher.pool.blocks(), 5);
    let _kept = [publisher.fill(0), publisher.fill(1)];
    let mut frames = Vec::new();
    for seed in 2..6 {
        publisher.publish(seed);
        frames.push(end.open());
    }
    assert_eq!(frames.iter().map(|frame| frame.is_lent()).collect::<Vec<_>>(), [true, true, false, false]);
    let _last = publisher.fill(6);
    assert!(publisher.pool.try_loan().unwrap().is_none());
}
