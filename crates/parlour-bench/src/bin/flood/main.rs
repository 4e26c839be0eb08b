//! The effect of a flood by one user on an honest client: the duration of its calls and the number of failed calls,
//! without a flood, with a flood, and with a flood and without limits.
//!
//! `cargo build --release -p parlour-bench && sudo target/release/flood`
//!
//! The server, the honest client and the flooder are processes of different users, so root must start this program. A
//! server over `fifo` serves only its own user, so over `fifo` all three have the same user.

mod args;
mod attack;
#[allow(dead_code, reason = "only the children of the program `scale` answer repeated requests")]
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
