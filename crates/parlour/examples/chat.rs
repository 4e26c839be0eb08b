//! A chat room in one thread, without async. Each line of a client is sent to all others.
//!
//! Try it with `parlour connect chat` in several terminals.

use parlour::ServerOptions;
use parlour::Transport;
use parlour::hub::{Event, Hub, HubOptions};

fn main() -> parlour::Result<()> {
    let server = ServerOptions::new().transports([Transport::Unix, Transport::Packet, Transport::Fifo]);
    let mut hub = HubOptions::from(server).bind("chat")?;
    eprintln!("serving at {}", hub.path().display());
    loop {
        match hub.next_event()? {
            Event::Joined(client, peer) => {
                eprintln!("{client} is {peer}");
                let greeting = format!("you are {client} of {}", hub.clients().len());
                hub.send(client, &greeting)?; // does nothing if the client has left
                tell_others(&mut hub, client, "has joined")?;
            }
            Event::Message(client, text) => {
                // A text of almost the greatest length is too long with the number of its client.
                if let Err(error) = tell_others(&mut hub, client, &String::from_utf8_lossy(&text)) {
                    eprintln!("{client}: {error}");
                }
            }
            // The client sends no more. It leaves when it has received what was sent to it.
            Event::Finished(client) => hub.finish(client)?,
            Event::Left(client, reason) => {
                eprintln!("{client} has left: {reason}");
                hub.broadcast(&format!("{client} has left"))?;
            }
            Event::Refused(refusal) => eprintln!("refused: {refusal}"),
            // Later versions may report more.
            _ => {}
        }
    }
}

fn tell_others(hub: &mut Hub, speaker: parlour::hub::Client, text: &str) -> parlour::Result<()> {
    let line = format!("{speaker}: {text}");
    for other in hub.clients().filter(|&other| other != speaker) {
        hub.send(other, &line)?;
    }
    Ok(())
}
