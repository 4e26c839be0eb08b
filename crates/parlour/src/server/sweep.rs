//! Removal of the files of clients that died while they connected.
//!
//! No decision depends on a clock that can be set, or on a process id. A file is removed in two steps, at least
//! [`INTERVAL`] apart. At the first step it becomes a suspect: no socket is bound to it, or it is one of a pair of
//! FIFOs without a handshake. Then the server finds once that no client waits. A client that had connected before the
//! first step was accepted by then, and its files were removed. At the second step, the suspect is removed if its
//! client is still not there. The file with the origin of a client goes with the socket or the FIFOs of that client.

use std::io;
use std::time::{Duration, Instant};

use crate::backend::{Listener, client_file, fifo};
use crate::name::{NameGuard, leftovers};
use crate::wire::client_file::{ClientFile, ClientId};

/// The interval between two steps. A client that is about to connect has more time than it needs between creating a
/// file and opening it, also on a busy machine.
const INTERVAL: Duration = Duration::from_secs(5);

/// The maximum number of suspects. The files beyond it wait for a later step.
const SUSPECTS_MAX: usize = 1024;

/// The state between two steps.
#[derive(Default)]
pub(super) struct Sweep {
    /// The time of the next step. `None` while no file of a client is left.
    at: Option<Instant>,
    suspects: Vec<(ClientId, ClientFile)>,
    /// True if no client has waited at some time since the last step.
    no_client_waited: bool,
}

impl Sweep {
    /// Schedules a step if none is scheduled. To be called when a client connects.
    pub(super) fn begin(&mut self) {
        self.at.get_or_insert_with(|| Instant::now() + INTERVAL);
    }

    /// Notes that no client waits at any listener.
    pub(super) fn note_no_client_waits(&mut self) {
        self.no_client_waited = true;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.at
    }

    /// Makes the step that is due at `now`, if one is. While files are left, the next step is scheduled.
    pub(super) fn run(&mut self, guard: &NameGuard, listeners: &[Listener], now: Instant) -> io::Result<()> {
        if self.at.is_none_or(|at| at > now) {
            return Ok(());
        }
        let no_client_waited = std::mem::take(&mut self.no_client_waited);
        let before = std::mem::take(&mut self.suspects);
        let mut suspects = Vec::new();
        let swept = leftovers::remove_client_files(guard.clients(), |id, file| {
            if listeners.iter().any(|listener| listener.knows(id)) {
                return false;
            }
            let suspect = (*id, file);
            let is_second = no_client_waited && before.contains(&suspect);
            let is_suspect = match file {
                ClientFile::Socket => client_file::has_no_socket(guard, id),
                ClientFile::Origin => {
                    let is_gone =
                        || client_file::has_no_socket(guard, id) && fifo::listen::is_gone(guard.clients(), id);
                    !is_second || is_gone()
                }
                // A waiting client would notice that its FIFO is opened, so that is left to the second step.
                ClientFile::ServerToClient | ClientFile::ClientToServer => {
                    !is_second || fifo::listen::is_gone(guard.clients(), id)
                }
            };
            if is_suspect && !is_second && suspects.len() < SUSPECTS_MAX {
                suspects.push(suspect);
            }
            is_suspect && is_second
        });
        self.suspects = suspects;
        self.at = match swept {
            Ok(0) => None,
            Ok(_) | Err(_) => Some(now + INTERVAL),
        };
        swept.map(drop)
    }
}
