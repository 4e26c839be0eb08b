//! The roles of the two processes of a turn: this executable as the server or as the client.

use std::io::BufRead;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::contender::{Contender, Ready};
use crate::outcome::Turn;
use crate::work::Work;
use crate::{count, placement};

/// The role of a process, as it is passed on the command line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Role {
    pub(crate) side: Side,
    pub(crate) contender: String,
    pub(crate) place: std::path::PathBuf,
    pub(crate) cpu: Option<usize>,
    pub(crate) turn: Turn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Side {
    Server,
    Client,
}

/// The counters that a server reports on request.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) allocations: Option<u64>,
    pub(crate) allocated_bytes: Option<u64>,
    pub(crate) resident_bytes: u64,
}

impl Side {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

impl Role {
    /// Returns the command that starts this executable in this role. `prefix` are the arguments before the role.
    pub(crate) fn command(&self, prefix: &[&str]) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(prefix).arg(serde_json::to_string(self)?);
        Ok(command)
    }
}

/// Runs the role that was passed on the command line.
///
/// # Errors
///
/// Returns an error if `role` is malformed or unknown, or if the role fails.
pub fn take(role: &str, contenders: &[Box<dyn Contender>]) -> Result<()> {
    let role: Role =
        serde_json::from_str(role).context("parsing the role: this argument is internal to the program")?;
    // The kernel kills this process when its parent ends, for whatever reason.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if let Some(cpu) = role.cpu {
        placement::pin(cpu)?;
    }
    let contender = contenders.iter().find(|contender| contender.name() == role.contender);
    let contender = &**contender.with_context(|| format!("no contender is named {}", role.contender))?;
    match role.side {
        Side::Server => serve(contender, &role),
        Side::Client => drive(contender, &role.place, role.turn),
    }
}

fn serve(contender: &dyn Contender, role: &Role) -> Result<()> {
    if let Work::Crowd { clients, .. } = role.turn.work {
        count::make_room_for(clients)?;
    }
    // The contender occupies the first thread, so another one answers requests for the counters. It ends the process at
    // the end of stdin.
    thread::Builder::new().name("counts".to_owned()).spawn(|| {
        count::leave_this_thread_out();
        let code = match answer() {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("the server cannot report its counters: {error:#}");
                1
            }
        };
        std::process::exit(code);
    })?;
    contender.serve(&role.place, role.turn.work, Ready(()))?;
    // The clients have disconnected, but the counters may still be requested.
    loop {
        thread::park();
    }
}

fn answer() -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        ensure!(line? == "counts", "the server received an unknown request");
        let counts = Counts {
            allocations: count::allocations(),
            allocated_bytes: count::allocated_bytes(),
            resident_bytes: count::resident_bytes()?,
        };
        println!("{}", serde_json::to_string(&counts)?);
    }
    Ok(())
}

fn drive(contender: &dyn Contender, place: &Path, turn: Turn) -> Result<()> {
    let outcome = contender.drive(place, turn, &mut || {
        println!("warm");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        if line != "go\n" {
            bail!("the benchmark ended before the turn began");
        }
        Ok(())
    })?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
