//! Prohibitions that hold in every file of the library.

use std::fs;
use std::path::PathBuf;

use super::source::{Source, blank, home, library, rust_files};

/// The number of lines that every file must stay below.
const LINES_MAX: usize = 800;

/// The number of columns that no line exceeds: `max_width` of rustfmt, which leaves comments as they are.
const COLUMNS_MAX: usize = 120;

fn assert_nowhere(needles: &[&str], but_in: impl Fn(&Source) -> bool) {
    let found = |source: &Source| needles.iter().flat_map(|needle| source.lines_with(needle)).collect::<Vec<_>>();
    let wrong: Vec<String> = library().iter().filter(|source| !but_in(source)).flat_map(found).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_code_is_in_sys_and_shm_alone() {
    // A promise that a program makes in unsafe code.
    let is_promise = |source: &Source| source.path == "frames/trust.rs";
    let in_sys =
        |source: &Source| source.path.starts_with("sys/") || source.path.starts_with("shm/") || is_promise(source);
    assert_nowhere(&["unsafe", "allow(unsafe_code)"], in_sys);
    // Each file with unsafe code allows it at the top.
    for source in library().iter().filter(|source| in_sys(source)) {
        let allowed = source.code.contains("#![allow(unsafe_code)]");
        assert_eq!(allowed, !source.lines_with("unsafe").is_empty(), "src/{}", source.path);
    }
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    for source in library() {
        let lines: Vec<(&str, &str)> = source.code.lines().zip(source.text.lines()).collect();
        for (number, _) in lines.iter().enumerate().filter(|(_, (code, _))| code.contains("unsafe {")) {
            // The comment is right above the statement, of which the block may be a part.
            let above = lines[..number].iter().rev().take(6).map(|(_, text)| text.trim());
            let is_argued = above.clone().any(|line| line.starts_with("// SAFETY: "));
            assert!(is_argued, "src/{}:{}: no SAFETY comment", source.path, number + 1);
        }
    }
}

#[test]
fn no_thread_is_started() {
    assert_nowhere(&["thread::spawn", "thread::Builder", "thread::scope"], |_| false);
}

#[test]
fn nothing_sleeps_but_by_waiting_with_a_deadline() {
    assert_nowhere(&["thread::sleep", "sleep_ms", "nanosleep"], |_| false);
}

/// A clock that can be set is for people who read its time. Decisions use monotonic time.
#[test]
fn no_decision_depends_on_the_wall_clock() {
    let labels = ["owner.rs", "admission.rs", "inspect/tap.rs"];
    assert_nowhere(&["SystemTime", "UNIX_EPOCH", "Realtime"], |source| labels.contains(&&*source.path));
    let of_files = ["st_mtime", "st_ctime", "st_atime", "st_btime"];
    assert_nowhere(&of_files, |_| false);
}

/// A child that is forked while another thread holds a lock finds it held for ever.
#[test]
fn every_lock_is_one_that_a_forked_child_does_not_wait_for() {
    // The lock of `listen_fds` is reached only by the process that the service manager started: the variable with its
    // id is compared before. The cell of `standby` is written before a server is used, and reading it does not wait.
    let files = ["sys/fork_mutex.rs", "sys/listen_fds.rs", "standby.rs", "shm/hostile.rs", "shm/model.rs"];
    let locks = ["Mutex", "RwLock", "Condvar", "Once", "OnceLock", "LazyLock", "Barrier"];
    assert_nowhere(&locks, |source| files.contains(&&*source.path));
}

#[test]
fn nothing_is_printed() {
    assert_nowhere(&["println!", "eprintln!", "print!", "eprint!", "dbg!", "stdout()", "stderr()"], |_| false);
}

#[test]
fn nothing_panics_on_purpose() {
    let ways =
        [".unwrap()", ".expect(", ".unwrap_err()", "panic!", "todo!", "unimplemented!", "unreachable!", "assert!"];
    assert_nowhere(&ways, |_| false);
}

#[test]
fn the_hosts_signals_umask_directory_and_environment_are_left_alone() {
    let ways = ["libc::signal", "sigaction", "umask", "chdir", "set_current_dir", "set_var", "remove_var", "setrlimit"];
    assert_nowhere(&ways, |_| false);
    // Except for a mask that is restored before the call ends.
    let restores_it = ["sys/no_sigpipe.rs", "sys/blocked_signals.rs"];
    assert_nowhere(&["sigprocmask", "pthread_sigmask"], |source| restores_it.contains(&&*source.path));
}

#[test]
fn no_signal_is_sent() {
    // The existence of a process is tested without a signal.
    assert_nowhere(&["kill_process", "kill_process_group", "libc::kill", "tgkill", "raise"], |_| false);
}

/// Returns all Rust files of the workspace, and of the fuzz targets, with their text.
fn files_of_the_workspace() -> Vec<(PathBuf, String)> {
    let root = home().ancestors().nth(2).unwrap();
    let members = fs::read_dir(root.join("crates")).unwrap().map(|member| member.unwrap().path());
    let directories = members.flat_map(|member| ["src", "tests", "examples", "benches"].map(|part| member.join(part)));
    let directories = directories.chain([root.join("fuzz/fuzz_targets")]).filter(|directory| directory.is_dir());
    let files = directories.flat_map(|directory| rust_files(&directory));
    files.map(|file| (file.clone(), fs::read_to_string(&file).unwrap())).collect()
}

#[test]
fn every_file_is_shorter_than_the_limit() {
    for (file, text) in files_of_the_workspace() {
        let lines = text.lines().count();
        assert!(lines < LINES_MAX, "{} has {lines} lines", file.display());
    }
}

/// Returns the numbers of the lines that are too long. A literal may be long, because rustfmt breaks none.
fn long_lines(text: &str) -> Vec<usize> {
    let long = text.lines().enumerate().filter(|(_, line)| line.chars().count() > COLUMNS_MAX);
    let mut long: Vec<(usize, &str)> = long.map(|(at, line)| (at + 1, line)).collect();
    // Most files have none, and this takes time.
    if !long.is_empty() {
        let without_literals = blank(text, false);
        let code: Vec<&str> = without_literals.lines().collect();
        long.retain(|&(number, line)| line.trim_start().starts_with("//") || code[number - 1] == line);
    }
    long.into_iter().map(|(number, _)| number).collect()
}

#[test]
fn no_line_is_longer_than_the_limit() {
    let files = files_of_the_workspace();
    let long = |(file, text): &(PathBuf, String)| {
        long_lines(text).into_iter().map(|number| format!("{}:{number}", file.display())).collect::<Vec<_>>()
    };
    let long: Vec<String> = files.iter().flat_map(long).collect();
    assert!(long.is_empty(), "lines of more than {COLUMNS_MAX} columns: {long:#?}");
}

#[test]
fn a_long_line_is_found() {
    let fits = format!("    // {}", "x".repeat(COLUMNS_MAX - 7));
    assert_eq!(long_lines(&fits), [0; 0]);
    assert_eq!(long_lines(&format!("{fits}x")), [1]);
    assert_eq!(long_lines(&format!("fn f() {{}}\n//! {}\n/// {}\n", "ä".repeat(117), "é".repeat(116))), [2]);
    assert_eq!(long_lines(&format!("let {} = 1;", "x".repeat(COLUMNS_MAX))), [1]);
    assert_eq!(long_lines(&format!("let x = \"{}\";", "x".repeat(COLUMNS_MAX))), [0; 0]);
}

#[test]
fn a_violation_is_found() {
    let source =
        Source::new("server.rs", "fn f() { x.unwrap(); std::thread::spawn(g); unsafe { h() } eprintln!(\"\") }");
    for needle in [".unwrap()", "thread::spawn", "unsafe", "eprintln!"] {
        assert_eq!(source.lines_with(needle).len(), 1, "{needle}");
    }
    assert!(source.lines_with("println!").is_empty(), "println matched inside of eprintln");
}
