//! A server that takes its name over from the version that runs, and hands it over to the next one. Start it again and
//! again: its clients notice nothing.

use std::thread;
use std::time::Duration;

use parlour::{Connection, ServerOptions};

fn main() -> parlour::Result<()> {
    let server = ServerOptions::new().take_over(Duration::from_secs(10)).bind("echo")?;
    thread::scope(|scope| {
        for client in server.incoming() {
            let client = client?;
            scope.spawn(move || echo(client));
        }
        // Another server has the name. The scope ends with the last conversation.
        Ok(())
    })
}

fn echo(mut client: Connection) -> parlour::Result<()> {
    while let Some(message) = client.recv()? {
        client.send(&message)?;
    }
    Ok(())
}
