//! Adds each line of stdin to the notes of the daemon `notes`, from four threads, and prints the notes that anybody
//! adds. It may start before the daemon, and goes on when that is replaced, or killed and started again.

use std::io;
use std::thread;

use parlour::calls::TypedCallSession;
use parlour::{CallSession, ErrorKind};
use serde::Serialize;

#[derive(Serialize)]
enum Request {
    Add(String),
    List,
}

type Notes = TypedCallSession<Request, Vec<String>>;

fn main() -> io::Result<()> {
    let notes: &Notes = Box::leak(Box::new(CallSession::new("notes")?.typed_json()));
    let adders = [(); 4].map(|()| thread::spawn(|| add_lines(notes)));
    thread::spawn(|| follow(notes));
    adders.into_iter().try_for_each(|adder| adder.join().unwrap_or(Ok(())))
}

fn add_lines(notes: &Notes) -> io::Result<()> {
    let mut line = String::new();
    while io::stdin().read_line(&mut line)? > 0 {
        add(notes, line.trim_end())?;
        println!("added: {}", line.trim_end());
        line.clear();
    }
    Ok(())
}

fn add(notes: &Notes, note: &str) -> parlour::Result<()> {
    loop {
        match notes.call(&Request::Add(note.to_owned())) {
            // The server has gone. It may have added the note, and the next one adds no note twice.
            Err(error) if error.kind() == ErrorKind::Lost => {}
            answer => return answer.map(drop),
        }
    }
}

fn follow(notes: &Notes) {
    loop {
        match notes.session().next_push() {
            Ok(note) => println!("noted: {}", String::from_utf8_lossy(&note)),
            // A server has gone, and notes may have been missed.
            Err(error) => eprintln!("{error}; now: {:?}", notes.call(&Request::List)),
        }
    }
}
