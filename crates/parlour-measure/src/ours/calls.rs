//! Contenders for calls: a `Caller` and a server of calls, over each transport.

use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlour::calls::Call;
use parlour::{Caller, Server, Transport};

use super::blocking::address;
use super::version::version;
use crate::client::Client;
use crate::contender::{Contender, Ready};
use crate::work::Work;

/// A caller over one transport, with default options. The server answers each request with the same bytes.
#[derive(Debug)]
pub(crate) struct Calls {
    transport: Transport,
    name: String,
}

impl Calls {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { transport, name: format!("parlour-calls-{transport}") }
    }
}

impl Contender for Calls {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> String {
        version()
    }

    fn advice(&self) -> &str {
        "defaults; Caller::call, and Server::serve_calls with a handler that replies at once, or in other threads"
    }

    fn supports(&self, work: Work) -> bool {
        matches!(work, Work::RoundTrip { .. } | Work::Calls { .. })
    }

    fn serve(&self, place: &Path, work: Work, ready: Ready) -> Result<()> {
        let server = Server::bind(address(self.transport, place))?;
        ready.tell();
        match work {
            Work::Calls { threads, wait_us: wait_us @ 1.., .. } => {
                let workers = Workers::start(threads, Duration::from_micros(wait_us));
                Ok(server.serve_calls(|call| workers.take(call))?)
            }
            _ => Ok(server.serve_calls(answer)?),
        }
    }

    fn connect(&self, place: &Path, _work: Work) -> Result<Box<dyn Client>> {
        Ok(Box::new(CallsClient { caller: Caller::connect(address(self.transport, place))?, request: Vec::new() }))
    }
}

fn answer(mut call: Call) {
    let request = call.take_request();
    // An error means that the caller has gone, which is not an error of the server.
    let _ = call.reply(&request);
}

/// Threads that answer calls, each after a wait.
struct Workers(Sender<Call>);

impl Workers {
    fn start(count: usize, wait: Duration) -> Self {
        let (calls, queue) = mpsc::channel::<Call>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..count {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let next = || queue.lock().ok()?.recv().ok();
                while let Some(call) = next() {
                    thread::sleep(wait);
                    answer(call);
                }
            });
        }
        Self(calls)
    }

    fn take(&self, call: Call) {
        // A call that no worker takes is dropped, and its caller gets an error.
        drop(self.0.send(call));
    }
}

struct CallsClient {
    caller: Caller,
    /// The message of `send`, for which `receive` waits.
    request: Vec<u8>,
}

impl Client for CallsClient {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        self.request.clear();
        self.request.extend_from_slice(message);
        Ok(())
    }

    fn receive(&mut self, reply: &mut Vec<u8>) -> Result<()> {
        *reply = self.caller.call(&self.request)?.into_vec();
        Ok(())
    }

    fn round_trip(&mut self, message: &[u8], reply: &mut Vec<u8>) -> Result<()> {
        *reply = self.caller.call(message)?.into_vec();
        Ok(())
    }

    fn calls(&mut self, message: &[u8], threads: usize, each: u64) -> Result<()> {
        let caller = &self.caller;
        let work = move || -> Result<()> {
            for _ in 0..each {
                let reply = caller.call(message)?;
                ensure!(reply.len() == message.len(), "the answer has another length");
            }
            Ok(())
        };
        thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            work()?;
            others.into_iter().try_for_each(|thread| thread.join().ok().context("a calling thread panicked")?)
        })
    }
}
