//! Hand-overs from and to a hub and a tokio server, whose programs need no code of their own for it.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use parlour::hub::{Event, Hub, HubOptions};
use parlour::{Caller, ConnectOptions, Connection, ErrorKind, Server, ServerOptions, Transport, TryRecvError};

use crate::support::{Base, DEADLINE, SOON, trials, wait};

trials! {
    for transport in Transport::ALL =>
        a_hub_goes_on_with_its_clients_and_then_ends,
        a_hub_without_clients_ends_at_once,
        a_shutdown_ends_a_hub_that_has_handed_its_name_over_and_waits,
        a_server_of_calls_answers_its_clients_and_then_ends,
        serving_in_tasks_ends_with_its_grace_period,
        the_grace_after_a_hand_over_is_an_option_of_step(step in ["hub", "polled_hub", "calls", "tasks"]),
        a_shutdown_by_means_after_a_hand_over_ends_the_tasks_of_step(
            step in ["serve", "serve_calls"], means in ["future", "handle"]
        );
}

fn connect(address: &str) -> Connection {
    ConnectOptions::new().timeout(DEADLINE).connect(address).unwrap()
}

fn talk(client: &mut Connection) {
    client.send("hello").unwrap();
    assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
}

/// Echoes until the hub ends by itself. Returns the kind of its error.
fn run_hub(mut hub: Hub) -> ErrorKind {
    let mut joined = BTreeMap::new();
    loop {
        match hub.next_event() {
            Ok(Event::Joined(client, peer)) => drop(joined.insert(client, peer)),
            Ok(Event::Message(client, message)) => hub.send(client, &message).unwrap(),
            Ok(Event::Finished(client)) => hub.finish(client).unwrap(),
            Ok(Event::Left(client, _)) => assert!(joined.remove(&client).is_some()),
            Ok(_) => {}
            Err(error) => {
                let kind = error.kind();
                assert!(kind != ErrorKind::HandedOver || joined.is_empty(), "clients are left: {joined:?}");
                hub.close().unwrap();
                return kind;
            }
        }
    }
}

fn next(address: &str) -> Hub {
    HubOptions::from(ServerOptions::new().take_over(DEADLINE)).bind(address).unwrap()
}

fn a_hub_goes_on_with_its_clients_and_then_ends(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "room");
    let old = thread::spawn({
        let hub = Hub::bind(&address).unwrap();
        move || run_hub(hub)
    });
    let mut early = connect(&address);
    talk(&mut early);
    let new = next(&address);
    let shutdown = new.shutdown_handle();
    let new = thread::spawn(move || run_hub(new));
    let mut late = connect(&address);
    for _ in 0..3 {
        talk(&mut early);
        talk(&mut late);
    }
    assert!(!old.is_finished(), "the old hub has a client");
    early.close().unwrap();
    assert_eq!(old.join().unwrap(), ErrorKind::HandedOver);
    talk(&mut late);
    late.close().unwrap();
    shutdown.shutdown();
    assert_eq!(new.join().unwrap(), ErrorKind::Shutdown);
    assert_eq!(base.files(), [""; 0]);
}

fn a_hub_without_clients_ends_at_once(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "room");
    let mut old = Hub::bind(&address).unwrap();
    thread::scope(|scope| {
        let ending = scope.spawn(|| old.next_event_timeout(SOON).map(drop).unwrap_err().kind());
        drop(next(&address));
        assert_eq!(ending.join().unwrap(), ErrorKind::HandedOver);
    });
    // The error is the same from then on.
    assert_eq!(old.next_event_timeout(Duration::ZERO).unwrap_err().kind(), ErrorKind::HandedOver);
}

fn a_shutdown_ends_a_hub_that_has_handed_its_name_over_and_waits(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "room");
    let mut old = Hub::bind(&address).unwrap();
    let shutdown = old.shutdown_handle();
    thread::scope(|scope| {
        let ending = scope.spawn(move || {
            let error = loop {
                match old.next_event_timeout(DEADLINE) {
                    Ok(Event::Message(client, message)) => old.send(client, &message).unwrap(),
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            error.kind()
        });
        let mut early = connect(&address);
        talk(&mut early);
        let new = next(&address);
        // The old hub has a client, and nothing to do. An answer shows that it has noticed the hand-over.
        talk(&mut early);
        shutdown.shutdown();
        assert_eq!(ending.join().unwrap(), ErrorKind::Shutdown);
        drop(new);
    });
}

fn a_server_of_calls_answers_its_clients_and_then_ends(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "room");
    let serve = |server: Server| {
        thread::spawn(move || {
            server.serve_calls(|call| {
                let answer = call.to_vec();
                call.reply(&answer).unwrap();
            })
        })
    };
    let old = serve(Server::bind(&address).unwrap());
    let early = Caller::new(connect(&address)).unwrap();
    assert_eq!(early.call_timeout("early", DEADLINE).unwrap(), b"early");
    let server = ServerOptions::new().take_over(DEADLINE).bind(&address).unwrap();
    let shutdown = server.shutdown_handle();
    let new = serve(server);
    let late = Caller::new(connect(&address)).unwrap();
    assert_eq!(late.call_timeout("late", DEADLINE).unwrap(), b"late");
    assert_eq!(early.call_timeout("early", DEADLINE).unwrap(), b"early");
    drop(early);
    old.join().unwrap().unwrap();
    assert_eq!(late.call_timeout("late", DEADLINE).unwrap(), b"late");
    shutdown.shutdown();
    new.join().unwrap().unwrap();
}

