//! Cancel safety: futures are dropped at each of their polls, and no message is lost, duplicated or torn.
//!
//! A test drops one future at its first poll, the next one at its second poll, and so on, until one completes before
//! that.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use parlour::tokio::{Connection, Receiver, Sender, Server};
use parlour::{ConnectOptions, ErrorKind, Transport, TrySendError, inspect};
use tokio::task::yield_now;

use crate::support::{Base, DEADLINE, data, trials};
use crate::tasks::{Link, polled, run};

/// A length that exceeds the capacity of a channel and is not a multiple of any buffer size.
fn long(transport: Transport) -> usize {
    match transport {
        // `packet` is the only transport with a large buffer.
        Transport::Packet => (5 << 20) + 77_777,
        _ => (1 << 20) + 77_777,
    }
}

trials! {
    for transport in Transport::ALL =>
        recv_dropped_at_any_poll_loses_no_message,
        send_dropped_at_any_poll_has_sent_its_message_or_nothing_of_it,
        send_dropped_while_the_channel_is_full_has_sent_nothing,
        send_and_flush_that_were_dropped_do_not_wait_any_more,
        feed_and_flush_dropped_at_any_poll_lose_and_duplicate_nothing,
        finish_dropped_at_any_poll_does_not_end_the_direction_early,
        close_dropped_at_any_poll_tears_no_message,
        accept_dropped_at_any_poll_loses_no_client,
        connect_dropped_at_any_poll_leaves_nothing_behind,
        connect_that_waits_for_a_server_can_be_dropped;
}

/// Short and long messages, some of which arrive in many parts.
fn lengths(transport: Transport) -> impl Fn(usize) -> usize {
    move |seed| [0, 10, long(transport), 70_000, 1, 300_001][seed % 6]
}

async fn receive_all(mut receiver: Receiver, expected: &[usize], length_of: impl Fn(usize) -> usize) {
    for &seed in expected {
        let message = receiver.recv().await.unwrap().expect("a message");
        data::check(&message, seed, length_of(seed));
    }
    assert_eq!(receiver.recv().await.unwrap(), None);
}

fn recv_dropped_at_any_poll_loses_no_message(transport: Transport) {
    let length_of = lengths(transport);
    run(async {
        let Link { client, served, .. } = Link::new(transport).await;
        const COUNT: usize = 30;
        let sending = async {
            let mut sender = served.split().0;
            for seed in 0..COUNT {
                sender.send(data::message(seed, length_of(seed))).await.unwrap();
            }
        };
        let mut receiver = client.split().1;
        let mut drops = 0;
        let receiving = async {
            for seed in 0..COUNT {
                let mut times = 1;
                let message = loop {
                    match polled(times, receiver.recv()).await {
                        Some(message) => break message.unwrap().expect("a message"),
                        None => drops += 1,
                    }
                    times += 1;
                };
                data::check(&message, seed, length_of(seed));
            }
            let mut times = 1;
            while polled(times, receiver.recv()).await.is_none_or(|end| end.unwrap().is_some()) {
                times += 1;
            }
        };
        tokio::join!(sending, receiving);
        assert!(drops > 10, "the future was dropped {drops} times");
    });
}

/// Receives until the end of the stream, and checks that the messages are the expected ones.
async fn check_all(served: Connection, expected: &std::cell::RefCell<Vec<usize>>, length_of: impl Fn(usize) -> usize) {
    let mut receiver = served.split().1;
    let mut number = 0;
    while let Some(message) = receiver.recv().await.unwrap() {
        // The sender knows whether a message counts only when it has dropped the future, which may be after the message
        // has arrived.
        while expected.borrow().len() <= number {
            yield_now().await;
        }
        let seed = expected.borrow()[number];
        data::check(&message, seed, length_of(seed));
        number += 1;
    }
    assert_eq!(number, expected.borrow().len(), "the messages that were taken are those that arrived");
}

/// Returns true if the message of a call, completed or dropped, counts as taken.
fn counts(sender: &Sender, before: u64) -> bool {
    match sender.messages_taken() - before {
        0 => false,
        1 => true,
        more => panic!("one message counts {more} times"),
    }
}

fn send_dropped_at_any_poll_has_sent_its_message_or_nothing_of_it(transport: Transport) {
    let length_of = lengths(transport);
    run(async {
        let Link { client, served, .. } = Link::new(transport).await;
        let expected = std::cell::RefCell::new(Vec::new());
        let mut taken_and_dropped = 0;
        let sending = async {
            let mut sender = client.split().0;
            let mut seed = 0;
            // Sends a message of each length until one send completes.
            for _ in 0..6 {
                let length = length_of(seed);
                for times in 1.. {
                    // Use the same length for each attempt.
                    while length_of(seed) != length {
                        seed += 1;
                    }
                    let before = sender.messages_taken();
                    let sent = polled(times, sender.send(data::message(seed, length))).await;
                    let is_taken = counts(&sender, before);
                    if is_taken {
                        expected.borrow_mut().push(seed);
                    }
                    seed += 1;
                    match sent {
                        Some(sent) => {
                            sent.unwrap();
                            assert!(is_taken);
                            break;
                        }
                        None => taken_and_dropped += usize::from(is_taken),
                    }
                }
                seed = (seed / 6) * 6 + (seed % 6 + 1) % 6;
            }
            sender.flush().await.unwrap();
        };
        tokio::join!(sending, check_all(served, &expected, &length_of));
        assert!(taken_and_dropped > 0, "no send was dropped mid-message");
    });
}

