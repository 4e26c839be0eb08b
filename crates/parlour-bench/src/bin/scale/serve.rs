//! The server process, which holds all connections and sends every message back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlour::hub::{Event, HubOptions};
use parlour::tokio::Connection;
use parlour::{ErrorKind, ServerOptions};

use crate::args::{Serve, ServerKind};
use crate::{child, descriptors};

/// The size of the ring for each direction of a connection over `shm`.
pub(crate) const RING_SIZE: usize = 64 * 1024;

/// The number of connected clients.
type Inside = Arc<AtomicUsize>;

/// A function that ends a server.
type End = Box<dyn FnOnce() -> Result<()>>;

/// Prints `ready`, and answers `report` with the number of clients, the allocated and the resident memory in bytes, and
/// the number of open descriptors. Returns at the end of stdin.
pub(crate) fn run(args: &Serve) -> Result<()> {
    // A client over `fifo` takes two descriptors.
    descriptors::make_room_for(args.connections, 2).or_else(|_| descriptors::make_room_for(args.connections, 1))?;
    let inside = Inside::default();
    let end: End = match args.kind {
        ServerKind::Hub => hub(args, &inside)?,
        ServerKind::Tokio => tasks(args, &inside)?,
    };
    println!("ready");
    child::obey(|line| {
        ensure!(line == "report", "unknown command {line:?}");
        let inside = inside.load(Ordering::SeqCst);
        Ok(format!(
            "{inside} {} {} {}",
            parlour_bench::allocator::bytes(),
            parlour_bench::resident_bytes()?,
            descriptors::open()?
        ))
    })?;
    end()
}

/// Returns the options of the server, with limits that admit all clients.
fn options(args: &Serve) -> ServerOptions {
    let room = args.connections + 1;
    ServerOptions::new()
        .connections_max(room)
        .connections_per_uid_max(room)
        .memory_max(usize::MAX)
        .memory_per_uid_max(usize::MAX)
        .ring_size(RING_SIZE)
}

/// Starts a hub in a thread.
fn hub(args: &Serve, inside: &Inside) -> Result<End> {
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
                Ok(Event::Refused(refusal)) => eprintln!("scale: refused: {refusal}"),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Shutdown => return Ok(hub.close()?),
                Err(error) => return Err(error.into()),
            }
        }
    });
    Ok(Box::new(move || {
        shutdown.shutdown();
        serving.join().ok().context("the hub's thread panicked")?
    }))
}

/// Starts a runtime in a thread, with a task for each client.
fn tasks(args: &Serve, inside: &Inside) -> Result<End> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let server = {
        let _inside = runtime.enter();
        options(args).bind_tokio(&args.address)?
    };
    let shutdown = server.shutdown_handle();
    let inside = Arc::clone(inside);
    let serving = thread::spawn(move || {
        // The task is an async block: an async function would also store its argument.
        let echo = move |mut client: Connection| {
            let inside = Arc::clone(&inside);
            async move {
                inside.fetch_add(1, Ordering::SeqCst);
                while let Ok(Some(message)) = client.recv().await {
                    // A client that disconnects is not an error of the server.
                    if client.send(&message).await.is_err() {
                        break;
                    }
                }
                inside.fetch_sub(1, Ordering::SeqCst);
            }
        };
        runtime.block_on(server.serve(echo, std::future::pending(), Duration::ZERO))
    });
    Ok(Box::new(move || {
        shutdown.shutdown();
        serving.join().ok().context("the runtime's thread panicked")??;
        Ok(())
    }))
}
