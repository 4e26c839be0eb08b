//! The commands, one module for each.

mod bench;
mod call;
mod clean;
mod completions;
mod connect;
mod demo;
mod doctor;
mod holder;
mod list;
mod man;
mod path;
mod ping;
mod serve;

use crate::args::Command;

/// Runs a command.
pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(args) => demo::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Connect(args) => connect::run(&args),
        Command::Call(args) => call::run(&args),
        Command::Ping(args) => ping::run(&args),
        Command::List(args) => list::run(&args),
        Command::Path(args) => path::run(&args),
        Command::Clean(args) => clean::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(_) => man::run(),
        Command::DemoServer(args) => demo::worker::serve(&args),
        Command::DemoClient(args) => demo::worker::talk(&args),
        Command::BenchRole(args) => bench::role(&args),
        Command::CompleteNames(args) => completions::names(&args),
    }
}
