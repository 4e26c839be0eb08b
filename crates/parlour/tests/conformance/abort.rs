use parlour::ErrorKind;

use super::NO_HALF;
use super::api::{Connection, Setting, TryRecvError, TrySendError, settings};
use super::link::{assert_disconnected, directions, each_way, ends};
use crate::support::wait::Sleeper;
use crate::support::{data, trials};

trials! {
    for setting in settings() =>
        an_abort_is_an_error_after_the_messages_that_were_sent,
        an_abort_wakes_a_peer_that_waits,
        an_abort_before_the_first_message_is_an_error,
        an_abort_inside_a_message_is_an_error,
        an_abort_of_a_channel_full_of_length_bytes_is_an_error(length in [4, 60, 4092, 65_532, (1 << 20) - 4]),
        an_abort_after_the_end_of_sending_leaves_that_end,
        an_aborted_direction_leaves_the_other_one unless setting.is_a_hub(NO_HALF);
}

/// Receives numbered messages up to the error of an abort, and returns their number.
fn receive_up_to_the_error(end: &mut Connection, length: impl Fn(usize) -> usize) -> usize {
    for number in 0.. {
        match end.recv() {
            Ok(Some(message)) => data::check(&message, number, length(number)),
            Ok(None) => panic!("a clean end after {number} messages"),
            Err(error) => {
                let kind = error.kind();
                assert!(matches!(kind, ErrorKind::Truncated | ErrorKind::Disconnected), "{error}");
                let again = end.try_recv();
                assert!(matches!(again, Err(TryRecvError::Failed(_))), "the error is permanent: {again:?}");
                return number;
            }
        }
    }
    unreachable!()
}

fn an_abort_is_an_error_after_the_messages_that_were_sent(setting: Setting) {
    each_way(setting, |mut first, mut second| {
        for number in 0..3 {
            first.send(data::message(number, 1000)).unwrap();
        }
        first.flush().unwrap();
        first.abort();
        assert_eq!(receive_up_to_the_error(&mut second, |_| 1000), 3);
        if let Connection::Hub(_) = second {
            return;
        }
        assert_disconnected(|| second.send(b"nobody receives this"));
    });
}

fn an_abort_wakes_a_peer_that_waits(setting: Setting) {
    each_way(setting, |first, mut second| {
        let sleeper = Sleeper::start(move || second.recv().unwrap_err().kind());
        first.abort();
        let kind = sleeper.result().0;
        assert!(matches!(kind, ErrorKind::Truncated | ErrorKind::Disconnected), "{kind:?}");
    });
}

fn an_abort_before_the_first_message_is_an_error(setting: Setting) {
    each_way(setting, |mut first, mut second| {
        second.send(b"the first side never receives this").unwrap();
        second.flush().unwrap();
        // A hub may have received it.
        let _ = first.try_recv();
        first.abort();
        assert_eq!(receive_up_to_the_error(&mut second, |_| 0), 0);
    });
}

/// The channel takes a part of a long message. The rest of it, and a message behind it, are discarded.
fn an_abort_inside_a_message_is_an_error(setting: Setting) {
    let length = 4 << 20;
    each_way(setting, |mut first, mut second| {
        let mut sent = 0;
        while first.try_send(data::message(sent, length)).is_ok() {
            sent += 1;
        }
        first.abort();
        let received = receive_up_to_the_error(&mut second, |_| length);
        assert!(received <= sent, "{received} of {sent}");
    });
}

fn an_abort_of_a_channel_full_of_length_bytes_is_an_error(setting: Setting, length: usize) {
    each_way(setting, |mut first, mut second| {
        let mut lengths = Vec::new();
        // Frames of 8 bytes end where a ring and a page end.
        for length in [length, 4] {
            loop {
                match first.try_send(data::message(lengths.len(), length)) {
                    Ok(()) => lengths.push(length),
                    Err(TrySendError::Full(_)) => break,
                    Err(TrySendError::Failed(error)) => panic!("{error}"),
                }
                assert!(lengths.len() < 1_000_000, "the channel is unbounded");
            }
        }
        first.abort();
        let received = receive_up_to_the_error(&mut second, |number| lengths[number]);
        assert!(received <= lengths.len());
    });
}

fn an_abort_after_the_end_of_sending_leaves_that_end(setting: Setting) {
    each_way(setting, |mut first, mut second| {
        first.send(b"all").unwrap();
        first.finish().unwrap();
        assert_eq!(second.recv().unwrap().expect("a message"), b"all");
        assert_eq!(second.recv().unwrap(), None);
        first.abort();
        assert_eq!(second.recv().unwrap(), None);
    });
}

fn an_aborted_direction_leaves_the_other_one(setting: Setting) {
    let (client, served) = ends(setting);
    let [(mut to_served, mut from_client), (mut to_client, mut from_served)] = directions(client, served);
    to_served.send(b"sent").unwrap();
    to_served.abort();
    assert_eq!(from_client.recv().unwrap().expect("a message"), b"sent");
    assert_eq!(from_client.recv().unwrap_err().kind(), ErrorKind::Truncated);
    to_client.send(b"still here").unwrap();
    assert_eq!(from_served.recv().unwrap().expect("a message"), b"still here");
    to_client.finish().unwrap();
    assert_eq!(from_served.recv().unwrap(), None);
}
