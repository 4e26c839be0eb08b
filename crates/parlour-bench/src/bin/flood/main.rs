//! What an honest client notices of a user who floods its server: how long its calls take and how many fail, without the
//! flood, with it, and with the limits taken away.
//!
//! `cargo build --release -p parlour-bench && sudo target/release/flood`
//!
//! The server, the honest client and the flooder are processes of different users, for which this must be started by root.
//! A server over `fifo` serves its own user alone, so there all three are the same.

mod args;
mod attack;
#[allow(dead_code, reason = "the children of the other program obey more than one line")]
#[path = "../scale/child.rs"]
mod child;
mod honest;
mod report;
mod run;
mod serve;
mod user;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Role};

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.role {
        None => run::all(&args),
        Some(Role::Serve(serve)) => serve::run(serve),
        Some(Role::Honest(honest)) => honest::run(honest),
        Some(Role::Attack(attack)) => attack::run(attack),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flood: {error:#}");
            ExitCode::FAILURE
        }
    }
}
