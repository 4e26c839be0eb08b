//! Many threads over one connection.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use parlour::calls::Call;
use parlour::{ErrorKind, Transport};

use super::scene::{Serving, echo};
use crate::support::{DEADLINE, data, trials};

trials! {
    for transport in Transport::ALL =>
        eight_threads_get_their_own_answers_out_of_order,
        threads_that_give_up_leave_the_others_served,
        long_messages_of_several_threads_are_not_mixed;
}

/// Answers in threads, the longest request last.
fn answer_later(call: Call) {
    thread::spawn(move || {
        if call.len() % 3 == 0 {
            thread::yield_now();
        }
        echo(call);
    });
}

fn eight_threads_get_their_own_answers_out_of_order(transport: Transport) {
    let serving = Serving::new(transport, answer_later);
    let caller = serving.caller();
    thread::scope(|scope| {
        for thread in 0..8 {
            let caller = &caller;
            scope.spawn(move || {
                for number in 0..100 {
                    let request = data::message(thread * 1000 + number, 10 + number % 7);
                    assert_eq!(caller.call_timeout(request, DEADLINE).unwrap(), request);
                }
            });
        }
    });
    assert_eq!((caller.stats().open, caller.stats().late_answers), (0, 0));
}

fn threads_that_give_up_leave_the_others_served(transport: Transport) {
    let serving =
        Serving::new(transport, |call: Call| if *call == *b"never" { forget(call) } else { answer_later(call) });
    let caller = serving.caller();
    let timeouts = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..8 {
            let (caller, timeouts) = (&caller, &timeouts);
            scope.spawn(move || {
                for number in 0..40 {
                    if (number + thread) % 2 == 0 {
                        let error = caller.call_timeout("never", Duration::from_millis(number as u64 % 3)).unwrap_err();
                        assert_eq!(error.kind(), ErrorKind::TimedOut);
                        timeouts.fetch_add(1, Ordering::Relaxed);
                    } else {
                        let request = data::message(thread, 20 + number);
                        assert_eq!(caller.call_timeout(request, DEADLINE).unwrap(), request);
                    }
                }
            });
        }
    });
    assert_eq!((timeouts.into_inner(), caller.stats().open), (160, 0));
}

/// Keeps a call until nobody waits for it.
fn forget(call: Call) {
    thread::spawn(move || call.wait_cancelled_timeout(DEADLINE).unwrap());
}

fn long_messages_of_several_threads_are_not_mixed(transport: Transport) {
    const LENGTH: usize = 700_000;
    let serving = Serving::new(transport, answer_later);
    let caller = serving.caller();
    thread::scope(|scope| {
        for thread in 0..4 {
            let caller = &caller;
            scope.spawn(move || {
                for number in 0..5 {
                    let length = if number % 2 == 0 { LENGTH } else { 10 };
                    let request = data::message(thread, length);
                    data::check(&caller.call_timeout(request, DEADLINE).unwrap(), thread, length);
                }
            });
        }
    });
}
