//! `parlour serve`: serves a name, and echoes messages or runs a program for each client.

mod active_clients;
mod client;
mod environment;
mod framing;
mod program;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use parlour::{ClientFilePolicy, Connection, ErrorKind, Server, ServerOptions, ShutdownHandle};

use crate::args::{ClientFile, Serve};
use crate::signals::{Interrupts, Stop};
use crate::{notify, output};
use active_clients::ActiveClients;
use client::Service;

/// The pause after a failed accept. It prevents a busy loop while a resource, such as descriptors, is exhausted.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Serves the name until a signal arrives or the name is lost.
pub(super) fn run(args: &Serve) -> anyhow::Result<()> {
    // Signals are caught before the name is taken, so that a signal at any later time releases the name.
    let interrupts = Interrupts::catch().context("catching signals")?;
    let manager = notify::Manager::from_environment();
    let server = take_name(args)?;
    let stop = Arc::new(Stop::new().context("creating the stop descriptor")?);
    let clients = Arc::new(ActiveClients::default());
    stop_on_signals(interrupts, server.shutdown_handle(), Arc::clone(&stop), Arc::clone(&clients))?;

    let transports = transports(&server);
    manager.ready(format_args!("serving {} over {transports} in {}", server.name(), server.path().display()));
    // A closed stdout is not an error.
    output::unless_closed(output::line(ready_line(&server)))?;
    let service = Arc::new(Service::new(args, server.name(), &stop));
    let outcome = accept_all(&server, &service, &clients);

    // Stop accepting, and give the open connections the grace period. Then stop the programs. Echo connections end when
    // this process exits. Losing the name ends the server in the same way.
    let closed = server.close();
    let (count, grace) = (clients.count(), humantime::format_duration(args.grace));
    manager.stopping(format_args!("stopping; open connections: {count}"));
    if count > 0 && !args.grace.is_zero() {
        output::note(format_args!(
            "stopping; open connections: {count}; waiting {grace} for them, or until a second signal"
        ));
        clients.wait_until_none_or_cancelled(args.grace);
    }
    stop.trigger();
    if !args.echo {
        clients.wait_until_none(program::END_AT_MOST);
    }
    outcome?;
    Ok(closed?)
}

/// Takes the name: binds the address, or adopts the sockets of the service manager if there is none.
fn take_name(args: &Serve) -> anyhow::Result<Server> {
    let options = options(args);
    Ok(match &args.address {
        Some(address) => options.bind(address)?,
        None => options.bind_listen_fds(args.fd_name.as_deref())?,
    })
}

/// Starts a thread that handles signals: the first one stops accepting, the second one ends the grace period.
fn stop_on_signals(
    interrupts: Interrupts,
    server: ShutdownHandle,
    stop: Arc<Stop>,
    clients: Arc<ActiveClients>,
) -> anyhow::Result<()> {
    let wait = move || -> std::io::Result<()> {
        interrupts.wait()?;
        server.shutdown();
        interrupts.wait()?;
        stop.trigger();
        clients.cancel_grace();
        Ok(())
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    // If waiting fails, further signals have no effect. The error is printed so that the user knows.
    let started =
        thread.spawn(move || wait().unwrap_or_else(|error| output::note(format_args!("waiting for signals: {error}"))));
    started.map(drop).context("starting a thread")
}

/// Accepts clients until the server is shut down.
fn accept_all(server: &Server, service: &Arc<Service>, clients: &Arc<ActiveClients>) -> anyhow::Result<()> {
    loop {
        match server.accept() {
            Ok(connection) => start(service, connection, clients),
            Err(error) if error.kind() == ErrorKind::Shutdown => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NameLost => return Err(error.into()),
            Err(error) => {
                output::note(error);
                std::thread::sleep(ACCEPT_RETRY_DELAY);
            }
        }
    }
}

/// Starts a thread that serves one client.
fn start(service: &Arc<Service>, connection: Connection, clients: &Arc<ActiveClients>) {
    let peer = connection.peer().clone();
    // The client is counted before the thread starts, so that a shutdown waits for every accepted client.
    let guard = clients.add(peer.uid());
    let service = Arc::clone(service);
    let thread = std::thread::Builder::new().name("client".to_owned());
    let started = thread.spawn(move || service.serve(connection, guard));
    if let Err(error) = started {
        output::note(format_args!("client {peer} was disconnected: starting a thread: {error}"));
    }
}

/// Returns the line for which scripts wait: `ready NAME TRANSPORTS DIRECTORY`.
fn ready_line(server: &Server) -> String {
    format!("ready {} {} {}", server.name(), transports(server), output::cell(server.path().display()))
}

/// Returns the names of the server's transports, separated by commas.
fn transports(server: &Server) -> String {
    let transports: Vec<_> = server.transports().iter().map(ToString::to_string).collect();
    transports.join(",")
}

/// Converts the command-line options to library options.
fn options(args: &Serve) -> ServerOptions {
    let mut options = ServerOptions::new();
    if let Some(on) = &args.on {
        options = options.transports(on.0.iter().copied());
    }
    if let Some(mode) = args.mode {
        options = options.mode(mode);
    }
    if let Some(group) = args.group {
        options = options.group(group);
    }
    if let Some(clients) = args.clients {
        options = options.connections_max(clients);
    }
    if let Some(clients) = args.clients_per_user {
        options = options.connections_per_uid_max(clients);
    }
    if let Some(bytes) = args.message_max {
        options = options.message_max(bytes);
    }
    if let Some(timeout) = args.handshake_timeout {
        options = options.handshake_timeout(timeout);
    }
    if let Some(policy) = args.client_file {
        options = options.client_file(match policy {
            ClientFile::Check => ClientFilePolicy::Check,
            ClientFile::Require => ClientFilePolicy::Require,
            ClientFile::Ignore => ClientFilePolicy::Ignore,
        });
    }
    options
}
