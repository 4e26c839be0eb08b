//! Thousands of connections at once: how long they take to come, how fast they are answered, and what an idle one costs.
//!
//! `cargo run --release -p parlour-bench --bin scale`
//!
//! The clients are processes apart from the server, so that what the server allocates can be counted. Every answer is
//! compared with what was asked.

mod args;
mod child;
mod clients;
mod descriptors;
mod report;
mod run;
mod serve;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Role};

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.role {
        None => run::all(&args),
        Some(Role::Serve(serve)) => serve::run(serve),
        Some(Role::Clients(clients)) => clients::run(clients),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: {error:#}");
            ExitCode::FAILURE
        }
    }
}
