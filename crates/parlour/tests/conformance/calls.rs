use std::thread;
use std::time::Duration;

use parlour::ErrorKind;

use super::CALLS_ON_A_HUB;
use super::api::calls::{CallServer, Caller, FAILURE, item};
use super::api::{Error, Setting, settings};
use crate::support::{Base, data, eventually, trials};

trials! {
    for setting in settings() =>
        each_thread_gets_its_own_answers unless setting.is_a_hub(CALLS_ON_A_HUB),
        long_requests_and_answers_arrive unless setting.is_a_hub(CALLS_ON_A_HUB),
        a_late_answer_is_not_taken_for_that_of_the_next_call unless setting.is_a_hub(CALLS_ON_A_HUB),
        the_items_of_a_stream_arrive_in_order_and_end unless setting.is_a_hub(CALLS_ON_A_HUB),
        a_stream_that_is_dropped_delays_no_other_call unless setting.is_a_hub(CALLS_ON_A_HUB),
        a_call_that_fails_or_is_dropped_fails_at_its_caller unless setting.is_a_hub(CALLS_ON_A_HUB),
        calls_after_the_end_of_the_server_fail unless setting.is_a_hub(CALLS_ON_A_HUB);
}

fn with_a_caller(setting: Setting, test: impl FnOnce(&Caller, CallServer)) {
    let base = Base::new();
    let address = setting.address(&base, "calls");
    let server = setting.serve_calls(&address).unwrap();
    let caller = setting.caller(&address).unwrap();
    test(&caller, server);
}

fn each_thread_gets_its_own_answers(setting: Setting) {
    with_a_caller(setting, |caller, _server| {
        thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for number in 0..50 {
                        let request = data::message(100 * thread + number, 10 + number);
                        assert_eq!(caller.call(request).unwrap(), request);
                    }
                });
            }
        });
        assert_eq!(caller.open(), 0);
    });
}

fn long_requests_and_answers_arrive(setting: Setting) {
    with_a_caller(setting, |caller, _server| {
        for length in [60_000, 70_000, 1 << 20, (16 << 20) - 8] {
            data::check(&caller.call(data::message(length, length)).unwrap(), length, length);
        }
    });
}

fn a_late_answer_is_not_taken_for_that_of_the_next_call(setting: Setting) {
    with_a_caller(setting, |caller, _server| {
        for number in 0..10u8 {
            let error = caller.call_timeout("late", Duration::from_millis(5)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert_eq!(caller.call(&[number]).unwrap(), &[number]);
        }
    });
}

fn the_items_of_a_stream_arrive_in_order_and_end(setting: Setting) {
    with_a_caller(setting, |caller, _server| {
        for count in [0, 1, 100] {
            let items = caller.items(&format!("list {count}"), usize::MAX).unwrap();
            assert_eq!(items.len(), count);
            assert!(items.iter().enumerate().all(|(number, received)| *received == *item(number)));
        }
        assert_eq!(caller.open(), 0);
    });
}

fn a_stream_that_is_dropped_delays_no_other_call(setting: Setting) {
    with_a_caller(setting, |caller, _server| {
        for _ in 0..3 {
            assert_eq!(caller.items("list 1000000", 10).unwrap().len(), 10);
            assert_eq!(caller.call("hello").unwrap(), b"hello");
        }
        eventually("no call is open", || caller.open() == 0);
    });
}

fn a_call_that_fails_or_is_dropped_fails_at_its_caller(setting: Setting) {
    with_a_caller(setting, |caller, _server| {
        let Err(Error::Parlour(error)) = caller.call("fail") else { panic!("the call did not fail") };
        assert_eq!((error.kind(), error.failure()), (ErrorKind::CallFailed, Some(FAILURE)));
        assert_eq!(caller.call("drop").unwrap_err().kind(), ErrorKind::CallFailed);
        assert_eq!(caller.call("hello").unwrap(), b"hello");
    });
}

fn calls_after_the_end_of_the_server_fail(setting: Setting) {
    with_a_caller(setting, |caller, server| {
        assert_eq!(caller.call("hello").unwrap(), b"hello");
        server.end();
        for _ in 0..2 {
            assert_eq!(caller.call("hello").unwrap_err().kind(), ErrorKind::Disconnected);
        }
    });
}