/// The peer does not receive.
fn send_dropped_while_the_channel_is_full_has_sent_nothing(transport: Transport) {
    run(async {
        let Link { mut client, served, .. } = Link::new(transport).await;
        let mut count = 0;
        loop {
            match client.try_send(data::message(count, 3001)) {
                Ok(()) => count += 1,
                Err(TrySendError::Full(_)) => break,
                Err(TrySendError::Failed(error)) => panic!("{error}"),
            }
        }
        assert_eq!(client.messages_taken(), count as u64);
        for seed in [7, 8, 9] {
            assert!(polled(1, client.send(data::message(seed, 3001))).await.is_none());
        }
        assert_eq!(client.messages_taken(), count as u64, "no part of the dropped messages is on its way");
        // Short messages are buffered.
        assert!(polled(1, client.feed(data::message(count, 3001))).await.is_some());
        let expected: Vec<_> = (0..=count).collect();
        tokio::join!(async { client.close().await.unwrap() }, receive_all(served.split().1, &expected, |_| 3001));
    });
}

fn send_and_flush_that_were_dropped_do_not_wait_any_more(transport: Transport) {
    async fn is_pending<F: Future>(future: &mut Pin<Box<F>>) -> bool {
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }
    run(async {
        let Link { client, mut served, _server: server, .. } = Link::new(transport).await;
        let waits = || inspect::stats(server.path().to_str().unwrap()).unwrap().clients[0].sending.is_some();
        let message = data::message(1, long(transport));
        let mut sending = Box::pin(served.send(message));
        assert!(is_pending(&mut sending).await && waits());
        // The channel is full, and the rest of the message is buffered.
        drop(sending);
        assert!(!waits());
        let mut flushing = Box::pin(served.flush());
        assert!(is_pending(&mut flushing).await && waits());
        drop(flushing);
        assert!(!waits());
        let mut sender = served.split().0;
        let mut finishing = Box::pin(sender.finish());
        assert!(is_pending(&mut finishing).await && waits());
        drop(finishing);
        assert!(!waits());
        drop(client);
    });
}

fn feed_and_flush_dropped_at_any_poll_lose_and_duplicate_nothing(transport: Transport) {
    run(async {
        let Link { client, served, .. } = Link::new(transport).await;
        // Two messages fit into the buffer, and the third one has to be sent with them.
        fn length_of(_: usize) -> usize {
            30_001
        }
        let expected = std::cell::RefCell::new(Vec::new());
        let mut drops = [0, 0];
        let sending = async {
            let mut sender = client.split().0;
            let (mut times_to_feed, mut times_to_flush) = (1, 1);
            for seed in 0..300 {
                let before = sender.messages_taken();
                let fed = polled(times_to_feed, sender.feed(data::message(seed, length_of(seed)))).await;
                if counts(&sender, before) {
                    expected.borrow_mut().push(seed);
                }
                (times_to_feed, drops[0]) = match fed {
                    Some(fed) => (fed.map(|()| 1).unwrap(), drops[0]),
                    None => (times_to_feed + 1, drops[0] + 1),
                };
                if seed % 5 == 4 {
                    let flushed = polled(times_to_flush, sender.flush()).await;
                    (times_to_flush, drops[1]) = match flushed {
                        Some(flushed) => (flushed.map(|()| 1).unwrap(), drops[1]),
                        None => (times_to_flush + 1, drops[1] + 1),
                    };
                }
            }
            sender.finish().await.unwrap();
        };
        let receiving = async {
            // Receive late, so that the channel is full.
            for _ in 0..200 {
                yield_now().await;
            }
            check_all(served, &expected, length_of).await;
        };
        tokio::join!(sending, receiving);
        assert!(drops.into_iter().all(|drops| drops > 0), "feed and flush were dropped {drops:?} times");
    });
}

fn finish_dropped_at_any_poll_does_not_end_the_direction_early(transport: Transport) {
    run(async {
        let Link { mut client, mut served, .. } = Link::new(transport).await;
        // The message exceeds the channel's capacity, so its rest is kept.
        client.try_send(data::message(1, 2 * long(transport))).unwrap();
        let sending = async {
            let mut times = 1;
            while polled(times, client.finish()).await.is_none_or(|finished| finished.is_err()) {
                times += 1;
            }
            assert_eq!(client.send(b"too late").await.unwrap_err().kind(), ErrorKind::Disconnected);
            assert_eq!(client.recv().await.unwrap().expect("a message"), b"the other direction goes on");
        };
        let receiving = async {
            data::check(&served.recv().await.unwrap().expect("a message"), 1, 2 * long(transport));
            assert_eq!(served.recv().await.unwrap(), None);
            served.send(b"the other direction goes on").await.unwrap();
        };
        tokio::join!(sending, receiving);
    });
}

