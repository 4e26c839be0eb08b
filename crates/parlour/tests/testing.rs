//! The tools for users' tests: a faulty peer over each transport, and the base of a test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test fails by panicking, and a child reports to its test on stdout"
)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use parlour::testing::{Base, Faulty};
use parlour::{ConnectOptions, Connection, ErrorKind, Server, Transport};
use support::{DEADLINE, data, roles, trials};

trials! {
    a_base_is_private_and_goes_with_its_test,
    a_name_in_a_base_is_found_by_nobody_else;

    for transport in Transport::ALL =>
        a_slow_peer_that_sends_in_pieces_loses_nothing,
        an_end_within_a_message_is_truncated_and_earlier_messages_are_whole,
        a_peer_ends_after_the_given_number_of_messages,
        a_full_channel_holds_a_sender_up_and_loses_nothing,
        junk_is_messages_or_an_error,
        a_forged_frame_is_what_the_peer_receives,
        the_same_seed_gives_the_same_faults,
        a_message_over_the_limit_is_refused_in_pieces_too,
        a_slow_peer_of_a_task_loses_nothing_and_ends_within_a_message,
        a_full_channel_holds_a_task_up_and_ends_with_the_given_number_of_messages,
        tasks_and_threads_get_the_same_faults_of_a_seed;
}

fn main() -> ExitCode {
    support::run(&[], &[trials])
}

fn pair(transport: Transport, seed: u64) -> (Faulty, Connection) {
    let (faulty, other) = Connection::pair(transport).unwrap();
    (Faulty::new(faulty, seed), other)
}

fn a_slow_peer_that_sends_in_pieces_loses_nothing(transport: Transport) {
    for seed in 0..5 {
        let (faulty, other) = pair(transport, seed);
        let mut faulty = faulty.delay(Duration::from_millis(1)).in_pieces();
        thread::scope(|scope| {
            scope.spawn(|| roles::echo(other));
            for (number, length) in [0, 1, 3, 4095, 70_000, 300_000].into_iter().enumerate() {
                let message = data::message(number, length);
                faulty.send(message).unwrap();
                let answer = faulty.recv_timeout(DEADLINE).unwrap().unwrap();
                assert!(answer == *message, "seed {seed}, {length} bytes");
            }
            drop(faulty);
        });
    }
}

fn an_end_within_a_message_is_truncated_and_earlier_messages_are_whole(transport: Transport) {
    for seed in 0..30 {
        for length in [0, 1, 10, 5000] {
            let (mut faulty, mut other) = pair(transport, seed);
            faulty.send("whole").unwrap();
            faulty.end_within(data::message(0, length)).unwrap();
            assert_eq!(other.recv_timeout(DEADLINE).unwrap().unwrap(), b"whole");
            let error = other.recv_timeout(DEADLINE).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Truncated, "seed {seed}, {length} bytes: {error}");
        }
    }
}

fn a_peer_ends_after_the_given_number_of_messages(transport: Transport) {
    for messages in 0..4 {
        let (faulty, mut other) = pair(transport, 0);
        let mut faulty = faulty.end_after(messages);
        for number in 0..messages {
            assert!(!faulty.has_ended());
            if number % 2 == 0 {
                faulty.send("from the faulty one").unwrap();
                assert_eq!(other.recv_timeout(DEADLINE).unwrap().unwrap(), b"from the faulty one");
            } else {
                other.send("to the faulty one").unwrap();
                assert_eq!(faulty.recv_timeout(DEADLINE).unwrap().unwrap(), b"to the faulty one");
            }
        }
        assert!(faulty.has_ended());
        assert_eq!(other.recv_timeout(DEADLINE).unwrap(), None);
        assert_eq!(faulty.send("x").unwrap_err().kind(), ErrorKind::Disconnected);
        support::assert_tells(&faulty.forge("x").unwrap_err());
        assert_eq!(faulty.recv().unwrap(), None);
        assert!(faulty.into_inner().is_none());
    }
}

