//! The program `parlour`: local client/server messaging by name, from the command line.
//!
//! `main` parses the command line, runs the command and converts the result into an exit code.

mod args;
mod command;
mod exit;
mod exit_watch;
mod json;
mod lines;
mod notify;
mod output;
mod pump;
mod recording;
mod signals;
mod stdio;
mod sys;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args = match args::parse() {
        Ok(args) => args,
        Err(shown) => return exit::after_parsing(&shown),
    };
    output::log_to_stderr(args.verbose);
    exit::after_running(command::run(args.command))
}
