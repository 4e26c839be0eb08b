//! Peers that abort.

use std::thread;

use parlour::{Connection, ErrorKind, Transport};

use crate::support::{DEADLINE, trials};

trials! {
    for transport in Transport::ALL =>
        a_peer_that_aborts_after_any_message_never_ends_cleanly,
        an_abort_of_the_peer_wakes_a_half_that_waits;
}

fn is_lost(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Truncated | ErrorKind::Disconnected)
}

/// Every message that was sent before is received, whole and in order.
fn a_peer_that_aborts_after_any_message_never_ends_cleanly(transport: Transport) {
    for count in 0..12 {
        let (mut source, mut sink) = Connection::pair(transport).unwrap();
        let message = |number: usize| vec![number as u8; number * 500];
        (0..count).for_each(|number| source.send(&message(number)).unwrap());
        source.abort();
        for number in 0..count {
            let received = sink.recv_timeout(DEADLINE).unwrap().expect("a message");
            assert_eq!(received[..], message(number)[..], "{number} of {count}");
        }
        let error = sink.recv_timeout(DEADLINE).expect_err("an abort is no clean end");
        assert!(is_lost(error.kind()), "after {count} messages: {error}");
    }
}

/// The sending half of the peer aborts, and this side waits for a message in one thread and sends in another one.
fn an_abort_of_the_peer_wakes_a_half_that_waits(transport: Transport) {
    let (source, sink) = Connection::pair(transport).unwrap();
    let (mut sender, mut receiver) = sink.split();
    let (aborting, mut answers) = source.split();
    thread::scope(|scope| {
        let waiting = scope.spawn(move || receiver.recv_timeout(DEADLINE).map(drop).unwrap_err().kind());
        aborting.abort();
        let kind = waiting.join().unwrap();
        assert!(is_lost(kind), "{kind}");
    });
    // The other direction goes on.
    sender.send("still here").unwrap();
    assert_eq!(answers.recv_timeout(DEADLINE).unwrap().expect("a message"), b"still here");
}
