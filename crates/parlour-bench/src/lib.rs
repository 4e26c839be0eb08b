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
mod guard;
mod machine;
mod plan;
mod report;
mod results;
mod run;
mod table;
mod tokio_api;

use std::process::ExitCode;

use clap::Parser;

pub use parlour_measure::{
    Amount, Client, Contender, DONE, Outcome, Ready, Turn, Work, raw_stream_client, resident_bytes,
};

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
    parlour_measure::allocator(allocator::COUNTS);
    let mut arguments = std::env::args().skip(1);
    let outcome = match (arguments.next(), arguments.next()) {
        (Some(first), Some(role)) if first == ROLE => parlour_measure::take(&role, &contenders),
        (Some(first), Some(scenario)) if first == guard::SCENARIO => guard::run_scenario(&scenario),
        _ => command(&Args::parse(), &contenders),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("parlour-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(args: &Args, contenders: &[Box<dyn Contender>]) -> anyhow::Result<()> {
    if args.list {
        run::list(contenders);
        return Ok(());
    }
    match &args.command {
        Some(Command::Report(report)) => report::run(report),
        Some(Command::Guard(guard)) => guard::run(guard),
        None => run::run(args, contenders),
    }
}
