//! Pools and readers of tasks.

use std::future::Future;
use std::task::{Context, Poll, Waker};

use parlour::frames::{AtShare, Frame, FrameLimits};
use parlour::tokio::{Connection, FramePool};
use parlour::{ErrorKind, Transport};

use super::ends::{CARRIERS, End, LEN, attach, check, options};
use crate::support::{DEADLINE, data, trials};

trials! {
    for transport in CARRIERS =>
        readers_in_tasks_see_every_frame_whole,
        a_task_that_waits_for_a_block_is_woken_by_a_drop_and_by_an_end,
        a_task_waits_for_a_reader_at_its_share;

    a_dropped_future_has_lent_nothing,
    a_pool_outside_of_a_runtime_is_an_error,
}

fn run(work: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE * 3, work).await.expect("the deadline passed") });
}

async fn fill(pool: &mut FramePool, seed: usize) -> Frame {
    let mut frame = pool.loan().await.unwrap();
    frame.copy_from_slice(data::message(seed, LEN));
    frame.freeze()
}

fn readers_in_tasks_see_every_frame_whole(transport: Transport) {
    const FRAMES: usize = 200;
    run(async move {
        let mut pool = options(2).readers(4).at_share(AtShare::Wait).create().unwrap();
        let (mut readers, mut tasks) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            let (connection, id, End { connection: theirs, mut reader }) =
                attach(&mut pool, transport, &FrameLimits::new());
            readers.push((Connection::from_blocking(connection).unwrap(), id));
            let mut theirs = Connection::from_blocking(theirs).unwrap();
            tasks.push(tokio::spawn(async move {
                let mut seed = 0;
                let mut before = None;
                while let Some(message) = theirs.recv().await.unwrap() {
                    let frame = reader.open(message).unwrap();
                    assert!(frame.is_lent());
                    check(&frame, seed);
                    seed += 1;
                    before = (seed % 2 == 0).then_some(frame);
                }
                drop(before);
                seed
            }));
        }
        let mut pool = FramePool::new(pool).unwrap();
        for seed in 0..FRAMES {
            let frame = fill(&mut pool, seed).await;
            for (connection, id) in &mut readers {
                pool.send(*id, &frame, b"note", connection).await.unwrap();
            }
        }
        drop(readers);
        for task in tasks {
            assert_eq!(task.await.unwrap(), FRAMES);
        }
        let mut all = Vec::new();
        while all.len() < 9 {
            all.push(pool.loan().await.unwrap());
        }
    });
}

fn a_task_that_waits_for_a_block_is_woken_by_a_drop_and_by_an_end(transport: Transport) {
    run(async move {
        let mut pool = options(1).create().unwrap();
        let (connection, id, mut end) = attach(&mut pool, transport, &FrameLimits::new());
        let mut connection = Connection::from_blocking(connection).unwrap();
        let mut pool = FramePool::new(pool).unwrap();
        let _kept = fill(&mut pool, 0).await;
        for seed in 0..20 {
            let frame = fill(&mut pool, seed).await;
            pool.send(id, &frame, b"note", &mut connection).await.unwrap();
            drop(frame);
            let received = end.open();
            assert!(received.is_lent());
            check(&received, seed);
            let waiting = tokio::spawn(async move {
                drop(pool.loan().await.unwrap());
                pool
            });
            // The task polls. Whether it has then begun to wait makes no difference.
            tokio::task::yield_now().await;
            drop(received);
            pool = waiting.await.unwrap();
        }
        let frame = fill(&mut pool, 100).await;
        pool.send(id, &frame, b"note", &mut connection).await.unwrap();
        drop(frame);
        let waiting = tokio::spawn(async move { drop(pool.loan().await.unwrap()) });
        tokio::task::yield_now().await;
        drop(end);
        waiting.await.unwrap();
    });
}

fn a_task_waits_for_a_reader_at_its_share(transport: Transport) {
    run(async move {
        let mut pool = options(1).at_share(AtShare::Wait).create().unwrap();
        let (connection, id, mut end) = attach(&mut pool, transport, &FrameLimits::new());
        let mut connection = Connection::from_blocking(connection).unwrap();
        let mut pool = FramePool::new(pool).unwrap();
        let first = fill(&mut pool, 1).await;
        pool.send(id, &first, b"note", &mut connection).await.unwrap();
        let received = end.open();
        let second = fill(&mut pool, 2).await;
        let sending = tokio::spawn(async move {
            pool.send(id, &second, b"note", &mut connection).await.unwrap();
            (pool, connection, second)
        });
        tokio::task::yield_now().await;
        assert!(!sending.is_finished());
        drop(received);
        let (mut pool, mut connection, second) = sending.await.unwrap();
        check(&end.open(), 2);
        drop(end);
        // A reader that ends while the task waits is an error.
        let outcome = loop {
            let outcome = pool.send(id, &second, b"note", &mut connection).await;
            if outcome.is_err() {
                break outcome;
            }
        };
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Disconnected);
    });
}

fn a_dropped_future_has_lent_nothing() {
    run(async {
        let mut pool = FramePool::new(options(1).create().unwrap()).unwrap();
        let held = [fill(&mut pool, 1).await, fill(&mut pool, 2).await];
        for _ in 0..3 {
            let mut future = Box::pin(pool.loan());
            let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(polled, Poll::Pending));
        }
        drop(held);
        let _both = [pool.loan().await.unwrap(), pool.loan().await.unwrap()];
    });
}

fn a_pool_outside_of_a_runtime_is_an_error() {
    let error = FramePool::new(options(1).create().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
