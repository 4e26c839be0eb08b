//! The client's side of a turn: warm-up, then samples.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;

use crate::client::Client;
use crate::count;
use crate::outcome::{Amount, Outcome, Turn};
use crate::work::Work;

/// At least so long a contender warms up; the first messages meet cold caches, pages that are not there yet and a
/// scheduler that has not seen these processes.
const WARM_UP: Duration = Duration::from_millis(10);

/// And with at least so many operations.
const WARM_UP_OPERATIONS: u64 = 3;

/// Does the client's side of a turn. `connect` makes one connection to the server of the turn.
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
            ensure!(reply == message, "what came back is not what was sent");
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
    }
}

/// Connects this many clients.
fn crowd(connect: impl Fn() -> Result<Box<dyn Client>>, count: usize) -> Result<Vec<Box<dyn Client>>> {
    count::make_room_for(count)?;
    (0..count).map(|number| connect().with_context(|| format!("client {number} of {count}"))).collect()
}

/// Has all of them ask, and then all of them receive.
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

/// Bytes that differ from place to place, so that what is lost or doubled shows.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

/// To compare all bytes each time would be measured as well.
fn whole(reply: &[u8], message: &[u8]) -> Result<()> {
    ensure!(reply.len() == message.len(), "{} bytes came back, and {} were sent", reply.len(), message.len());
    Ok(())
}

/// Warms up, calls `start`, and takes samples, of `each` operations. The end of one is the beginning of the next: one
/// look at the clock for each.
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
    // Three digits: what is stored differs from what was measured by 0.1 % at most. It is made here, and of full size,
    // so that nothing is allocated while it is filled.
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
