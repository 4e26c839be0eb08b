//! A caller with a server that is written by hand, and a server of calls in a thread of its own.

use std::thread::{self, JoinHandle};

use parlour::calls::{Call, CallServer, Pusher};
use parlour::{Caller, ConnectOptions, Server, ShutdownHandle, Transport};

use crate::call_bytes::HandServer;
use crate::support::{Base, DEADLINE};

/// Returns a caller that takes descriptors, and its server, which has greeted.
pub fn by_hand(transport: Transport) -> (Caller, HandServer, Base) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let server = Server::bind(&address).unwrap();
    // Some transports shake hands, so the server accepts meanwhile.
    let accepting = thread::spawn(move || server.accept_timeout(DEADLINE).unwrap());
    let caller = Caller::new(ConnectOptions::new().fds_max(1).connect(&address).unwrap()).unwrap();
    let served = HandServer::greet(accepting.join().unwrap());
    (caller, served, base)
}

/// A server of calls that ends with its scope.
pub struct Serving {
    pub address: String,
    pub pusher: Pusher,
    pub shutdown: ShutdownHandle,
    thread: Option<JoinHandle<parlour::Result<()>>>,
    _base: Base,
}

impl Serving {
    pub fn new(transport: Transport, handler: impl FnMut(Call) + Send + 'static) -> Self {
        Self::with(transport, |server| server, handler)
    }

    pub fn with(
        transport: Transport,
        options: impl FnOnce(CallServer) -> CallServer,
        handler: impl FnMut(Call) + Send + 'static,
    ) -> Self {
        let base = Base::new();
        let address = base.address(transport, "calls");
        let server = options(CallServer::new(Server::bind(&address).unwrap()).unwrap());
        let (pusher, shutdown) = (server.pusher(), server.shutdown_handle());
        let thread = thread::spawn(move || server.serve(handler));
        Self { address, pusher, shutdown, thread: Some(thread), _base: base }
    }

    pub fn caller(&self) -> Caller {
        Caller::connect(&self.address).unwrap()
    }

    /// Ends the server, and returns its result.
    pub fn end(&mut self) -> parlour::Result<()> {
        self.shutdown.shutdown();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.thread.is_some() && !thread::panicking() {
            self.end().unwrap();
        }
    }
}

/// Answers each request with its bytes.
pub fn echo(mut call: Call) {
    let request = call.take_request();
    // An error means that the caller has gone.
    let _ = call.reply(&request);
}