fn a_full_channel_holds_a_sender_up_and_loses_nothing(transport: Transport) {
    let (mut faulty, mut other) = pair(transport, 0);
    let message = data::message(1, 5000);
    let count = faulty.fill(message).unwrap();
    assert!(count > 0);
    let mut rest = faulty.into_inner().unwrap();
    assert_eq!(rest.send_timeout(message, Duration::ZERO).unwrap_err().kind(), ErrorKind::TimedOut);
    thread::scope(|scope| {
        scope.spawn(move || rest.close().unwrap());
        for _ in 0..count {
            assert!(other.recv_timeout(DEADLINE).unwrap().unwrap() == *message);
        }
        assert_eq!(other.recv_timeout(DEADLINE).unwrap(), None);
    });
}

fn junk_is_messages_or_an_error(transport: Transport) {
    let mut errors = 0;
    for seed in 0..50 {
        let (mut faulty, mut other) = pair(transport, seed);
        let junk = faulty.forge_junk().unwrap();
        assert!((1..=64).contains(&junk.len()));
        drop(faulty);
        // 64 bytes are at most 16 messages.
        let end = (0..=16).find_map(|_| match other.recv_timeout(DEADLINE) {
            Ok(Some(_)) => None,
            Ok(None) => Some(None),
            Err(error) => Some(Some(error)),
        });
        if let Some(error) = end.expect("the end or an error") {
            let expected = [ErrorKind::MessageTooLong, ErrorKind::Truncated, ErrorKind::Protocol];
            assert!(expected.contains(&error.kind()), "seed {seed}: {error}");
            errors += 1;
        }
    }
    assert!(errors > 0);
}

