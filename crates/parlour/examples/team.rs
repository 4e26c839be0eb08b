//! A server with a thread for each client. Each line of a client is sent to all others.
//!
//! Try it with `parlour connect team` in several terminals.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use parlour::{Connection, Result, Sender, Server, ServerOptions, Transport};

type Team = Arc<Mutex<HashMap<u64, Sender>>>;

fn main() -> Result<()> {
    let server: Server = ServerOptions::new().transports([Transport::Unix, Transport::Fifo]).bind("team")?;
    let team = Team::default();
    for (number, client) in (0..).zip(server.incoming()) {
        let client = client?;
        let team = Arc::clone(&team);
        thread::spawn(move || {
            if let Err(error) = serve(number, client, &team) {
                eprintln!("client {number}: {error}");
            }
            lock(&team).remove(&number);
        });
    }
    Ok(())
}

fn serve(number: u64, client: Connection, team: &Team) -> Result<()> {
    let who = format!("{number} ({}): ", client.peer());
    let (sender, mut receiver) = client.split();
    lock(team).insert(number, sender);
    while let Some(message) = receiver.recv()? {
        let line = [who.as_bytes(), &message].concat();
        // A client that does not keep up misses this line, so that it does not delay the others.
        for (_, other) in lock(team).iter_mut().filter(|(other, _)| **other != number) {
            if let Err(error) = other.try_send(&line) {
                eprintln!("not sent: {error}");
            }
        }
    }
    Ok(())
}

fn lock(team: &Team) -> std::sync::MutexGuard<'_, HashMap<u64, Sender>> {
    team.lock().unwrap_or_else(PoisonError::into_inner)
}
