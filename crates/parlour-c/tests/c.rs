//! The C library, by programs in C: built with every warning an error, run as they are, under valgrind, and with the address
//! sanitizer; and together with programs in Rust and the program `parlour`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what is wrong by panicking, and what is skipped on the standard output"
)]

#[path = "c/interop.rs"]
mod interop;
#[path = "c/nulls.rs"]
mod nulls;
mod support;
#[path = "c/textbook.rs"]
mod textbook;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};
use support::build::{self, Flavor};
use support::{base, home, program};

/// A program and how it is to be built and called.
struct Subject {
    name: String,
    source: PathBuf,
    flags: &'static [&'static str],
    /// What comes before the path of the name in its address.
    transport: &'static str,
}

fn subjects() -> Vec<Subject> {
    let mut subjects = Vec::new();
    let classic =
        ["echo", "small_buffer", "poll_loop", "fork_server", "thread_server", "errors", "nulls", "signals", "places"];
    for program in classic {
        for (header, flags) in [("unix_sockets", &[][..]), ("fifo", &["-DFIFO"][..])] {
            let source = home().join(format!("tests/c/classic/{program}.c"));
            subjects.push(Subject { name: format!("{header}::{program}"), source, flags, transport: "" });
        }
    }
    for program in ["talk.c", "hub.c"] {
        for transport in ["shm:", "packet:", "unix:", "fifo:"] {
            let source = home().join("tests/c/full").join(program);
            let name = format!("{}::{}", transport.trim_end_matches(':'), program.trim_end_matches(".c"));
            subjects.push(Subject { name, source, flags: &[], transport });
        }
    }
    let source = home().join("tests/c/full/cpp.cpp");
    subjects.push(Subject { name: "cpp".to_owned(), source, flags: &[], transport: "" });
    subjects.push(Subject { name: "nulls".to_owned(), source: nulls::source(), flags: &[], transport: "" });
    subjects
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let valgrind = build::has("valgrind");
    let sanitizer = build::can_sanitize();
    for (is_there, what) in [(valgrind, "valgrind"), (sanitizer, "gcc's address sanitizer")] {
        if !is_there {
            println!("skipped: what runs with {what}, for want of it");
        }
    }
    let mut trials = Vec::new();
    for Subject { name, source, flags, transport } in subjects() {
        let address = move |base: &tempfile::TempDir| format!("{transport}{}", base.path().join("name").display());
        let plain = source.clone();
        trials.push(trial(format!("plain::{name}"), move || {
            let base = base();
            program::succeed(Command::new(build::program(&plain, flags, Flavor::Plain)).arg(address(&base)));
        }));
        let watched = source.clone();
        let under_valgrind = trial(format!("valgrind::{name}"), move || {
            let base = base();
            let program = build::program(&watched, flags, Flavor::Plain);
            program::succeed(program::under_valgrind(&program).arg(address(&base)));
        });
        trials.push(under_valgrind.with_ignored_flag(!valgrind));
        let sanitized = trial(format!("sanitizer::{name}"), move || {
            let base = base();
            program::succeed(Command::new(build::program(&source, flags, Flavor::Sanitized)).arg(address(&base)));
        });
        trials.push(sanitized.with_ignored_flag(!sanitizer));
    }
    trials.extend(interop::trials());
    trials.extend(textbook::trials());
    let conclusion = libtest_mimic::run(&arguments, trials);
    build::clean();
    nulls::clean();
    conclusion.exit_code()
}

fn trial(name: impl Into<String>, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}
