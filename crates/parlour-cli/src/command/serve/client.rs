//! Serves one client of `parlour serve`, from its first message to the exit of its program.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parlour::{Connection, ErrorKind};
use rustix::process::Rlimit;

use super::active_clients::ClientGuard;
use super::framing::framing;
use super::program::Program;
use super::refusals::Quiet;
use super::{environment, limits};
use crate::args::{Idle, Serve};
use crate::lines::Framing;
use crate::pump::{Outcome, Pump};
use crate::signals::Stop;
use crate::{exit, output};

/// The time that a program may run after its client has disconnected and before it gets SIGTERM. Its stdin is at end of
/// file, and it may still process the last of its input.
const STAY_WITHOUT_CLIENT: Duration = Duration::from_secs(1);

/// The service that every client gets.
pub(super) struct Service {
    /// The program and its arguments; `None` echoes messages.
    program: Option<(OsString, Vec<OsString>)>,
    framing: Framing,
    name: String,
    /// The limit on descriptors of the programs; `None` is that of this process.
    descriptors: Option<Rlimit>,
    idle: Option<Idle>,
    stop: Arc<Stop>,
    has_told_of_newlines: AtomicBool,
    /// The lines about clients that were disconnected.
    quiet: Mutex<Quiet>,
}

impl Service {
    pub(super) fn new(args: &Serve, name: &str, stop: &Arc<Stop>, descriptors: Option<Rlimit>) -> Service {
        Service {
            program: args.program.split_first().map(|(program, args)| (program.clone(), args.to_vec())),
            framing: framing(args),
            name: name.to_owned(),
            descriptors,
            idle: args.idle,
            stop: Arc::clone(stop),
            has_told_of_newlines: AtomicBool::new(false),
            quiet: Mutex::default(),
        }
    }

    /// Serves one client until it is disconnected. An error affects only this client, and is printed on stderr.
    ///
    /// The client is counted until its program has exited, so that the server does not exit before its programs.
    pub(super) fn serve(&self, mut connection: Connection, guard: ClientGuard) {
        let peer = connection.peer().clone();
        let idle = limits::idle_limit(self.idle, peer.uid());
        let outcome = match &self.program {
            None => echo(&mut connection, idle),
            Some((program, args)) => self.run_program(&mut connection, program, args, guard.number, idle),
        };
        if let Err(error) = outcome {
            let text = format!("client {peer} was disconnected: {}", exit::one_line(&error));
            let line = self.quiet.lock().unwrap_or_else(PoisonError::into_inner).line(Instant::now(), text);
            line.iter().for_each(output::note);
        }
    }

    fn run_program(
        &self,
        connection: &mut Connection,
        program: &OsString,
        args: &[OsString],
        number: usize,
        idle: Option<Duration>,
    ) -> anyhow::Result<()> {
        if self.stop.is_triggered() {
            return Ok(());
        }
        let environment = environment::of(connection.peer(), connection.transport(), &self.name, number);
        let (mut program, streams) = Program::start(program, args, environment, self.descriptors)?;
        let pump = Pump::with_program(
            connection,
            streams,
            self.framing,
            program.exit(),
            self.stop.as_fd(),
            STAY_WITHOUT_CLIENT,
        );
        let pump = pump.context("making the pipes of the program non-blocking")?.with_idle_limit(idle);
        let (outcome, inexact) = pump.run();
        // Once is enough: a client must not be able to fill the log.
        if inexact > 0 && !self.has_told_of_newlines.swap(true, Ordering::Relaxed) {
            output::note(format_args!(
                "a message of client {} contained a newline, and reached the program as several lines; use --raw or \
                 --frames for such messages (this is told once)",
                connection.peer()
            ));
        }
        match outcome {
            // A program that has closed its stdout may still process its input, without a time limit.
            Outcome::Finished | Outcome::SinkClosed => program.wait(None, &self.stop),
            Outcome::PeerGone { .. } => program.wait(Some(STAY_WITHOUT_CLIENT), &self.stop),
            Outcome::Idle => {
                program.wait(Some(STAY_WITHOUT_CLIENT), &self.stop);
                program.end();
                return Err(is_idle(idle));
            }
            Outcome::Stopped => {}
            Outcome::Failed(error) => {
                program.end();
                return Err(error);
            }
        }
        program.end();
        Ok(())
    }
}

/// Sends every message back until the client has finished sending.
fn echo(connection: &mut Connection, idle: Option<Duration>) -> anyhow::Result<()> {
    let limit = idle.unwrap_or(Duration::MAX);
    let mut message = Vec::new();
    let outcome = (|| {
        while connection.recv_into_timeout(&mut message, limit)?.is_some() {
            // Several replies are combined in one write. The connection flushes them before it blocks in a receive.
            connection.feed_timeout(&message, limit)?;
        }
        connection.finish_timeout(limit)
    })();
    match outcome {
        // A client that disconnects without reading all replies is not an error of the server.
        Err(error) if error.kind() == ErrorKind::Disconnected => Ok(()),
        Err(error) if error.kind() == ErrorKind::TimedOut => Err(is_idle(idle)),
        outcome => Ok(outcome?),
    }
}

/// Returns the error for a client that was idle for too long.
fn is_idle(limit: Option<Duration>) -> anyhow::Error {
    let limit = humantime::format_duration(limit.unwrap_or_default());
    anyhow::anyhow!("no message has passed for {limit}; raise the limit (--idle)")
}
