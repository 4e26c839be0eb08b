//! A chat room in a few lines: each message of a client is sent to all. The example `chat` does more.

use parlour::hub::{Event, Hub};

fn main() -> parlour::Result<()> {
    let mut hub = Hub::bind("chat")?;
    loop {
        match hub.next_event()? {
            Event::Joined(client, peer) => println!("{client} is {peer}"),
            Event::Message(client, text) => {
                let line = [format!("{client}: ").as_bytes(), &text].concat();
                if let Err(error) = hub.broadcast(&line) {
                    println!("{client}: {error}"); // a client can send a text that is too long with its number
                }
            }
            Event::Finished(client) => hub.finish(client)?, // the client has ended sending
            Event::Left(client, reason) => println!("{client} has left: {reason}"),
            Event::Refused(refusal) => println!("refused: {refusal}"),
            _ => {}
        }
    }
}