fn a_forged_frame_is_what_the_peer_receives(transport: Transport) {
    let (mut faulty, mut other) = pair(transport, 0);
    let frame: &[u8] = if transport == Transport::Packet { b"hello\0" } else { b"\0\0\0\x05hello" };
    faulty.forge(frame).unwrap();
    faulty.send("and more").unwrap();
    assert_eq!(other.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    assert_eq!(other.recv_timeout(DEADLINE).unwrap().unwrap(), b"and more");
    // More than the channel holds.
    let long = if transport == Transport::Packet {
        [data::message(0, 100_000), &[0]].concat()
    } else {
        [&(5u32 << 20).to_be_bytes(), data::message(0, 5 << 20)].concat()
    };
    thread::scope(|scope| {
        scope.spawn(|| faulty.forge(&long).unwrap());
        let received = other.recv_timeout(DEADLINE).unwrap().unwrap();
        let framing = long.len() - received.len();
        let at = if transport == Transport::Packet { 0 } else { framing };
        assert!(received[..] == long[at..][..received.len()]);
        assert!(received.len() >= 100_000);
    });
    drop(other);
    let error = support::wait::eventually_some(|| faulty.forge(frame).err());
    assert_eq!(error.unwrap().kind(), ErrorKind::Disconnected);
}

fn the_same_seed_gives_the_same_faults(transport: Transport) {
    let junk_of = |seed| {
        let (mut faulty, _other) = pair(transport, seed);
        (faulty.forge_junk().unwrap(), faulty.forge_junk().unwrap())
    };
    assert_eq!(junk_of(7), junk_of(7));
    assert_ne!(junk_of(7), junk_of(8));
    let (faulty, mut other) = pair(transport, 7);
    let mut faulty = faulty.delay(Duration::from_secs(3600));
    faulty = faulty.delay(Duration::ZERO);
    let begin = Instant::now();
    faulty.send("at once").unwrap();
    assert!(begin.elapsed() < DEADLINE);
    assert_eq!(other.recv_timeout(DEADLINE).unwrap().unwrap(), b"at once");
}

fn a_message_over_the_limit_is_refused_in_pieces_too(transport: Transport) {
    let (one, mut other) = ConnectOptions::new().message_max(100).pair(transport).unwrap();
    let mut faulty = Faulty::new(one, 0).in_pieces().end_after(2);
    faulty.send([b'x'; 100]).unwrap();
    assert_eq!(faulty.send([b'x'; 101]).unwrap_err().kind(), ErrorKind::MessageTooLong);
    assert!(!faulty.has_ended(), "what was not sent does not count");
    faulty.send("").unwrap();
    assert!(faulty.has_ended());
    for length in [100, 0] {
        assert_eq!(other.recv_timeout(DEADLINE).unwrap().unwrap().len(), length);
    }
    assert_eq!(other.recv_timeout(DEADLINE).unwrap(), None);
}

fn run(test: impl Future<Output = ()>) {
    // Without timers.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(test);
}

fn task_pair(transport: Transport, seed: u64) -> (parlour::tokio::Faulty, parlour::tokio::Connection) {
    let (faulty, other) = parlour::tokio::Connection::pair(transport).unwrap();
    (parlour::tokio::Faulty::new(faulty, seed), other)
}

fn a_slow_peer_of_a_task_loses_nothing_and_ends_within_a_message(transport: Transport) {
    run(async {
        for seed in 0..5 {
            let (faulty, mut other) = task_pair(transport, seed);
            let mut faulty = faulty.delay(Duration::from_micros(500)).in_pieces();
            let serving = tokio::spawn(async move {
                while let Some(message) = other.recv().await? {
                    other.send(&message).await?;
                }
                Ok::<(), parlour::Error>(())
            });
            for (number, length) in [0, 1, 3, 4095, 70_000, 300_000].into_iter().enumerate() {
                let message = data::message(number, length);
                faulty.send(message).await.unwrap();
                assert!(faulty.recv().await.unwrap().unwrap() == *message, "seed {seed}, {length} bytes");
            }
            faulty.end_within(data::message(0, 5000)).await.unwrap();
            assert_eq!(serving.await.unwrap().unwrap_err().kind(), ErrorKind::Truncated, "seed {seed}");
        }
    });
}

fn a_full_channel_holds_a_task_up_and_ends_with_the_given_number_of_messages(transport: Transport) {
    run(async {
        let (mut faulty, mut other) = task_pair(transport, 0);
        let message = data::message(1, 5000);
        let count = faulty.fill(message).unwrap();
        assert!(count > 0);
        let mut faulty = faulty.end_after(2);
        let frame: &[u8] = if transport == Transport::Packet { b"forged\0" } else { b"\0\0\0\x06forged" };
        let (_, received) = tokio::join!(
            async {
                // It has room as soon as the other side receives.
                faulty.forge(frame).await.unwrap();
                faulty.send("last").await.unwrap();
                assert!(!faulty.has_ended());
                assert_eq!(faulty.recv().await.unwrap().unwrap(), b"answer");
                assert!(faulty.has_ended());
                assert_eq!(faulty.send("late").await.unwrap_err().kind(), ErrorKind::Disconnected);
                assert_eq!(faulty.recv().await.unwrap(), None);
            },
            async {
                let mut received = Vec::new();
                while let Some(message) = other.recv().await.unwrap() {
                    received.push(message);
                    if received.last().unwrap() == &b"last"[..] {
                        other.send("answer").await.unwrap();
                    }
                }
                received
            }
        );
        assert_eq!(received.len() as u64, count + 2);
        assert!(received[..count as usize].iter().all(|received| *received == *message));
        assert_eq!(received[count as usize], b"forged");
        assert!(faulty.into_inner().is_none());
    });
}

fn tasks_and_threads_get_the_same_faults_of_a_seed(transport: Transport) {
    run(async {
        for seed in 0..5 {
            let (mut blocking, _other) = pair(transport, seed);
            let (mut task, _other_task) = task_pair(transport, seed);
            for _ in 0..3 {
                assert_eq!(blocking.forge_junk().unwrap(), task.forge_junk().await.unwrap());
            }
        }
    });
}

fn a_base_is_private_and_goes_with_its_test() {
    let (one, other) = (Base::new().unwrap(), Base::new().unwrap());
    assert_ne!(one.path(), other.path());
    let metadata = std::fs::metadata(one.path()).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o700);
    assert_eq!(one.name("echo"), one.path().join("echo").to_str().unwrap());
    assert_eq!(one.address(Transport::Fifo, "echo"), format!("fifo:{}", one.name("echo")));
    let path = one.path().to_owned();
    let server = Server::bind(one.name("echo")).unwrap();
    assert!(server.path().starts_with(&path));
    server.close().unwrap();
    std::fs::write(path.join("a file of the test"), "").unwrap();
    drop(one);
    assert!(!path.exists());
    assert!(other.path().is_dir());
}

fn a_name_in_a_base_is_found_by_nobody_else() {
    let (one, other) = (Base::new().unwrap(), Base::new().unwrap());
    let server = Server::bind(one.name("echo")).unwrap();
    assert_eq!(Connection::connect(other.name("echo")).unwrap_err().kind(), ErrorKind::NoServer);
    let second = Server::bind(other.name("echo")).unwrap();
    second.close().unwrap();
    server.close().unwrap();
}
