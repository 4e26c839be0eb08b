//! Sends every message back, with a task for each client. Run `cargo run --example tokio_echo_server --features tokio`.

use std::time::Duration;

use parlour::tokio::{Connection, Server};

#[tokio::main]
async fn main() -> parlour::Result<()> {
    // When `stop` completes, the server accepts no more clients. Open connections have five seconds to finish.
    let stop = std::future::pending();
    Server::bind("echo")?.serve(echo, stop, Duration::from_secs(5)).await?;
    Ok(())
}

async fn echo(mut client: Connection) {
    while let Ok(Some(message)) = client.recv().await {
        if client.send(&message).await.is_err() {
            break;
        }
    }
}
