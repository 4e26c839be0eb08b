//! Thousands of simultaneous connections: the time for connecting, the speed of answers, and the cost of an idle
//! connection.
//!
//! `cargo run --release -p parlour-bench --bin scale`
//!
//! `cargo run --release -p parlour-bench --bin scale -- --top target/release/parlour`
//!
//! measures instead how soon and at which cost `parlour top` names a client that does not read.
//!
//! The clients run in other processes than the server, so that the server's allocations can be counted by themselves.
//! Every answer is compared with its message.

mod args;
mod child;
mod clients;
mod descriptors;
mod report;
mod run;
mod serve;
mod top;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Role};

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.role {
        None => match &args.top {
            Some(program) => top::measure(program, args.connections.unwrap_or(1000)),
            None => run::all(&args),
        },
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
