//! Serves requests in JSON, which programs in any language can send. Run `cargo run --example json_server`, then
//! `parlour call sums '{"Add":[2,3]}'`.

use std::thread;

use parlour::{Connection, ErrorKind, Server};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
enum Request {
    Add(i64, i64),
    Negate { number: i64 },
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Sum(i64),
    Error(String),
}

fn main() -> parlour::Result<()> {
    for client in Server::bind("sums")?.incoming() {
        let client = client?;
        thread::spawn(move || serve(client)); // an error of a client ends the thread of this client
    }
    Ok(())
}

fn serve(client: Connection) -> parlour::Result<()> {
    let mut client = client.typed_json::<Answer, Request>();
    loop {
        let sum = match client.recv() {
            Ok(Some(Request::Add(a, b))) => a.checked_add(b).ok_or_else(|| "the sum is too large".to_owned()),
            Ok(Some(Request::Negate { number })) => number.checked_neg().ok_or_else(|| "it is too large".to_owned()),
            Ok(None) => return Ok(()),
            // The message is no request. The connection goes on.
            Err(error) if error.kind() == ErrorKind::Encoding => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        client.send(&sum.map_or_else(Answer::Error, Answer::Sum))?;
    }
}
