//! A server that a thread drives, with a queue of its clients.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parlour::{Connection, ErrorKind, Server, ServerStats};

use super::cost;
use crate::support::{DEADLINE, eventually};

/// Runs `accept` in a thread until it is dropped.
#[derive(Debug)]
pub struct Driver {
    pub server: Arc<Server>,
    clients: Receiver<Connection>,
    thread: Option<JoinHandle<()>>,
    /// The directory of the accepting thread in `/proc`.
    pub task: std::path::PathBuf,
}

impl Driver {
    pub fn new(server: Server) -> Self {
        let server = Arc::new(server);
        let (connected, clients) = channel();
        let (started, task) = channel();
        let thread = std::thread::spawn({
            let server = Arc::clone(&server);
            move || {
                started.send(cost::this_thread()).unwrap();
                loop {
                    match server.accept() {
                        // The queue is closed if the test has dropped the driver.
                        Ok(client) => drop(connected.send(client)),
                        Err(error) if error.kind() == ErrorKind::Shutdown => return,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        });
        Self { server, clients, thread: Some(thread), task: task.recv().unwrap() }
    }

    /// Returns the next accepted client.
    pub fn client(&self) -> Connection {
        self.clients.recv_timeout(DEADLINE).expect("a client was accepted")
    }

    /// Returns the next accepted client, or `None` if none is accepted within this time.
    pub fn client_within(&self, timeout: Duration) -> Option<Connection> {
        self.clients.recv_timeout(timeout).ok()
    }

    /// Returns true if no accepted client is in the queue.
    pub fn is_idle(&self) -> bool {
        self.clients.try_recv().is_err()
    }

    /// Waits until exactly this many clients were refused. Returns the last reason.
    pub fn refused(&self, count: u64) -> String {
        refused(&self.server, count)
    }
}

/// Waits until exactly this many clients of this server were refused. Returns the last reason.
#[track_caller]
pub fn refused(server: &Server, count: u64) -> String {
    let refusals = || -> ServerStats { server.stats() };
    eventually(&format!("{count} clients are refused; now {:?}", refusals()), || refusals().refused >= count);
    let refusals = refusals();
    assert_eq!(refusals.refused, count, "{refusals:?}");
    refusals.last_refusal.map_or_else(String::new, |last| last.to_string())
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.server.shutdown_handle().shutdown();
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.expect("the accepting thread did not panic");
        }
    }
}
