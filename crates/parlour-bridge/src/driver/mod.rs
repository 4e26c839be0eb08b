//! The driver: it carries the actions of the states out, with tokio, TLS and the sockets of this host.
//!
//! One task, the desk, owns the states of both sides and hears all events. Each link, each dialled connection
//! and each conversation has a task of its own.

mod accept;
mod adapted;
mod buffered;
mod desk;
mod directory;
mod event;
mod held;
mod joined;
mod links;
mod local;
pub mod nats;
mod net;
mod served;
mod watched;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use directory::Directory;
use event::Event;

use crate::files::config::Config;
use crate::files::finding::Finding;
use crate::files::tls::Tls;

fn listen(address: SocketAddr) -> Result<std::net::TcpListener, Finding> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| {
        let remedy = "end the program that has the address, or write another one";
        Finding::mistake("listen", format!("{address} cannot be used: {error}"), remedy)
    })
}

/// Finds what the driver cannot do with a configuration on this host.
#[must_use]
pub fn check(config: &Config) -> Option<Finding> {
    Directory::new(config).err()
}

/// A bridge of this host.
#[derive(Debug)]
pub struct Bridge {
    config: Arc<Config>,
    tls: Tls,
    listener: Option<std::net::TcpListener>,
    events: UnboundedSender<Event>,
    mailbox: UnboundedReceiver<Event>,
    directory: Directory,
}

/// Changes a bridge while it runs.
#[derive(Clone, Debug)]
pub struct Handle {
    events: UnboundedSender<Event>,
}

impl Handle {
    /// Goes on with another configuration and other certificates. They act on everything that begins from now on.
    /// Links and conversations go on as they began. The configuration may differ from the former one by the values
    /// that [`Config::check_change`] allows; a change of the others has no effect.
    ///
    /// # Errors
    ///
    /// The DNS servers of this host are not known. Nothing has changed.
    pub fn configure(&self, config: Config, tls: Tls) -> Result<(), Finding> {
        let directory = Directory::new(&config)?;
        let _ = self.events.send(Event::Configured { config: Arc::new(config), tls, directory });
        Ok(())
    }
}

impl Bridge {
    /// Binds the address of the configuration, if it has one.
    ///
    /// # Errors
    ///
    /// The address cannot be bound, or the DNS servers of this host are not known.
    pub fn bind(config: Config, tls: Tls) -> Result<Self, Finding> {
        let directory = Directory::new(&config)?;
        let listener = config.listen.map(listen).transpose()?;
        let (events, mailbox) = tokio::sync::mpsc::unbounded_channel();
        Ok(Self { config: Arc::new(config), tls, listener, events, mailbox, directory })
    }

    /// Returns a handle for changes.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { events: self.events.clone() }
    }

    /// Runs the bridge in the current tokio runtime until `end` completes. Then gives its names up, tells the other
    /// hosts, and aborts the conversations, which takes up to 2 seconds. `log` gets lines for the operator.
    ///
    /// # Errors
    ///
    /// The runtime cannot watch the listening socket, or the kernel gives no random bytes.
    pub async fn run(self, log: fn(&str), end: impl Future<Output = ()>) -> io::Result<()> {
        let Self { config, tls, listener, events, mailbox, directory } = self;
        let (server, current) = tokio::sync::watch::channel(tls.server());
        let mut tasks = tokio::task::JoinSet::new();
        let strangers = Arc::default();
        tasks.spawn(served::serve(events.clone(), log));
        if let Some(listener) = listener {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let strangers = Arc::clone(&strangers);
            tasks.spawn(accept::accept(listener, current, config.lease, events.clone(), strangers, log));
        }
        let desk = desk::Desk::new(config, tls, directory, server, events, strangers, log)?;
        desk.run(mailbox, end).await;
        tasks.shutdown().await;
        Ok(())
    }
}