fn serving_in_tasks_ends_with_its_grace_period(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "room");
    let old = thread::spawn({
        let address = address.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        move || {
            let served = runtime.block_on(async {
                let server = parlour::tokio::Server::bind(&address).unwrap();
                server.serve(echo, std::future::pending(), DEADLINE).await
            });
            served.unwrap()
        }
    });
    let mut early = ConnectOptions::new().wait_for_server(DEADLINE).connect(&address).unwrap();
    talk(&mut early);
    let new = ServerOptions::new().take_over(DEADLINE).bind(&address).unwrap();
    // The client goes on in its task, and the name has another server.
    talk(&mut early);
    assert_eq!(Server::bind(&address).unwrap_err().kind(), ErrorKind::NameInUse);
    early.close().unwrap();
    let served = old.join().unwrap();
    assert_eq!((served.finished, served.ended, served.panicked), (1, 0, 0));
    thread::scope(|scope| {
        let client = scope.spawn(|| connect(&address));
        new.accept_timeout(DEADLINE).unwrap();
        drop(client.join().unwrap());
    });
    new.close().unwrap();
    assert_eq!(base.files(), [""; 0]);
}

/// The client stays, so that nothing but the grace period ends its server.
fn the_grace_after_a_hand_over_is_an_option_of_step(transport: Transport, step: &str) {
    const GRACE: Duration = Duration::from_millis(200);
    let base = Base::new();
    let address = base.address(transport, "room");
    let options = ServerOptions::new().hand_over_grace(GRACE);
    thread::scope(|scope| {
        let old = scope.spawn(|| match step {
            "hub" => {
                let mut hub = HubOptions::from(options).bind(&address).unwrap();
                let error = loop {
                    if let Err(error) = hub.next_event_timeout(DEADLINE) {
                        break error;
                    }
                };
                assert_eq!(error.kind(), ErrorKind::HandedOver);
            }
            "polled_hub" => {
                let mut hub = HubOptions::from(options).bind(&address).unwrap();
                let kind = loop {
                    match hub.try_next_event() {
                        Ok(_) => {}
                        Err(TryRecvError::Empty) => assert!(wait::readable(&hub), "the hub does not end"),
                        Err(TryRecvError::Failed(error)) => break error.kind(),
                    }
                };
                assert_eq!(kind, ErrorKind::HandedOver);
            }
            "calls" => options.bind(&address).unwrap().serve_calls(drop).unwrap(),
            _ => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let served = runtime.block_on(async {
                    let server = options.bind_tokio(&address).unwrap();
                    server.serve(echo, std::future::pending(), DEADLINE * 10).await
                });
                assert_eq!(served.unwrap().ended, 1);
            }
        });
        let client = ConnectOptions::new().wait_for_server(DEADLINE).connect(&address).unwrap();
        let new = ServerOptions::new().take_over(DEADLINE).bind(&address).unwrap();
        let begin = Instant::now();
        old.join().unwrap();
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        drop((client, new));
    });
}

/// The client stays, and the time after the hand-over is long.
fn a_shutdown_by_means_after_a_hand_over_ends_the_tasks_of_step(transport: Transport, step: &str, means: &str) {
    let base = Base::new();
    let address = base.address(transport, "room");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (tell, handle) = mpsc::channel();
    thread::scope(|scope| {
        let old = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let grace = Duration::from_millis(100);
            runtime.block_on(async {
                let server = ServerOptions::new().hand_over_grace(DEADLINE * 10).bind_tokio(&address).unwrap();
                tell.send(server.shutdown_handle()).unwrap();
                let shutdown = async {
                    // The sender is dropped if the handle is used instead.
                    if stopped.await.is_err() {
                        std::future::pending().await
                    }
                };
                match step {
                    "serve" => server.serve(echo, shutdown, grace).await,
                    _ => server.serve_calls(|call| async { drop(call) }, shutdown, grace).await,
                }
            })
        });
        let handle = handle.recv().unwrap();
        let client = connect(&address);
        let new = ServerOptions::new().take_over(DEADLINE).bind(&address).unwrap();
        let begin = Instant::now();
        match means {
            "future" => stop.send(()).unwrap(),
            _ => {
                drop(stop);
                handle.shutdown();
            }
        }
        let served = old.join().unwrap().unwrap();
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        assert_eq!(served.finished + served.ended, 1);
        drop((client, new));
    });
}

async fn echo(mut client: parlour::tokio::Connection) {
    while let Ok(Some(message)) = client.recv().await {
        if client.send(&message).await.is_err() {
            return;
        }
    }
}