fn close_dropped_at_any_poll_tears_no_message(transport: Transport) {
    // The rest of the last message is kept.
    let length = long(transport);
    run(async {
        for times in 1..1000 {
            let Link { mut client, mut served, .. } = Link::new(transport).await;
            let mut count = 0;
            while client.try_send(data::message(count, length)).is_ok() {
                count += 1;
            }
            let taken = usize::try_from(client.messages_taken()).unwrap();
            let receiving = async {
                for seed in 0.. {
                    match served.recv().await {
                        Ok(Some(message)) => data::check(&message, seed, length),
                        Ok(None) => return (seed, None),
                        Err(error) => return (seed, Some(error.kind())),
                    }
                }
                unreachable!("the stream ends");
            };
            let (closed, (received, error)) = tokio::join!(polled(times, client.close()), receiving);
            if closed.is_some() {
                assert_eq!((received, error), (taken, None));
                assert!(times > 1, "closing had to wait");
                return;
            }
            // As when a connection is dropped, messages that did not fit are lost, and no partial message is received
            // as a whole one.
            assert!(received <= taken);
            assert!(matches!(error, None | Some(ErrorKind::Truncated)), "{error:?}");
        }
        panic!("close never completes");
    });
}

fn accept_dropped_at_any_poll_loses_no_client(transport: Transport) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "room");
        let server = Server::bind(&address).unwrap();
        const CLIENTS: usize = 20;
        let clients = async {
            for seed in 0..CLIENTS {
                for _ in 0..10 {
                    yield_now().await;
                }
                let mut client = Connection::connect(&address).await.unwrap();
                client.send(data::message(seed, 100)).await.unwrap();
                data::check(&client.recv().await.unwrap().expect("a reply"), seed, 100);
            }
        };
        let mut drops = 0;
        let serving = async {
            for seed in 0..CLIENTS {
                let mut tries = 0;
                let mut served = loop {
                    // A handshake goes on over many short calls, and over a few longer ones.
                    match polled(1 + tries / 4, server.accept()).await {
                        Some(served) => break served.unwrap(),
                        None => tries += 1,
                    }
                    yield_now().await;
                };
                drops += tries;
                data::check(&served.recv().await.unwrap().expect("a message"), seed, 100);
                served.send(data::message(seed, 100)).await.unwrap();
            }
        };
        tokio::join!(clients, serving);
        assert!(drops > CLIENTS, "the future was dropped {drops} times");
        assert_eq!(server.stats().refused, 0);
    });
}

fn connect_dropped_at_any_poll_leaves_nothing_behind(transport: Transport) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "room");
        let server = Server::bind(&address).unwrap();
        let empty = base.files();
        let mut drops = 0;
        // First no task is in `accept`, and then one is.
        if transport == Transport::Shm || transport == Transport::Fifo {
            for times in [1, 1, 1] {
                assert!(polled(times, Connection::connect(&address)).await.is_none());
                assert_eq!(base.files(), empty);
                drops += 1;
            }
        }
        let connecting = async {
            for times in 1.. {
                match polled(times, Connection::connect(&address)).await {
                    Some(connection) => return connection.unwrap(),
                    None => {
                        drops += 1;
                        assert_eq!(base.files(), empty);
                    }
                }
            }
            unreachable!("the client connects eventually");
        };
        // Connections whose future was dropped at the last moment are clients that have disconnected.
        let serving = async {
            loop {
                let mut served = server.accept().await.unwrap();
                if let Ok(Some(message)) = served.recv().await {
                    served.send(&message).await.unwrap();
                    return;
                }
            }
        };
        let talking = async {
            let mut client = connecting.await;
            client.send(b"here").await.unwrap();
            assert_eq!(client.recv().await.unwrap().expect("a reply"), b"here");
        };
        tokio::join!(talking, serving);
        assert!(drops > 0 || matches!(transport, Transport::Unix | Transport::Packet));
        assert_eq!(base.files(), empty);
    });
}

fn connect_that_waits_for_a_server_can_be_dropped(transport: Transport) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "room");
        let options = ConnectOptions::new().wait_for_server(DEADLINE);
        for times in [1, 1, 1] {
            assert!(polled(times, options.connect_tokio(&address)).await.is_none());
        }
        let mut connecting = std::pin::pin!(options.connect_tokio(&address));
        assert!(polled(1, connecting.as_mut()).await.is_none());
        let server = Server::bind(&address).unwrap();
        let (client, served) = tokio::join!(connecting, server.accept());
        client.unwrap().send(b"found you").await.unwrap();
        assert_eq!(served.unwrap().recv().await.unwrap().expect("a message"), b"found you");
    });
}
