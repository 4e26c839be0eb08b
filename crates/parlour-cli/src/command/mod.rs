//! The commands, one module for each.

mod bench;
mod bench_html;
mod bench_row;
mod bridge;
mod call;
mod call_id;
mod clean;
mod clients;
mod completions;
mod connect;
mod demo;
mod doctor;
mod follow;
mod holder;
mod list;
mod man;
mod openmetrics;
mod path;
mod ping;
mod record;
mod replay;
mod reply;
mod serve;
mod stats;
mod tap;
mod top;
mod watch;

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
        Command::Watch(args) => watch::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Clients(args) => clients::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Tap(args) => tap::run(&args),
        Command::Record(args) => record::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Path(args) => path::run(&args),
        Command::Clean(args) => clean::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Bridge(args) => bridge::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(_) => man::run(),
        Command::DemoServer(args) => demo::worker::serve(&args),
        Command::DemoClient(args) => demo::worker::talk(&args),
        Command::BenchRole(args) => bench::role(&args),
        Command::CompleteNames(args) => completions::names(&args),
    }
}
