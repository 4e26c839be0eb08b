//! `parlour serve`: serves a name, and echoes messages or runs a program for each client.

mod active_clients;
mod client;
mod environment;
mod framing;
mod limits;
mod program;
mod refusals;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parlour::{ClientFilePolicy, Connection, ErrorKind, RefusalReason, Server, ServerOptions, ShutdownHandle};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::args::{ClientFile, Serve};
use crate::signals::{AdoptedChildren, Interrupts, Stop};
use crate::{notify, output};
use active_clients::ActiveClients;
use client::Service;
use limits::Descriptors;
use refusals::Refusals;

/// The pause after a failed accept. It prevents a busy loop while a resource, such as descriptors, is exhausted.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Serves the name until a signal arrives or the name is lost.
pub(super) fn run(args: &Serve) -> anyhow::Result<()> {
    // Signals are caught before the name is taken, so that a signal at any later time releases the name.
    let interrupts = Interrupts::catch().context("catching signals")?;
    let adopted = AdoptedChildren::catch().context("catching signals")?;
    let manager = notify::Manager::from_environment();
    if let Some(program) = args.program.first() {
        program::check(program)?;
    }
    environment::keep_passed_descriptors();
    let descriptors = Descriptors::raise_limit();
    let server = take_name(args, &descriptors)?;
    let stop = Arc::new(Stop::new().context("creating the stop descriptor")?);
    let clients = Arc::new(ActiveClients::default());
    let is_stopping = Arc::new(AtomicBool::new(false));
    stop_on_signals(interrupts, server.shutdown_handle(), Arc::clone(&stop), Arc::clone(&clients), &is_stopping)?;

    let transports = transports(&server);
    if args.take_over.is_some() {
        manager.main_process();
    }
    manager.ready(format_args!("serving {} over {transports} in {}", server.name(), server.path().display()));
    // A closed stdout is not an error.
    output::unless_closed(output::line(ready_line(&server)))?;
    let service = Arc::new(Service::new(args, server.name(), &stop, descriptors.original));
    let outcome = accept_all(&server, &adopted, &service, &clients);
    let has_no_signal = !is_stopping.swap(true, Ordering::SeqCst);

    // Stop accepting, and give the open connections the grace period. Then stop the programs. Echo connections end when
    // this process exits. Losing the name, or handing it over, ends the server in the same way.
    let closed = server.close();
    let (count, grace) = (clients.count(), humantime::format_duration(args.grace));
    let is_handed_over = matches!(outcome, Ok(End::HandedOver));
    let what = if is_handed_over { "handed over" } else { "stopping" };
    // After a hand-over the service goes on, in the process that has taken the name over.
    if !is_handed_over {
        manager.stopping(format_args!("stopping; open connections: {count}"));
    }
    if count > 0 && !args.grace.is_zero() {
        output::note(format_args!(
            "{what}; open connections: {count}; waiting {grace} for them, or until {} signal",
            if has_no_signal { "a" } else { "a second" }
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
fn take_name(args: &Serve, descriptors: &Descriptors) -> anyhow::Result<Server> {
    let options = options(args, descriptors);
    Ok(match &args.address {
        Some(address) => options.bind(address)?,
        None => options.bind_listen_fds(args.fd_name.as_deref())?,
    })
}

/// Starts a thread that handles signals: the first one stops accepting, the second one ends the grace period. If the
/// server stops for another reason, the first one ends the grace period.
fn stop_on_signals(
    interrupts: Interrupts,
    server: ShutdownHandle,
    stop: Arc<Stop>,
    clients: Arc<ActiveClients>,
    is_stopping: &Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let is_stopping = Arc::clone(is_stopping);
    let wait = move || -> std::io::Result<()> {
        interrupts.wait()?;
        if !is_stopping.swap(true, Ordering::SeqCst) {
            server.shutdown();
            interrupts.wait()?;
        }
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

/// The reason for which a server accepts no more clients.
enum End {
    ShutDown,
    HandedOver,
}

/// Accepts clients until the server is shut down or handed over, and prints those that are refused.
fn accept_all(
    server: &Server,
    adopted: &AdoptedChildren,
    service: &Arc<Service>,
    clients: &Arc<ActiveClients>,
) -> anyhow::Result<End> {
    let mut refusals = Refusals::default();
    let collect = |refusals: &mut Refusals| {
        while let Some(refusal) = server.next_refusal() {
            refusals.add(refusal.reason, output::cell(&refusal));
        }
    };
    let refused = |reason| server.stats().refused_by(reason);
    // The server queues refusals from the first call on.
    collect(&mut refusals);
    let outcome = loop {
        match server.accept_timeout(Duration::ZERO) {
            Ok(connection) => start(service, connection, clients),
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                // The call itself may have refused clients, and a line about them may be due now.
                collect(&mut refusals);
                print_due(&mut refusals, refused);
                wait_for_work(server, adopted, refusals.next_line())?;
                adopted.reap();
            }
            Err(error) if error.kind() == ErrorKind::Shutdown => break Ok(End::ShutDown),
            Err(error) if error.kind() == ErrorKind::HandedOver => break Ok(End::HandedOver),
            Err(error) if error.kind() == ErrorKind::NameLost => break Err(error.into()),
            Err(error) => {
                output::note(error);
                std::thread::sleep(ACCEPT_RETRY_DELAY);
            }
        }
        collect(&mut refusals);
        print_due(&mut refusals, refused);
    };
    collect(&mut refusals);
    if stderr_takes_a_line() {
        refusals.rest(Instant::now(), refused).iter().for_each(output::note);
    }
    outcome
}

/// Prints the lines about refusals that are due.
fn print_due(refusals: &mut Refusals, count: impl Fn(RefusalReason) -> u64) {
    let now = Instant::now();
    if !refusals.is_due(now) {
        return;
    }
    // A reader of stderr that does not read must not stop the server from accepting.
    if stderr_takes_a_line() {
        refusals.due(now, count).iter().for_each(output::note);
    } else {
        refusals.postpone(now);
    }
}

/// Returns true if a write of a line to stderr does not block.
fn stderr_takes_a_line() -> bool {
    let stderr = std::io::stderr();
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    // A stderr that cannot be polled is not one that blocks.
    poll(&mut fds, Some(&Timespec::default())) != Ok(0)
}

/// Waits until the server has work, a child has exited, or it is time for a line about refusals.
fn wait_for_work(server: &Server, adopted: &AdoptedChildren, until: Option<Instant>) -> anyhow::Result<()> {
    let mut fds = [PollFd::new(server, PollFlags::IN), PollFd::new(adopted, PollFlags::IN)];
    let timeout = until.map(|at| at.saturating_duration_since(Instant::now()));
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error).context("waiting for clients"),
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
fn options(args: &Serve, descriptors: &Descriptors) -> ServerOptions {
    let (all, of_a_user) = descriptors.programs(args);
    let mut options = ServerOptions::new();
    if let Some(on) = &args.on {
        options = options.transports(on.0.iter().copied());
    }
    if let Some(timeout) = args.take_over {
        options = options.take_over(timeout);
    }
    options = options.yields(args.yields);
    if let Some(mode) = args.mode {
        options = options.mode(mode);
    }
    if let Some(group) = args.group {
        options = options.group(group);
    }
    if let Some(clients) = args.clients.or(all) {
        options = options.connections_max(clients);
    }
    if let Some(clients) = args.clients_per_user.or(of_a_user) {
        options = options.connections_per_uid_max(clients);
    }
    if let Some(bytes) = limits::message_max(args) {
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
