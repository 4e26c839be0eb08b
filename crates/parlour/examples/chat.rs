//! A chat room in one thread, without threads or async: whatever one says, all the others hear.
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
                hub.send(client, format!("you are {client} of {}", hub.clients().len()).as_bytes())?;
                tell_others(&mut hub, client, "has joined")?;
            }
            Event::Message(client, text) => tell_others(&mut hub, client, &String::from_utf8_lossy(&text))?,
            // Whoever closes its input has nothing more to say, and goes when it has heard what was said until now.
            Event::Finished(client) => hub.finish(client)?,
            Event::Left(client, why) => {
                eprintln!("{client} has left: {why}");
                hub.broadcast(format!("{client} has left").as_bytes())?;
            }
            Event::Refused(refusal) => eprintln!("turned away: {refusal}"),
        }
    }
}

fn tell_others(hub: &mut Hub, speaker: parlour::hub::Client, text: &str) -> parlour::Result<()> {
    let line = format!("{speaker}: {text}");
    for other in hub.clients().into_iter().filter(|&other| other != speaker) {
        hub.send(other, line.as_bytes())?;
    }
    Ok(())
}
