//! A daemon that keeps notes in a file. Start it again to replace it while it runs: its clients (`notes_client`) notice
//! nothing. SIGINT and SIGTERM stop it. From the shell: `parlour call --id --json notes '{"Add":"buy milk"}'`.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use parlour::ServerOptions;
use parlour::calls::{CallServer, TypedCall};
use serde::Deserialize;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The answer to each request is a list of notes.
#[derive(Deserialize)]
enum Request {
    Add(String),
    List,
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "notes.json".to_owned());
    let mut file = File::options().append(true).create(true).open(&path)?;
    let server = ServerOptions::new().take_over(Duration::from_secs(10)).bind("notes")?;
    let server = CallServer::new(server)?;
    let (shutdown, pusher) = (server.shutdown_handle(), server.pusher());
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || signals.forever().for_each(|_| shutdown.shutdown()));
    // Ends after a signal, or when another process has the name and the clients have gone there.
    server.serve_typed_json(|request, call: TypedCall<Vec<String>>| {
        // An error of sending means that the client has gone.
        let _ = match (request, list(&path)) {
            (_, Err(error)) => call.fail(error.to_string()),
            (Request::List, Ok(notes)) => call.reply(&notes),
            // A client repeats a request if it does not know whether the note was added.
            (Request::Add(note), Ok(notes)) if notes.contains(&note) => call.reply(&vec![note]),
            (Request::Add(note), Ok(_)) => match add(&mut file, &note) {
                Ok(()) => pusher.push_all(&note).and(call.reply(&vec![note])),
                Err(error) => call.fail(error.to_string()),
            },
        };
    })?;
    Ok(())
}

/// Writes a line, which begins with its line feed: one that a killed process left unfinished harms no other.
fn add(file: &mut File, note: &str) -> io::Result<()> {
    file.write_all(format!("\n{}", serde_json::to_string(note)?).as_bytes())
}

fn list(path: &str) -> io::Result<Vec<String>> {
    let text = fs::read(path)?;
    Ok(text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}
