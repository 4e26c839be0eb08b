//! The names that this bridge holds for other hosts, and the clients that connect to them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use parlour::tokio::Connection;
use parlour::{ErrorKind, Server, ServerOptions, TryRecvError};
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

use super::event::{self, Event};
use super::local;
use crate::identity::Name;
use crate::importer::Import;

/// The pause after an error of accepting that may pass.
const PAUSE: Duration = Duration::from_millis(50);

/// A name that this bridge holds. Dropping it gives the name up at once.
#[derive(Debug)]
pub(super) struct Held {
    server: Arc<Server>,
    task: JoinHandle<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // The name is free even if a file could not be removed.
        let _ = self.server.release();
        self.task.abort();
    }
}

/// Takes a name, and reports its clients.
pub(super) fn take(name: &Name, import: &Import, events: UnboundedSender<Event>) -> parlour::Result<Held> {
    let options = ServerOptions::new().transports(import.transports.iter().copied());
    let options = options.message_max(import.message_max as usize).mode(import.mode);
    // A server of this host takes the name over at any time.
    let server = Arc::new(options.yields(true).bind(name.as_str())?);
    let (serving, name) = (Arc::clone(&server), name.clone());
    let task = tokio::spawn(async move {
        let _ = match serve(&serving, &name, &events).await {
            Ok(End::GivenUp) => Ok(()),
            Ok(End::Taken) => events.send(Event::NameTaken { name }),
            // Without its end, the name would stay with a server that accepts nobody.
            Err(_) => events.send(Event::NameLost { name }),
        };
    });
    Ok(Held { server, task })
}

/// The end of a name that was held.
enum End {
    /// This bridge has given it up.
    GivenUp,
    /// A server of this host has taken it over.
    Taken,
}

/// Reports clients until the name is given up or taken. Fails if the server cannot go on.
async fn serve(server: &Server, name: &Name, events: &UnboundedSender<Event>) -> io::Result<End> {
    #[expect(deprecated, reason = "the descriptor is owned, and stays open while it is registered")]
    let readiness: AsyncFd<OwnedFd> = AsyncFd::new(server.as_fd().try_clone_to_owned()?)?;
    let mut seen: Option<AsyncFdReadyGuard<'_, OwnedFd>> = None;
    loop {
        match server.try_accept() {
            // A client that has left may have sent its messages before. They are for the server.
            Ok(connection) => {
                let connection = Connection::from_blocking(connection).map_err(io::Error::other)?;
                let origin = local::origin(&connection);
                event::report(events, Event::Client { name: name.clone(), connection, origin });
            }
            Err(TryRecvError::Empty) => {
                // The readiness that the runtime saw before this call is over.
                if let Some(mut ready) = seen.take() {
                    ready.clear_ready();
                }
                seen = Some(readiness.readable().await?);
            }
            Err(TryRecvError::Failed(error)) => match error.kind() {
                ErrorKind::Shutdown => return Ok(End::GivenUp),
                ErrorKind::HandedOver => return Ok(End::Taken),
                // Such as a full table of descriptors.
                ErrorKind::Io => tokio::time::sleep(PAUSE).await,
                _ => return Err(io::Error::other(error)),
            },
        }
    }
}
