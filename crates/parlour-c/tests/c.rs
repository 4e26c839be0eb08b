//! Tests of the C library by C programs. They are compiled with -Werror and run plain, under valgrind, and with the
//! address sanitizer; some run together with Rust programs and the program `parlour`.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and reports on the standard output what it skips"
)]

#[path = "c/documents.rs"]
mod documents;
#[path = "c/examples.rs"]
mod examples;
#[path = "c/interop.rs"]
mod interop;
#[path = "c/nulls.rs"]
mod nulls;
#[path = "c/rude.rs"]
mod rude;
#[path = "c/standards.rs"]
mod standards;
mod support;
#[path = "c/textbook.rs"]
mod textbook;

use std::num::NonZero;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};
use support::build::{self, Flavor};
use support::{base, home, program};

/// A program, its compiler flags, and the transport of its address.
struct Subject {
    name: String,
    source: PathBuf,
    flags: &'static [&'static str],
    /// The part of the address before the path of the name.
    transport: &'static str,
}

/// Programs for both classic headers, and the behaviour that each checks.
const CLASSIC: [(&str, &str); 10] = [
    ("echo", "messages_of_every_length_come_back_whole"),
    ("small_buffer", "a_message_larger_than_the_buffer_stays_for_a_larger_one"),
    ("poll_loop", "poll_reports_every_client_and_every_message"),
    ("fork_server", "a_child_for_each_client_goes_on_and_keeps_no_name"),
    ("thread_server", "ending_a_handle_wakes_other_threads"),
    ("two_threads", "two_threads_on_one_handle_tear_no_message"),
    ("errors", "each_failure_has_its_number_and_changes_nothing"),
    ("nulls", "null_for_each_pointer_is_an_error"),
    ("signals", "handlers_destroy_send_and_disconnect_whatever_they_interrupt"),
    ("places", "places_are_given_back_however_a_connection_was_closed"),
];

/// Programs for the full header, run over each transport, and the behaviour that each checks.
const FULL: [(&str, &str); 14] = [
    ("talk", "everything_works_between_two_ends_in_one_process"),
    ("payload", "a_payload_has_parts_descriptors_or_blocks"),
    ("timeouts", "each_call_that_can_block_gives_up_after_its_timeout"),
    ("fork", "every_call_returns_in_a_child_that_is_forked_while_a_thread_accepts"),
    ("child", "a_child_takes_the_connection_that_its_parent_passes"),
    ("session", "a_session_outlives_its_server_and_reports_what_may_be_lost"),
    ("frames", "frames_are_lent_and_return_whoever_keeps_them_or_is_killed"),
    ("hub", "a_hub_reports_clients_that_join_send_and_leave"),
    ("hand_over", "a_name_moves_from_one_server_to_the_next"),
    ("name_watch", "a_watch_reports_each_server_that_comes_or_goes"),
    ("calls", "answers_reach_their_callers_from_any_thread_and_in_any_order"),
    ("calls_fork", "calls_are_dead_in_a_child_that_is_forked_among_busy_threads"),
    ("hub_threads", "other_threads_send_through_a_hub_that_then_drains"),
    ("hub_fork", "every_call_of_a_hub_returns_in_a_child_that_is_forked_while_threads_use_its_handle"),
];

fn subjects() -> Vec<Subject> {
    let mut subjects = Vec::new();
    for (program, shows) in CLASSIC {
        for (header, flags) in [("unix_sockets", &[][..]), ("fifo", &["-DFIFO"][..])] {
            let source = home().join(format!("tests/c/classic/{program}.c"));
            subjects.push(Subject { name: format!("{header}::{shows}"), source, flags, transport: "" });
        }
    }
    for (program, shows) in FULL {
        for transport in ["shm:", "packet:", "unix:", "fifo:"] {
            let source = home().join(format!("tests/c/full/{program}.c"));
            let name = format!("{}::{shows}", transport.trim_end_matches(':'));
            subjects.push(Subject { name, source, flags: &[], transport });
        }
    }
    let shows = [
        ("the_headers_compile_as_cpp", home().join("tests/c/full/cpp.cpp")),
        ("null_for_each_pointer_of_the_full_header_is_an_error", nulls::source()),
    ];
    let cpp = build::has("g++");
    for (name, source) in shows.into_iter().filter(|(_, source)| cpp || source.extension().is_some_and(|is| is == "c"))
    {
        subjects.push(Subject { name: name.to_owned(), source, flags: &[], transport: "" });
    }
    subjects
}

/// The value of `$PARLOUR_DIR` for everything that these tests start. A name without a directory is then an error, and
/// none of this machine is found.
const NOWHERE: &str = "/proc/a-test-must-use-a-directory-of-its-own/parlour";

fn main() -> ExitCode {
    if std::env::var_os("PARLOUR_DIR").is_none_or(|base| base != NOWHERE) {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(std::env::args_os().skip(1)).env("PARLOUR_DIR", NOWHERE).env_remove("XDG_RUNTIME_DIR");
        panic!("start these tests again: {}", again.exec());
    }
    let mut arguments = Arguments::from_args();
    // Many of the programs wait: for a timeout, for a server that comes back, for another process.
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    arguments.test_threads.get_or_insert(2 * processors);
    let valgrind = build::has("valgrind");
    let sanitizer = build::can_sanitize();
    let cpp = build::has("g++");
    for (is_there, what) in [(valgrind, "valgrind"), (sanitizer, "gcc's address sanitizer"), (cpp, "g++")] {
        if !is_there {
            println!("skipped: the tests with {what}, because it is missing");
        }
    }
    if !program::has_parlour() {
        println!("skipped: the tests with the program parlour, because it is missing");
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
    trials.extend(documents::trials());
    trials.extend(examples::trials());
    trials.extend(rude::trials());
    trials.extend(standards::trials());
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

/// Creates a trial that uses the program `parlour`.
fn trial_with_program(name: impl Into<String>, test: impl FnOnce() + Send + 'static) -> Trial {
    trial(name, test).with_ignored_flag(!program::has_parlour())
}
