//! One client of `parlour serve`, from its first message to the end of its program.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use parlour::{Connection, ErrorKind};

use super::environment;
use super::framing::framing;
use super::program::Program;
use super::tally::Counted;
use crate::args::Serve;
use crate::lines::Framing;
use crate::pump::{Ended, Pump};
use crate::signals::Stop;
use crate::{exit, output};

/// How long a program whose client is gone may stay before it is told to end: it has seen the end of its input, and
/// may be at work on the last of it.
const STAY_WITHOUT_CLIENT: Duration = Duration::from_secs(1);

/// What every client gets.
pub(super) struct Service {
    /// `None` echoes.
    program: Option<(OsString, Vec<OsString>)>,
    framing: Framing,
    name: String,
    stop: Arc<Stop>,
}

impl Service {
    pub(super) fn new(args: &Serve, name: &str, stop: &Arc<Stop>) -> Service {
        Service {
            program: args.program.split_first().map(|(program, args)| (program.clone(), args.to_vec())),
            framing: framing(args),
            name: name.to_owned(),
            stop: Arc::clone(stop),
        }
    }

    /// Serves one client to its end. What goes wrong concerns this client alone and is told on stderr.
    ///
    /// It is counted until its program is gone, so that the server does not end before its programs.
    pub(super) fn serve(&self, mut connection: Connection, counted: Counted) {
        let peer = connection.peer().clone();
        let outcome = match &self.program {
            None => echo(&mut connection),
            Some((program, args)) => self.run_program(&mut connection, program, args, counted.number),
        };
        if let Err(error) = outcome {
            output::note(format_args!("client {peer} is disconnected: {}", exit::one_line(&error)));
        }
    }

    fn run_program(
        &self,
        connection: &mut Connection,
        program: &OsString,
        args: &[OsString],
        number: usize,
    ) -> anyhow::Result<()> {
        if self.stop.is_triggered() {
            return Ok(());
        }
        let environment = environment::of(connection.peer(), connection.transport(), &self.name, number);
        let (mut program, streams) = Program::start(program, args, environment)?;
        let pump = Pump::with_program(
            connection,
            streams,
            self.framing,
            program.pidfd(),
            self.stop.as_fd(),
            STAY_WITHOUT_CLIENT,
        );
        match pump.context("preparing the program's pipes")?.run() {
            // A program that closed its output may still be at work on its input; it has all the time it wants.
            Ended::Finished | Ended::SinkClosed => program.wait(None, &self.stop),
            Ended::PeerGone { .. } => program.wait(Some(STAY_WITHOUT_CLIENT), &self.stop),
            Ended::Stopped => {}
            Ended::Failed(error) => {
                program.end();
                return Err(error);
            }
        }
        program.end();
        Ok(())
    }
}

/// Sends every message back until the client has no more.
fn echo(connection: &mut Connection) -> anyhow::Result<()> {
    let mut message = Vec::new();
    let outcome = (|| {
        while connection.recv_into(&mut message)?.is_some() {
            // Many replies go in one write; the connection sends them before it sleeps in the next receive.
            connection.feed(&message)?;
        }
        connection.finish()
    })();
    match outcome {
        // A client that leaves with replies unread has a reason of its own.
        Err(error) if error.kind() == ErrorKind::Disconnected => Ok(()),
        outcome => Ok(outcome?),
    }
}
