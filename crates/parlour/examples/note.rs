//! The command line of the daemon `notes`: adds its words as a note, or lists the notes. Run
//! `cargo run --example notes`, then `cargo run --example note buy milk`.

use std::time::Duration;

use parlour::{Caller, ConnectOptions};
use serde::Serialize;

#[derive(Serialize)]
enum Request {
    Add(String),
    List,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let request = if words.is_empty() { Request::List } else { Request::Add(words.join(" ")) };
    // The daemon may be starting, or may be replaced at this moment.
    let connection = ConnectOptions::new().wait_for_server(Duration::from_secs(5)).connect("notes")?;
    let notes = Caller::new(connection)?.typed_json::<Request, Vec<String>>();
    for note in notes.call_timeout(&request, Duration::from_secs(5))? {
        println!("{note}");
    }
    Ok(())
}
