//! A camera that lends its pictures to four workers, without a copy.

use std::collections::HashMap;

use parlour::frames::{AtShare, FramePoolOptions};
use parlour::hub::{Event, HubOptions};
use parlour::{ErrorKind, ServerOptions, TryRecvError};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A worker sends two descriptors when it attaches.
    let mut hub = HubOptions::from(ServerOptions::new().fds_max(2)).bind("camera")?;
    // Four workers that may hold two pictures each. One that keeps both misses pictures.
    let mut pool = FramePoolOptions::new(1920 * 1080 * 4).readers(4).share(2).at_share(AtShare::Refuse).create()?;
    let mut workers = HashMap::new();
    loop {
        loop {
            match hub.try_next_event() {
                Ok(Event::Message(client, message)) => {
                    let Some(peer) = hub.peer(client).cloned() else { continue };
                    match pool.admit(message, &peer) {
                        Ok(worker) => {
                            // A worker that attaches again replaces itself.
                            if let Some(before) = workers.insert(client, worker) {
                                pool.remove(before);
                            }
                        }
                        // Another message, or a reader of another user: only this client ends.
                        Err(error) => {
                            eprintln!("{error}");
                            hub.abort(client)?;
                        }
                    }
                }
                Ok(Event::Left(client, _)) => {
                    if let Some(worker) = workers.remove(&client) {
                        pool.remove(worker);
                    }
                }
                Ok(_) => {}
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Failed(error)) => return Err(error.into()),
            }
        }
        let mut frame = pool.loan()?;
        let taken_at = take_picture(&mut frame);
        let frame = frame.freeze();
        for (client, worker) in &workers {
            let outcome = pool.send(*worker, &frame, &taken_at.to_be_bytes(), |payload| hub.send(*client, payload));
            match outcome {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Busy => {} // this worker misses the picture
                Err(error) => eprintln!("{error}"),                 // it has ended, and `Left` follows
            }
        }
        hub.flush()?;
    }
}

// Stands for the camera: fills the picture, and returns the time.
fn take_picture(pixels: &mut [u8]) -> u64 {
    pixels.fill(0);
    0
}
