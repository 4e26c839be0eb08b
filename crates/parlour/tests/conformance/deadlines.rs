//! Timeouts of blocking calls.

use std::time::{Duration, Instant};

use parlour::{Connection, Error, ErrorKind, TrySendError};

use super::api::{Setting, settings};
use super::link;
use crate::support::{DEADLINE, SOON, trials};

const TIMERS: &str = "only the blocking API has these functions";

trials! {
    for setting in settings() =>
        feeding_a_full_channel_gives_up_at_its_deadline unless setting.is_not_blocking(TIMERS),
        flushing_a_full_channel_gives_up_at_its_deadline_and_keeps_the_rest unless setting.is_not_blocking(TIMERS),
        finishing_on_a_full_channel_gives_up_at_its_deadline_and_can_be_repeated unless setting.is_not_blocking(TIMERS),
        closing_on_a_full_channel_gives_up_at_its_deadline unless setting.is_not_blocking(TIMERS),
        receiving_into_memory_of_the_caller_gives_up_at_its_deadline unless setting.is_not_blocking(TIMERS);
}

/// The timeout of calls that give up.
const SHORT: Duration = Duration::from_millis(50);

/// The length of each message, in bytes.
const MESSAGE_LEN: usize = 1000;

fn each_way(setting: Setting, scene: impl Fn(Connection, Connection)) {
    link::each_way(setting, |first, second| scene(first.into_blocking(), second.into_blocking()));
}

/// Returns the message with this number.
fn message(number: usize) -> Vec<u8> {
    let mut message = vec![7; MESSAGE_LEN];
    message[..8].copy_from_slice(&number.to_be_bytes());
    message
}

/// Sends until the channel is full, and then buffers one more message. Returns the number of
/// messages sent and buffered.
fn fill_and_feed(sender: &mut Connection) -> usize {
    let mut count = 0;
    loop {
        match sender.try_send(&message(count)) {
            Ok(()) => count += 1,
            Err(TrySendError::Full(_)) => break,
            Err(TrySendError::Failed(error)) => panic!("{error}"),
        }
        assert!(count < 1_000_000, "the channel has no bound");
    }
    // The channel stays full until the peer reads, so this message stays buffered.
    sender.feed_timeout(&message(count), Duration::ZERO).unwrap();
    count + 1
}

/// Checks that `call` gives up after [`SHORT`].
fn assert_times_out<T: std::fmt::Debug>(call: impl FnOnce() -> parlour::Result<T>) -> Error {
    let begin = Instant::now();
    let error = call().unwrap_err();
    assert_is_timeout(&error, begin.elapsed());
    error
}

/// Checks that this is the error of a call that gave up after [`SHORT`].
fn assert_is_timeout(error: &Error, elapsed: Duration) {
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(elapsed >= SHORT && elapsed < SHORT + SOON, "it gave up after {elapsed:?}");
}

/// Receives these messages in order.
fn receive_all(receiver: &mut Connection, count: usize) {
    for number in 0..count {
        let received = receiver.recv_timeout(DEADLINE).unwrap().unwrap_or_else(|| panic!("it ends before {number}"));
        assert!(received == message(number)[..], "message {number} of {count} has other content");
    }
}

fn feeding_a_full_channel_gives_up_at_its_deadline(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        let mut count = fill_and_feed(&mut sender);
        // Feeding only has to write when the buffer holds 64 KiB.
        let begin = Instant::now();
        let (error, elapsed) = loop {
            let call_begin = Instant::now();
            match sender.feed_timeout(&message(count), SHORT) {
                Ok(()) => count += 1,
                Err(error) => break (error, call_begin.elapsed()),
            }
            assert!(begin.elapsed() < DEADLINE, "feeding never has to wait");
        };
        assert_is_timeout(&error, elapsed);
        receive_and_flush(&mut receiver, sender, count);
    });
}

/// Receives all messages while another thread flushes and ends the connection.
fn receive_and_flush(receiver: &mut Connection, sender: Connection, count: usize) {
    std::thread::scope(|scope| {
        scope.spawn(|| sender.close_timeout(DEADLINE).unwrap());
        receive_all(receiver, count);
        assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), None);
    });
}

fn flushing_a_full_channel_gives_up_at_its_deadline_and_keeps_the_rest(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        let count = fill_and_feed(&mut sender);
        assert_times_out(|| sender.flush_timeout(SHORT));
        assert!(sender.try_flush().unwrap_err().is_full());
        assert_eq!(sender.flush_timeout(Duration::ZERO).unwrap_err().kind(), ErrorKind::TimedOut);
        receive_and_flush(&mut receiver, sender, count);
    });
}

fn finishing_on_a_full_channel_gives_up_at_its_deadline_and_can_be_repeated(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        let count = fill_and_feed(&mut sender);
        assert_times_out(|| sender.finish_timeout(SHORT));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // The direction has not ended, so another message may follow.
                sender.send_timeout(&message(count), DEADLINE).unwrap();
                sender.finish_timeout(DEADLINE).unwrap();
                sender.finish_timeout(Duration::ZERO).unwrap();
            });
            receive_all(&mut receiver, count + 1);
            assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), None);
        });
    });
}

fn closing_on_a_full_channel_gives_up_at_its_deadline(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        let count = fill_and_feed(&mut sender);
        let error = assert_times_out(|| sender.close_timeout(SHORT));
        assert!(error.to_string().contains("the buffered messages are lost"), "{error}");
        // The buffered message is lost, and the message before it may be truncated. Receiving a truncated message is an
        // error.
        let mut received = 0;
        while let Ok(Some(_)) = receiver.recv_timeout(DEADLINE) {
            received += 1;
        }
        assert!((count - 2..count).contains(&received), "{received} of {count} arrived");
    });
}

fn receiving_into_memory_of_the_caller_gives_up_at_its_deadline(setting: Setting) {
    each_way(setting, |mut first, mut second| {
        let mut bytes = b"old".to_vec();
        assert_times_out(|| first.recv_into_timeout(&mut bytes, SHORT));
        assert!(first.try_recv_into(&mut bytes).unwrap_err().is_empty());
        second.send(b"in time").unwrap();
        assert_eq!(first.recv_into_timeout(&mut bytes, DEADLINE).unwrap(), Some(7));
        assert_eq!(bytes, b"in time");
        second.send(b"").unwrap();
        assert_eq!(first.recv_into_timeout(&mut bytes, DEADLINE).unwrap(), Some(0));
        drop(second);
        assert_eq!(first.recv_into_timeout(&mut bytes, DEADLINE).unwrap(), None);
        assert_eq!(first.try_recv_into(&mut bytes).unwrap(), None);
    });
}
