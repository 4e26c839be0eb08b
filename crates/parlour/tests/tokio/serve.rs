//! `Server::serve`, and its graceful shutdown.

use std::time::{Duration, Instant};

use parlour::tokio::{Connection, Server};
use parlour::{ErrorKind, Transport};
use tokio::sync::oneshot;

use crate::support::{Base, DEADLINE, SOON, trials};
use crate::tasks::run;

const GRACE: Duration = Duration::from_millis(200);

trials! {
    handlers_are_aborted_after_the_grace_period,
    shutdown_without_clients_does_not_wait,
    the_shutdown_handle_ends_serving_too,
    a_handler_that_panics_is_counted_and_does_not_disturb_others,
    handlers_that_ended_before_shutdown_are_counted,
    dropping_serve_aborts_every_handler,
    a_server_that_lost_its_name_lets_handlers_finish_and_returns_the_error;
    for transport in Transport::ALL =>
        at_shutdown_new_clients_are_refused_and_connected_ones_may_finish;
}

async fn echo(mut connection: Connection) {
    while let Ok(Some(message)) = connection.recv().await {
        if connection.send(&message).await.is_err() {
            return;
        }
    }
}

async fn talk(client: &mut Connection) {
    client.send(b"hello").await.unwrap();
    assert_eq!(client.recv().await.unwrap().expect("a reply"), b"hello");
}

/// Starts a server that serves with `echo` until the returned sender is used.
fn start(base: &Base, transport: Transport, grace: Duration) -> (String, oneshot::Sender<()>, Serving) {
    let address = base.address(transport, "room");
    let server = Server::bind(&address).unwrap();
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(async move { server.serve(echo, async { drop(stopped.await) }, grace).await });
    (address, stop, serving)
}

type Serving = tokio::task::JoinHandle<parlour::Result<parlour::tokio::Served>>;

fn at_shutdown_new_clients_are_refused_and_connected_ones_may_finish(transport: Transport) {
    run(async {
        let base = Base::new();
        let (address, stop, serving) = start(&base, transport, DEADLINE);
        let mut client = Connection::connect(&address).await.unwrap();
        talk(&mut client).await;
        stop.send(()).unwrap();
        // The name is free before the last handler has ended.
        let begin = Instant::now();
        let mut admitted = 1;
        loop {
            match Connection::connect(&address).await {
                Err(error) if error.kind() == ErrorKind::NoServer => break,
                other => admitted += u64::from(other.is_ok()),
            }
            assert!(begin.elapsed() < SOON, "clients are still admitted");
        }
        let successor = loop {
            match Server::bind(&address) {
                Ok(successor) => break successor,
                // The server still accepts those that have connected.
                Err(error) => assert!(error.kind() == ErrorKind::NameInUse && begin.elapsed() < SOON, "{error}"),
            }
            tokio::task::yield_now().await;
        };
        talk(&mut client).await;
        client.close().await.unwrap();
        let served = serving.await.unwrap().unwrap();
        // Every client that had connected was served.
        assert_eq!((served.finished, served.ended, served.panicked), (admitted, 0, 0));
        drop(successor);
    });
}

fn handlers_are_aborted_after_the_grace_period() {
    run(async {
        let base = Base::new();
        let (address, stop, serving) = start(&base, Transport::Unix, GRACE);
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = Connection::connect(&address).await.unwrap();
            talk(&mut client).await;
            clients.push(client);
        }
        // One client closes its connection within the grace period.
        let begin = Instant::now();
        stop.send(()).unwrap();
        clients.pop().unwrap().close().await.unwrap();
        let served = serving.await.unwrap().unwrap();
        assert_eq!((served.finished, served.ended, served.panicked), (1, 2, 0));
        assert!((GRACE..SOON).contains(&begin.elapsed()), "it took {:?}", begin.elapsed());
        for mut client in clients {
            assert_eq!(client.recv().await.unwrap(), None);
        }
    });
}

fn shutdown_without_clients_does_not_wait() {
    run(async {
        let base = Base::new();
        let (_, stop, serving) = start(&base, Transport::Unix, DEADLINE);
        let begin = Instant::now();
        stop.send(()).unwrap();
        assert_eq!(serving.await.unwrap().unwrap(), Default::default());
        assert!(begin.elapsed() < SOON);
    });
}

fn the_shutdown_handle_ends_serving_too() {
    run(async {
        let base = Base::new();
        let server = Server::bind(base.address(Transport::Unix, "room")).unwrap();
        let handle = server.shutdown_handle();
        let serving = tokio::spawn(server.serve(echo, std::future::pending(), DEADLINE));
        tokio::task::yield_now().await;
        handle.shutdown();
        assert_eq!(serving.await.unwrap().unwrap(), Default::default());
    });
}

fn a_handler_that_panics_is_counted_and_does_not_disturb_others() {
    run(async {
        let base = Base::new();
        let address = base.address(Transport::Unix, "room");
        let server = Server::bind(&address).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let moody = |mut connection: Connection| async move {
            while let Ok(Some(message)) = connection.recv().await {
                if &*message == b"panic" {
                    std::panic::resume_unwind(Box::new("the handler's own"));
                }
                connection.send(&message).await.unwrap();
            }
        };
        let serving = tokio::spawn(server.serve(moody, async { drop(stopped.await) }, DEADLINE));
        let mut calm = Connection::connect(&address).await.unwrap();
        let mut other = Connection::connect(&address).await.unwrap();
        other.send(b"panic").await.unwrap();
        assert_eq!(other.recv().await.unwrap(), None);
        talk(&mut calm).await;
        drop(calm);
        stop.send(()).unwrap();
        let served = serving.await.unwrap().unwrap();
        assert_eq!((served.finished, served.ended, served.panicked), (1, 0, 1));
    });
}

fn handlers_that_ended_before_shutdown_are_counted() {
    run(async {
        let base = Base::new();
        let (address, stop, serving) = start(&base, Transport::Unix, DEADLINE);
        let mut stays = Connection::connect(&address).await.unwrap();
        // More handlers than the server keeps before it removes finished ones.
        for _ in 0..300 {
            let mut client = Connection::connect(&address).await.unwrap();
            talk(&mut client).await;
        }
        talk(&mut stays).await;
        stays.close().await.unwrap();
        stop.send(()).unwrap();
        assert_eq!(serving.await.unwrap().unwrap().finished, 301);
    });
}

fn dropping_serve_aborts_every_handler() {
    run(async {
        let base = Base::new();
        let (address, _stop, serving) = start(&base, Transport::Unix, DEADLINE);
        let mut client = Connection::connect(&address).await.unwrap();
        talk(&mut client).await;
        serving.abort();
        assert_eq!(client.recv().await.unwrap(), None);
        assert!(serving.await.unwrap_err().is_cancelled());
        assert_eq!(base.files(), [""; 0]);
    });
}

fn a_server_that_lost_its_name_lets_handlers_finish_and_returns_the_error() {
    run(async {
        let base = Base::new();
        let (address, _stop, serving) = start(&base, Transport::Unix, DEADLINE);
        let mut client = Connection::connect(&address).await.unwrap();
        talk(&mut client).await;
        std::fs::remove_dir_all(base.name("room")).unwrap();
        for _ in 0..10 {
            talk(&mut client).await;
        }
        client.close().await.unwrap();
        assert_eq!(serving.await.unwrap().unwrap_err().kind(), ErrorKind::NameLost);
    });
}
