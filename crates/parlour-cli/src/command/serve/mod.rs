//! `parlour serve`: takes a name, and echoes or runs a program for each client.

mod client;
mod environment;
mod program;
mod tally;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use parlour::{ClientFilePolicy, Connection, ErrorKind, Server, ServerOptions};

use crate::args::{ClientFile, Serve};
use crate::lines::Framing;
use crate::output;
use crate::signals::Stop;
use client::Service;
use tally::Tally;

/// How long to rest when a client could not be accepted for lack of something, so that the lack does not become a
/// busy loop.
const REST_AFTER_ERROR: Duration = Duration::from_millis(100);

pub(super) fn run(args: &Serve) -> anyhow::Result<()> {
    // Before the name is taken: a signal that comes just after must remove it again.
    let stop = Arc::new(Stop::on_interrupt().context("catching signals")?);
    let server = options(args).bind(&args.address)?;
    let handle = server.shutdown_handle();
    let waiting = Arc::clone(&stop);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            waiting.wait();
            handle.shutdown();
        })
        .context("starting a thread")?;

    // Nobody has to wait for it.
    output::unless_closed(output::line(ready_line(&server)))?;
    let tally = Arc::new(Tally::default());
    let service = Arc::new(Service::new(args, server.name(), &stop, &tally));
    let outcome = accept_all(&server, &service);

    // Nobody new, then an end for those who are there; both also when accepting failed.
    let closed = server.close();
    stop.trigger();
    if !args.echo {
        tally.wait_until_nobody(program::END_AT_MOST);
    }
    outcome?;
    Ok(closed?)
}

/// Accepts until told to stop.
fn accept_all(server: &Server, service: &Arc<Service>) -> anyhow::Result<()> {
    loop {
        match server.accept() {
            Ok(connection) => start(service, connection),
            Err(error) if error.kind() == ErrorKind::Shutdown => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NameLost => return Err(error.into()),
            Err(error) => {
                output::note(error);
                std::thread::sleep(REST_AFTER_ERROR);
            }
        }
    }
}

/// Gives a client a thread of its own.
fn start(service: &Arc<Service>, connection: Connection) {
    let peer = connection.peer().clone();
    let service = Arc::clone(service);
    let started = std::thread::Builder::new().name("client".to_owned()).spawn(move || service.serve(connection));
    if let Err(error) = started {
        output::note(format_args!("{peer} is disconnected, no thread for it: {error}"));
    }
}

/// What a script waits for: `ready NAME TRANSPORTS DIRECTORY`.
fn ready_line(server: &Server) -> String {
    let transports: Vec<_> = server.transports().iter().map(ToString::to_string).collect();
    format!("ready {} {} {}", server.name(), transports.join(","), output::cell(server.path().display()))
}

/// What the options mean to the library.
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

/// How a program's streams are cut into messages.
fn framing(args: &Serve) -> Framing {
    if args.raw { Framing::Raw } else { Framing::Lines }
}
