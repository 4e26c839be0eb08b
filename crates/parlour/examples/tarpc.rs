//! Remote procedure calls by name, with [tarpc](https://docs.rs/tarpc). Run it with `cargo run --example tarpc`.
//!
//! A typed connection is a stream and a sink, which is all that an RPC crate needs as its transport.

use futures_util::StreamExt;
use parlour::tokio::{Connection, Server};
use tarpc::context::{self, Context};
use tarpc::server::{BaseChannel, Channel};
use tarpc::{ClientMessage, Response, client};

#[tarpc::service]
trait Greeter {
    async fn greet(name: String) -> String;
}

#[derive(Clone)]
struct Polite;

impl Greeter for Polite {
    async fn greet(self, _: Context, name: String) -> String {
        format!("good morning, {name}")
    }
}

/// Serves one client. The calls run concurrently, so a slow one does not delay the others.
async fn serve(connection: Connection) {
    let calls = connection.typed::<Response<GreeterResponse>, ClientMessage<GreeterRequest>>();
    BaseChannel::with_defaults(calls).execute(Polite.serve()).for_each_concurrent(None, |call| call).await;
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "greeter".to_owned());
    let server = Server::bind(&name)?;
    let stop = server.shutdown_handle();
    let serving = tokio::spawn(server.serve(serve, std::future::pending(), std::time::Duration::from_secs(5)));

    let connection = Connection::connect(&name).await?.typed();
    let client = GreeterClient::new(client::Config::default(), connection).spawn();
    let calls = ["Ada", "Grace", "Edsger"].map(|name| client.greet(context::current(), name.to_owned()));
    for greeting in futures_util::future::join_all(calls).await {
        println!("{}", greeting?);
    }

    drop(client);
    stop.shutdown();
    println!("{} connection finished", serving.await??.finished);
    Ok(())
}
