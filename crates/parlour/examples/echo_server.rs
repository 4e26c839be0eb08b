//! Sends every message back. Run `cargo run --example echo_server`, then `cargo run --example echo_client`.

use std::thread;

use parlour::{Connection, Server};

fn main() -> parlour::Result<()> {
    for client in Server::bind("echo")?.incoming() {
        let client = client?;
        thread::spawn(move || echo(client)); // an error of a client ends the thread of this client
    }
    Ok(())
}

fn echo(mut client: Connection) -> parlour::Result<()> {
    while let Some(message) = client.recv()? {
        client.send(&message)?;
    }
    Ok(())
}
