//! The programs of `examples/`, built by cargo.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// Returns the directory of this crate.
pub fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the program of this example. `cargo test` builds the examples, unless it is told to build one test only.
/// Then this function builds them.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let program = profile.join("examples").join(name);
    let newest = ["src", "examples"].iter().map(|part| newest_in(&home().join(part))).max().unwrap();
    if !fs::metadata(&program).and_then(|file| file.modified()).is_ok_and(|made| made > newest) {
        let name_of_profile = match profile.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            name => name,
        };
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--quiet", "--offline", "--examples", "--all-features", "--profile", name_of_profile]);
        build.arg("--target-dir").arg(profile.parent().unwrap()).current_dir(home());
        let output = build.output().unwrap();
        assert!(output.status.success(), "{build:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    program
}

fn newest_in(directory: &Path) -> SystemTime {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let times = entries.map(|entry| match entry.file_type().unwrap().is_dir() {
        true => newest_in(&entry.path()),
        false => entry.metadata().unwrap().modified().unwrap(),
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}
