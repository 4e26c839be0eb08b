//! Compilation of C programs against the library that cargo has built for this test.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use super::{built, home};

/// The system libraries that the Rust standard library in the archive needs.
const SYSTEM: [&str; 4] = ["-lpthread", "-ldl", "-lm", "-lrt"];

/// The way in which a program is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavor {
    Plain,
    /// With gcc's address and undefined-behaviour sanitizers. They check the C code, and the allocations of C and
    /// Rust.
    Sanitized,
}

/// Returns a directory that lives as long as this process.
fn scratch() -> &'static Path {
    static SCRATCH: OnceLock<tempfile::TempDir> = OnceLock::new();
    SCRATCH.get_or_init(|| tempfile::Builder::new().prefix("parlour-c-built-").tempdir().unwrap()).path()
}

/// Removes the compiled programs.
pub fn clean() {
    let _ = std::fs::remove_dir_all(scratch());
}

/// Returns the archive without debug information, which valgrind would read for seconds in each program.
/// `PARLOUR_TEST_ARCHIVE` selects an archive that was built in another way.
pub fn archive() -> &'static Path {
    static ARCHIVE: OnceLock<PathBuf> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let archive = scratch().join("libparlour.a");
        let another = std::env::var_os("PARLOUR_TEST_ARCHIVE").map(PathBuf::from);
        let original = another.unwrap_or_else(|| built().join("deps/libparlour_c.a"));
        run(Command::new("strip").arg("-g").arg("-o").arg(&archive).arg(original));
        archive
    })
}

/// Returns the path of the shared library.
pub fn shared_library() -> PathBuf {
    built().join("deps/libparlour_c.so")
}

/// Returns the C compiler: gcc, or else `cc`.
pub fn c_compiler() -> &'static str {
    static IS_GCC: OnceLock<bool> = OnceLock::new();
    if *IS_GCC.get_or_init(|| has("gcc")) { "gcc" } else { "cc" }
}

fn compiler(source: &Path) -> &'static str {
    if source.extension().is_some_and(|extension| extension == "cpp") { "g++" } else { c_compiler() }
}

/// Compiles a program of one file, once per combination of flags and flavour.
pub fn program(source: &Path, flags: &[&str], flavor: Flavor) -> PathBuf {
    type Key = (PathBuf, Vec<String>, Flavor);
    static PROGRAMS: Mutex<Option<HashMap<Key, Arc<OnceLock<PathBuf>>>>> = Mutex::new(None);
    let key = (source.to_owned(), flags.iter().map(|&flag| flag.to_owned()).collect::<Vec<_>>(), flavor);
    let (number, place) = {
        let mut programs = PROGRAMS.lock().unwrap();
        let programs = programs.get_or_insert_with(HashMap::new);
        let number = programs.len();
        (number, Arc::clone(programs.entry(key).or_default()))
    };
    place
        .get_or_init(|| {
            let program = scratch().join(format!("{number}-{}", source.file_stem().unwrap().to_str().unwrap()));
            let mut command = Command::new(compiler(source));
            command.args(["-g", "-Wall", "-Wextra", "-Werror"]).args(flags).arg("-I").arg(home().join("include"));
            if flavor == Flavor::Sanitized {
                command.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
            }
            command.arg(source).arg("-o").arg(&program).arg(archive()).args(SYSTEM);
            run(&mut command);
            program
        })
        .clone()
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
}

/// Returns true if the compiler and this system support the sanitizers.
pub fn can_sanitize() -> bool {
    let source = scratch().join("can_sanitize.c");
    std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let program = scratch().join("can_sanitize");
    let built =
        Command::new(c_compiler()).arg("-fsanitize=address,undefined").arg(&source).arg("-o").arg(&program).output();
    built.is_ok_and(|output| output.status.success())
        && Command::new(&program).output().is_ok_and(|output| output.status.success())
}

/// Returns true if a program of this name is on the path.
pub fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}
