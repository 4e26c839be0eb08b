//! The process that holds all connections, and sends every message back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use parlour::hub::{Event, HubOptions};
use parlour::{ErrorKind, ServerOptions};

use crate::args::{Serve, ServerKind};
use crate::{child, descriptors, memory};

/// The memory that each direction of a connection over `shm` has.
pub(crate) const RING_SIZE: usize = 64 * 1024;

/// How many clients are inside.
type Inside = Arc<AtomicUsize>;

/// Says `ready`, and answers `report` with how many clients are inside, how much memory is allocated and resident, and how
/// many descriptors are open. Ends when its stdin does.
pub(crate) fn run(args: &Serve) -> Result<()> {
    // A FIFO client takes two.
    descriptors::make_room_for(args.connections, 2).or_else(|_| descriptors::make_room_for(args.connections, 1))?;
    let inside = Inside::default();
    let end = match args.kind {
        ServerKind::Hub => hub(args, &inside)?,
    };
    println!("ready");
    child::obey(|line| {
        ensure!(line == "report", "what is {line:?}?");
        let inside = inside.load(Ordering::SeqCst);
        Ok(format!("{inside} {} {} {}", memory::allocated(), memory::resident()?, descriptors::open()?))
    })?;
    end()
}

/// What the server is to be: with room for all.
fn options(args: &Serve) -> ServerOptions {
    let room = args.connections + 1;
    ServerOptions::new().connections_max(room).connections_per_uid_max(room).ring_size(RING_SIZE)
}

/// Starts a hub in a thread; what is returned ends it.
fn hub(args: &Serve, inside: &Inside) -> Result<impl FnOnce() -> Result<()> + use<>> {
    let mut hub = HubOptions::from(options(args)).bind(&args.address)?;
    let shutdown = hub.shutdown_handle();
    let inside = Arc::clone(inside);
    let serving = thread::spawn(move || -> Result<()> {
        loop {
            match hub.next_event() {
                Ok(Event::Message(client, message)) => hub.send(client, &message)?,
                Ok(Event::Joined(..)) => drop(inside.fetch_add(1, Ordering::SeqCst)),
                Ok(Event::Left(..)) => drop(inside.fetch_sub(1, Ordering::SeqCst)),
                Ok(Event::Finished(client)) => hub.finish(client)?,
                Ok(Event::Refused(refusal)) => eprintln!("scale: turned away: {refusal}"),
                Err(error) if error.kind() == ErrorKind::Shutdown => return Ok(hub.close()?),
                Err(error) => return Err(error.into()),
            }
        }
    });
    Ok(move || {
        shutdown.shutdown();
        serving.join().ok().context("the hub's thread has panicked")?
    })
}
