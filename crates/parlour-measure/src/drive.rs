//! The client's side of a turn: warm-up, then samples.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;

use crate::client::Client;
use crate::count;
use crate::outcome::{Amount, Outcome, Turn};
use crate::work::Work;

/// The minimum duration of the warm-up. The first messages meet cold caches, pages that are not mapped yet, and a
/// scheduler that has not seen these processes.
const WARM_UP: Duration = Duration::from_millis(10);

/// The minimum number of operations of the warm-up.
const WARM_UP_OPERATIONS: u64 = 3;

/// Runs the client's side of a turn. `connect` opens one connection to the server of the turn.
pub(crate) fn turn(
    connect: impl Fn() -> Result<Box<dyn Client>>,
    turn: Turn,
    start: &mut dyn FnMut() -> Result<()>,
) -> Result<Outcome> {
    let work = turn.work;
    let message = pattern(work.size());
    let mut reply = Vec::with_capacity(work.size());
    match work {
        Work::RoundTrip { .. } => {
            let mut client = connect()?;
            client.round_trip(&message, &mut reply)?;
            ensure!(reply == message, "the answer differs from the message");
            sample(turn.amount, work.operations_each(), start, || {
                client.round_trip(&message, &mut reply)?;
                whole(&reply, &message)
            })
        }
        Work::Stream { batch, .. } => {
            let mut client = connect()?;
            sample(turn.amount, work.operations_each(), start, || client.stream(&message, batch))
        }
        Work::Connect { .. } => sample(turn.amount, work.operations_each(), start, || {
            connect()?.round_trip(&message, &mut reply)?;
            whole(&reply, &message)
        }),
        Work::Crowd { clients, .. } => {
            let mut clients = crowd(connect, clients)?;
            sample(turn.amount, work.operations_each(), start, || all(&mut clients, &message, &mut reply))
        }
        Work::Calls { threads, .. } => {
            let mut client = connect()?;
            client.round_trip(&message, &mut reply)?;
            ensure!(reply == message, "the answer differs from the message");
            sample(turn.amount, work.operations_each(), start, || {
                client.calls(&message, threads, work.calls_of_a_thread())
            })
        }
    }
}

/// Connects `count` clients.
fn crowd(connect: impl Fn() -> Result<Box<dyn Client>>, count: usize) -> Result<Vec<Box<dyn Client>>> {
    count::make_room_for(count)?;
    (0..count).map(|number| connect().with_context(|| format!("connecting client {number} of {count}"))).collect()
}

/// Sends a message from each client, then receives the answer of each client.
fn all(clients: &mut [Box<dyn Client>], message: &[u8], reply: &mut Vec<u8>) -> Result<()> {
    for client in clients.iter_mut() {
        client.send(message)?;
    }
    for client in clients {
        client.receive(reply)?;
        whole(reply, message)?;
    }
    Ok(())
}

/// Returns bytes that vary with their position, so that a lost or doubled byte is detected.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

/// Checks the length of an answer. A comparison of all bytes each time would be part of the measurement.
fn whole(reply: &[u8], message: &[u8]) -> Result<()> {
    ensure!(reply.len() == message.len(), "the answer has {} bytes, the message {}", reply.len(), message.len());
    Ok(())
}

/// Warms up, calls `start`, and takes samples of `each` operations. The end of a sample is the beginning of the next,
/// so the clock is read once for each sample.
fn sample(
    amount: Amount,
    each: u64,
    start: &mut dyn FnMut() -> Result<()>,
    mut operation: impl FnMut() -> Result<()>,
) -> Result<Outcome> {
    let begin = Instant::now();
    let mut warmed = 0;
    let counted = matches!(amount, Amount::Samples(_));
    while warmed < WARM_UP_OPERATIONS || (begin.elapsed() < WARM_UP && !counted) {
        operation()?;
        warmed += each;
    }
    // Three significant digits: a stored value differs from the measured one by at most 0.1 %. The histogram is created
    // here and with its full size, so that recording allocates nothing.
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 3_600_000_000_000, 3)?;
    start()?;
    let allocations = count::allocations();
    let cpu_ns = count::own_cpu_ns();
    let begin = Instant::now();
    let mut last = begin;
    let mut taken = 0;
    loop {
        operation()?;
        let now = Instant::now();
        histogram.saturating_record((now - last).as_nanos() as u64);
        last = now;
        taken += 1;
        let enough = match amount {
            Amount::Ms(ms) => taken >= 3 && now - begin >= Duration::from_millis(ms),
            Amount::Samples(count) => taken >= count,
        };
        if enough {
            break;
        }
    }
    let cpu_ns = count::own_cpu_ns() - cpu_ns;
    let allocations = count::allocations().zip(allocations).map(|(after, before)| after - before);
    let samples = histogram.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value())).collect();
    Ok(Outcome { samples, elapsed_ns: (last - begin).as_nanos() as u64, cpu_ns, allocations })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_taken_after_the_warm_up_and_as_many_as_asked_for() {
        let (mut started, mut calls, mut calls_before) = (0, 0, 0);
        let outcome = {
            let calls = std::cell::Cell::new(&mut calls);
            let calls = std::cell::RefCell::new(calls.into_inner());
            sample(
                Amount::Samples(5),
                1,
                &mut || {
                    started += 1;
                    calls_before = **calls.borrow();
                    Ok(())
                },
                || {
                    **calls.borrow_mut() += 1;
                    Ok(())
                },
            )
            .unwrap()
        };
        assert_eq!((started, outcome.count(), calls - calls_before), (1, 5, 5));
        assert!(calls_before >= WARM_UP_OPERATIONS);
    }
}
