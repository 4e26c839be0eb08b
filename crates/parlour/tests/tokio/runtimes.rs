//! The runtimes in which the tokio API works, and the errors where it does not.

use std::time::Duration;

use parlour::tokio::{Connection, Server};
use parlour::{ConnectOptions, ErrorKind, Transport};
use tokio::runtime::Builder;

use crate::support::{Base, DEADLINE, data, trials};

trials! {
    outside_of_a_runtime_there_is_an_error_and_nothing_is_left_behind,
    a_runtime_that_has_ended_is_an_error;
    for transport in Transport::ALL =>
        a_runtime_without_timers_and_with_one_thread_is_enough,
        tasks_on_several_threads_share_a_server,
        the_ends_may_use_different_apis,
        a_connection_goes_on_when_it_is_handed_to_another_task;
}

fn a_runtime_without_timers_and_with_one_thread_is_enough(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "room");
    let runtime = Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        let wait_limit = ConnectOptions::new().wait_for_server(Duration::from_millis(50));
        let error = wait_limit.connect_tokio(&address).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoServer);

        let server = Server::bind(&address).unwrap();
        let hurried = ConnectOptions::new().timeout(Duration::from_millis(50));
        match hurried.connect_tokio(&address).await {
            Ok(connection) => assert!(matches!(connection.transport(), Transport::Unix | Transport::Packet)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
        }
        let serving = server.serve(echo, until_one_is_served(), Duration::from_millis(50));
        let client = async {
            let mut client = Connection::connect(&address).await.unwrap();
            client.send(b"hello").await.unwrap();
            assert_eq!(client.recv().await.unwrap().expect("a reply"), b"hello");
            client
        };
        let (served, _client) = tokio::join!(serving, client);
        assert_eq!(served.unwrap().ended, 1, "the client stays connected beyond the grace period");
    });
}

async fn echo(mut connection: Connection) {
    while let Ok(Some(message)) = connection.recv().await {
        if connection.send(&message).await.is_err() {
            return;
        }
    }
}

/// Waits long enough for a client to be admitted, without a timer.
async fn until_one_is_served() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

fn tasks_on_several_threads_share_a_server(transport: Transport) {
    const CLIENTS: usize = 24;
    let base = Base::new();
    let address = base.address(transport, "room");
    let runtime = Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let server = std::sync::Arc::new(Server::bind(&address).unwrap());
        let accepting: Vec<_> = (0..3)
            .map(|_| {
                let server = std::sync::Arc::clone(&server);
                tokio::spawn(async move {
                    let mut count = 0;
                    loop {
                        match server.accept().await {
                            Ok(connection) => drop(tokio::spawn(echo(connection))),
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Shutdown);
                                return count;
                            }
                        }
                        count += 1;
                    }
                })
            })
            .collect();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|seed| {
                let address = address.clone();
                tokio::spawn(async move {
                    let mut client = Connection::connect(address).await.unwrap();
                    for round in 0..20 {
                        let (seed, length) = (seed + round, (seed * 997 + round * 31) % 5000);
                        client.send(data::message(seed, length)).await.unwrap();
                        data::check(&client.recv().await.unwrap().expect("a reply"), seed, length);
                    }
                    client.close().await.unwrap();
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        server.shutdown_handle().shutdown();
        let mut accepted = 0;
        for task in accepting {
            accepted += task.await.unwrap();
        }
        assert_eq!(accepted, CLIENTS);
    });
}

fn the_ends_may_use_different_apis(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "room");
    let server = parlour::Server::bind(&address).unwrap();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| parlour::Connection::connect(&address).unwrap());
        let mut served = server.accept_timeout(DEADLINE).unwrap();
        let client = client.join().unwrap();
        scope.spawn(move || {
            while let Some(message) = served.recv().unwrap() {
                served.send(&message).unwrap();
            }
        });
        crate::tasks::run(async {
            let mut client = Connection::from_blocking(client).unwrap();
            for length in [0, 100, 1_000_000] {
                client.send(data::message(1, length)).await.unwrap();
                data::check(&client.recv().await.unwrap().expect("a reply"), 1, length);
            }
        });
    });
}

/// The waker of the first task is replaced by that of the second one.
fn a_connection_goes_on_when_it_is_handed_to_another_task(transport: Transport) {
    crate::tasks::run(async {
        let crate::tasks::Link { mut client, mut served, .. } = crate::tasks::Link::new(transport).await;
        for seed in 0..20 {
            assert!(crate::tasks::polled(1, client.recv()).await.is_none());
            let receiving = tokio::spawn(async move {
                let message = client.recv().await.unwrap().expect("a message");
                (client, message)
            });
            tokio::task::yield_now().await;
            served.send(data::message(seed, 100)).await.unwrap();
            let message;
            (client, message) = receiving.await.unwrap();
            data::check(&message, seed, 100);
        }
    });
}

fn outside_of_a_runtime_there_is_an_error_and_nothing_is_left_behind() {
    let base = Base::new();
    let address = base.address(Transport::Unix, "room");
    let error = Server::bind(&address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("tokio runtime"), "{error}");
    assert_eq!(base.files(), [""; 0]);

    for &transport in Transport::ALL {
        let address = base.address(transport, "other");
        let server = parlour::Server::bind(&address).unwrap();
        let connecting = Connection::connect(&address);
        let error = futures_util::future::FutureExt::now_or_never(connecting)
            .expect("the error is returned without waiting")
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        server.close().unwrap();
    }
    assert_eq!(base.files(), [""; 0]);
}

fn a_runtime_that_has_ended_is_an_error() {
    let base = Base::new();
    let address = base.address(Transport::Unix, "room");
    let first = Builder::new_current_thread().enable_io().build().unwrap();
    let (server, mut client) = first.block_on(async {
        let server = Server::bind(&address).unwrap();
        let client = Connection::connect(&address).await.unwrap();
        (server, client)
    });
    drop(first);
    crate::tasks::run(async {
        assert_eq!(client.recv().await.unwrap_err().kind(), ErrorKind::Io);
        let accepted = server.accept().await;
        // The client was in the queue already, so accepting it needed no waiting.
        accepted.unwrap();
        assert_eq!(server.accept().await.unwrap_err().kind(), ErrorKind::Io);
    });
}
