//! The bridge between two hosts, beside other ways to reach a server of another host: its figures, and the effect of
//! faults. Both hosts are on this machine, with a base directory each, and talk over loopback.
//!
//! `cargo build --release -p parlour-bridge -p parlour-bench --bins && target/release/bridges`
//!
//! Every contender has the same shape: a client, a process on its host, a TCP connection, a process on the other host,
//! and the server. Client and server are the same for all. A program that is not installed is reported as not measured.

mod client;
mod contender;
mod family;
mod kind;
mod probes;
mod relay;
mod server;
mod stage;
mod tls;

use std::process::ExitCode;

use parlour_bench::Probe;

use contender::Bridged;
use kind::Kind;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next();
    let rest: Vec<String> = arguments.collect();
    let done = match role.as_deref() {
        Some(family::EXEC) => family::exec(&rest),
        Some(relay::ROLE) => relay::run(&rest),
        Some(server::ROLE) => server::run(&rest),
        _ => return measure(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bridges: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> ExitCode {
    let contenders = Kind::ALL.map(|kind| Box::new(Bridged::new(kind)) as Box<dyn parlour_bench::Contender>);
    let probes: Vec<Box<dyn Probe>> = probes::all();
    parlour_bench::main_with_probes(contenders.into(), &probes)
}
