//! A server that is kept going by a thread, with its clients handed on.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use parlour::{Connection, ErrorKind, Server, ServerStats};

use super::cost;
use crate::support::{DEADLINE, eventually};

/// Accepts in a thread until it is dropped.
#[derive(Debug)]
pub struct Driver {
    pub server: Arc<Server>,
    clients: Receiver<Connection>,
    thread: Option<JoinHandle<()>>,
    /// The thread that accepts, in `/proc`.
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
                        // Nobody need want it.
                        Ok(client) => drop(connected.send(client)),
                        Err(error) if error.kind() == ErrorKind::Shutdown => return,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        });
        Self { server, clients, thread: Some(thread), task: task.recv().unwrap() }
    }

    /// The next client that was let in.
    pub fn client(&self) -> Connection {
        self.clients.recv_timeout(DEADLINE).expect("a client comes")
    }

    /// Whether no client that was let in waits to be taken.
    pub fn is_idle(&self) -> bool {
        self.clients.try_recv().is_err()
    }

    /// Waits until exactly so many clients were refused, and gives the last reason.
    pub fn refused(&self, count: u64) -> String {
        refused(&self.server, count)
    }
}

/// Waits until exactly so many clients of this server were refused, and gives the last reason.
#[track_caller]
pub fn refused(server: &Server, count: u64) -> String {
    let refusals = || -> ServerStats { server.stats() };
    eventually(&format!("{count} are refused, and not {:?}", refusals()), || refusals().refused >= count);
    let refusals = refusals();
    assert_eq!(refusals.refused, count, "{refusals:?}");
    refusals.last_refusal.map_or_else(String::new, |last| last.to_string())
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.server.shutdown_handle().shutdown();
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.expect("the accepting thread ends well");
        }
    }
}
