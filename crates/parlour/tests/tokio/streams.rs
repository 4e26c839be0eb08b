//! Connections as streams and sinks, and servers as streams, with the combinators of futures-util.

use std::pin::pin;

use futures_util::{Sink, SinkExt, Stream, StreamExt, TryStreamExt, stream};
use parlour::tokio::{Connection, Receiver, Sender, Server};
use parlour::{ConnectOptions, Error, ErrorKind, Message, Transport};

use crate::support::{Base, data, trials};
use crate::tasks::{Link, run};

trials! {
    for transport in Transport::ALL =>
        a_stream_of_messages_ends_with_the_connection,
        a_stream_ends_after_an_error,
        a_stream_writes_buffered_messages_before_it_waits,
        a_sink_takes_a_stream_and_keeps_the_order,
        messages_are_forwarded_from_one_connection_to_another,
        a_sink_that_is_closed_ends_its_direction,
        a_server_is_a_stream_of_connections;
}

/// Checks at compile time the bounds that RPC crates require.
fn is_a_transport<T: Stream<Item = Result<Message, Error>> + Sink<Vec<u8>, Error = Error> + Send + Unpin>(_: &T) {}

fn a_stream_of_messages_ends_with_the_connection(transport: Transport) {
    run(async {
        let Link { mut client, served, .. } = Link::new(transport).await;
        is_a_transport(&client);
        for seed in 0..10 {
            client.send(data::message(seed, 100)).await.unwrap();
        }
        client.close().await.unwrap();
        let messages: Vec<Message> = served.try_collect().await.unwrap();
        for (seed, message) in messages.iter().enumerate() {
            data::check(message, seed, 100);
        }
        assert_eq!(messages.len(), 10);
    });
}

fn a_stream_ends_after_an_error(transport: Transport) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "room");
        let server = Server::bind(&address).unwrap();
        let small = ConnectOptions::new().message_max(10);
        let (client, served) = tokio::join!(small.connect_tokio(&address), server.accept());
        let (mut client, mut served) = (client.unwrap(), served.unwrap());
        served.send(b"short").await.unwrap();
        served.send(b"much too long").await.unwrap();
        assert_eq!(client.next().await.expect("an item").unwrap(), b"short");
        let error = client.next().await.expect("the error").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MessageTooLong);
        for _ in 0..3 {
            assert!(client.next().await.is_none());
        }
    });
}

fn a_stream_writes_buffered_messages_before_it_waits(transport: Transport) {
    run(async {
        let Link { mut client, mut served, .. } = Link::new(transport).await;
        let echo = async {
            let message = served.recv().await.unwrap().expect("a message");
            served.send(&message).await.unwrap();
        };
        client.feed(b"for a reply").await.unwrap();
        let (reply, ()) = tokio::join!(client.next(), echo);
        assert_eq!(reply.expect("an item").unwrap(), b"for a reply");
    });
}

fn a_sink_takes_a_stream_and_keeps_the_order(transport: Transport) {
    const COUNT: usize = 3000;
    run(async {
        let Link { mut client, served, .. } = Link::new(transport).await;
        let length = |seed: usize| (seed * 31) % 700;
        let sending = async {
            let all = stream::iter(0..COUNT).map(|seed| Ok(data::message(seed, length(seed))));
            let mut all = pin!(all);
            client.send_all(&mut all).await.unwrap();
            assert_eq!(client.messages_taken(), COUNT as u64);
            client
        };
        let receiving = served.take(COUNT).enumerate().for_each(|(seed, message)| async move {
            data::check(&message.unwrap(), seed, length(seed));
        });
        tokio::join!(sending, receiving);
    });
}

fn messages_are_forwarded_from_one_connection_to_another(transport: Transport) {
    run(async {
        let one = Link::new(transport).await;
        let other = Link::new(transport).await;
        let (mut begin, mut end) = (one.client, other.client);
        // Messages pass through the server's ends of both connections, in each direction.
        let (there_in, there_out): (Sender, Receiver) = one.served.split();
        let (back_in, back_out) = other.served.split();
        let there = there_out.forward(back_in);
        let back = back_out.forward(there_in);
        let talking = async {
            for seed in 0..20 {
                begin.send(data::message(seed, 50_000)).await.unwrap();
                let message = end.recv().await.unwrap().expect("a message");
                end.send(&message).await.unwrap();
                data::check(&begin.recv().await.unwrap().expect("a reply"), seed, 50_000);
            }
            begin.finish().await.unwrap();
            assert_eq!(end.recv().await.unwrap(), None, "the end of the stream is forwarded, too");
            end.finish().await.unwrap();
            assert_eq!(begin.recv().await.unwrap(), None);
        };
        let (there, back, ()) = tokio::join!(there, back, talking);
        there.and(back).unwrap();
    });
}

fn a_sink_that_is_closed_ends_its_direction(transport: Transport) {
    run(async {
        let Link { mut client, mut served, .. } = Link::new(transport).await;
        SinkExt::feed(&mut client, b"last".to_vec()).await.unwrap();
        SinkExt::<Vec<u8>>::close(&mut client).await.unwrap();
        assert_eq!(served.recv().await.unwrap().expect("a message"), b"last");
        assert_eq!(served.recv().await.unwrap(), None);
        let error = SinkExt::send(&mut client, b"too late").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected);
        served.send(b"the other direction goes on").await.unwrap();
        assert_eq!(client.next().await.expect("an item").unwrap(), b"the other direction goes on");
    });
}

fn a_server_is_a_stream_of_connections(transport: Transport) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "room");
        let server = Server::bind(&address).unwrap();
        let (handle, address) = (server.shutdown_handle(), &address);
        let serving = server.incoming().for_each_concurrent(None, |connection| async {
            let mut connection = connection.unwrap();
            while let Some(message) = connection.recv().await.unwrap() {
                connection.send(&message).await.unwrap();
            }
        });
        let clients = async {
            stream::iter(0..20)
                .for_each_concurrent(5, |seed| async move {
                    let mut client = Connection::connect(address).await.unwrap();
                    client.send(data::message(seed, 100)).await.unwrap();
                    data::check(&client.recv().await.unwrap().expect("a reply"), seed, 100);
                    client.close().await.unwrap();
                })
                .await;
            handle.shutdown();
        };
        tokio::join!(serving, clients);
        let mut incoming = server.incoming();
        assert!(incoming.next().await.is_none(), "the server is shut down");
        assert!(incoming.next().await.is_none());
    });
}
