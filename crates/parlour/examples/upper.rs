//! Answers each message in capitals. A thread does the work, so that no client waits for that of another one.
//!
//! Run `cargo run --example upper`, then `parlour call upper hello`.

use std::sync::mpsc;
use std::thread;

use parlour::Message;
use parlour::hub::{Client, Event, Hub};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut hub = Hub::bind("upper")?;
    let handle = hub.handle()?;
    let (work, requests) = mpsc::channel::<(Client, Option<Message>)>();
    let (answered, answers) = mpsc::channel();
    thread::spawn(move || {
        for (client, request) in requests {
            let answer = request.map(|request| slow_answer(&request));
            if answered.send((client, answer)).is_err() {
                return; // the hub has ended
            }
            handle.wake();
        }
    });
    loop {
        match hub.next_event()? {
            Event::Message(client, request) => work.send((client, Some(request)))?,
            // The client still waits for answers. The thread passes the `None` on after the last one.
            Event::Finished(client) => work.send((client, None))?,
            Event::Woken => {
                for (client, answer) in answers.try_iter() {
                    match answer {
                        Some(answer) => hub.send(client, &answer)?,
                        None => hub.finish(client)?,
                    }
                }
            }
            Event::Left(client, reason) => println!("{client} has left: {reason}"),
            _ => {}
        }
    }
}

// Stands for work that takes long.
fn slow_answer(request: &[u8]) -> Vec<u8> {
    request.to_ascii_uppercase()
}
