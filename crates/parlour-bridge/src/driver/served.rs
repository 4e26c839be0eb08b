//! The server of the status, under a name of this host.

use std::sync::Arc;
use std::time::Duration;

use parlour::tokio::{Connection, Server};
use parlour::{ServerOptions, Transport};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use super::event::Event;
use crate::status::NAME;

/// The pause before the next try, while another bridge of the same user has the name.
const PAUSE: Duration = Duration::from_secs(1);

/// The maximum number of clients at a time. Further ones wait.
const CLIENTS_MAX: usize = 16;

/// The time without a question after which a client is closed.
const IDLE: Duration = Duration::from_secs(5);

/// Serves the status for as long as the bridge runs.
pub(super) async fn serve(events: UnboundedSender<Event>, log: fn(&str)) {
    let mut is_told = false;
    loop {
        let server = ServerOptions::new().transports([Transport::Unix]).hand_over(false).bind_tokio(NAME);
        let problem = match server {
            Ok(server) => {
                is_told = false;
                accept(&server, &events).await
            }
            Err(error) => error,
        };
        if !std::mem::replace(&mut is_told, true) {
            log(&format!("the status is not served: {problem}; trying again"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Returns the error that ends the server.
async fn accept(server: &Server, events: &UnboundedSender<Event>) -> parlour::Error {
    let (places, mut tasks) = (Arc::new(Semaphore::new(CLIENTS_MAX)), JoinSet::new());
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let client = match server.accept().await {
            Ok(client) => client,
            Err(error) => return error,
        };
        let events = events.clone();
        tasks.spawn(async move {
            let _place = place;
            answer(client, &events).await;
        });
        while tasks.try_join_next().is_some() {}
    }
}

/// Answers each message of a client. An error is that client's own.
async fn answer(mut client: Connection, events: &UnboundedSender<Event>) {
    while let Ok(Ok(Some(_))) = tokio::time::timeout(IDLE, client.recv()).await {
        let (reply, status) = oneshot::channel();
        let _ = events.send(Event::Status { reply });
        let Ok(Ok(text)) = status.await.map(|status| status.to_json()) else { return };
        if !matches!(tokio::time::timeout(IDLE, client.send(text.as_bytes())).await, Ok(Ok(()))) {
            return;
        }
    }
}
