//! A complete benchmark program for any contenders: [`main`]. [`parlour_measure`] describes the method of measurement.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! fn main() -> ExitCode {
//!     let mut contenders = parlour_bench::contenders();
//!     // contenders.push(Box::new(Another));
//!     parlour_bench::main(contenders)
//! }
//! ```

pub mod allocator;
mod args;
mod frames;
mod guard;
mod machine;
mod plan;
mod probe;
mod report;
mod results;
mod run;
mod shm_memory;
mod table;
mod tokio_api;

use std::process::ExitCode;

use clap::Parser;

pub use parlour_measure::{
    Amount, Client, Contender, DONE, Outcome, Ready, Turn, Work, raw_stream_client, resident_bytes,
};

pub use frames::{FramePublisher, FrameWay, sum};
pub use parlour_measure::resident_bytes_of;
pub use probe::Probe;

use args::{Args, Command, ROLE};

/// Returns the contenders that need nothing but the system and parlour: bare system calls, parlour over each transport,
/// the hub, the API for tokio.
#[must_use]
pub fn contenders() -> Vec<Box<dyn Contender>> {
    parlour_measure::contenders().into_iter().chain(tokio_api::contenders()).collect()
}

/// Runs the command line with these contenders. In a child process of a measurement, runs the role of that process.
#[must_use]
pub fn main(contenders: Vec<Box<dyn Contender>>) -> ExitCode {
    main_with_frames(contenders, Vec::new())
}

/// Runs the command line as [`main`] does, with these ways for frames beside those of parlour.
#[must_use]
pub fn main_with_frames(contenders: Vec<Box<dyn Contender>>, others: Vec<Box<dyn FrameWay>>) -> ExitCode {
    let ways: Vec<_> = frames::ways().into_iter().chain(others).collect();
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(frames::ROLE) {
        return ended(frames::take(arguments, &ways));
    }
    let mut probes = frames::probes(&ways);
    probes.push(Box::new(shm_memory::ShmMemory));
    main_with_probes(contenders, &probes)
}

/// Runs the command line as [`main`] does, and takes these figures in each round, too.
#[must_use]
pub fn main_with_probes(contenders: Vec<Box<dyn Contender>>, probes: &[Box<dyn Probe + '_>]) -> ExitCode {
    parlour_measure::allocator(allocator::COUNTS);
    let mut arguments = std::env::args().skip(1);
    ended(match (arguments.next(), arguments.next()) {
        (Some(first), Some(role)) if first == ROLE => parlour_measure::take(&role, &contenders),
        (Some(first), Some(scenario)) if first == guard::SCENARIO => guard::run_scenario(&scenario),
        _ => command(&Args::parse(), &contenders, probes),
    })
}

fn ended(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("parlour-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(args: &Args, contenders: &[Box<dyn Contender>], probes: &[Box<dyn Probe + '_>]) -> anyhow::Result<()> {
    if args.list {
        run::list(contenders);
        return Ok(());
    }
    match &args.command {
        Some(Command::Report(report)) => report::run(report),
        Some(Command::Guard(guard)) => guard::run(guard),
        None => run::run(args, contenders, probes),
    }
}
