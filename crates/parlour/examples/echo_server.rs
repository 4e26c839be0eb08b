//! Sends every message back. Run `cargo run --example echo_server`, then `cargo run --example echo_client`.

use parlour::Server;

fn main() -> parlour::Result<()> {
    let server = Server::bind("echo")?;
    eprintln!("serving at {}", server.path().display());
    // This serves one client after the other. The example `team` serves many at once.
    for client in server.incoming() {
        let mut client = client?;
        eprintln!("client: {}", client.peer());
        let mut message = Vec::new();
        while client.recv_into(&mut message)?.is_some() {
            client.send(&message)?;
        }
    }
    Ok(())
}
