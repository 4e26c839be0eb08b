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
    let sources = ["src", "examples"].map(|part| home().join(part));
    built(&Path::new("examples").join(name), &sources, home(), &["--examples", "--all-features"])
}

/// Returns the directory of the crate with the program `parlour`, or `None` in a package of this crate alone.
pub fn home_of_cli() -> Option<PathBuf> {
    Some(home().with_file_name("parlour-cli")).filter(|path| path.is_dir())
}

/// Returns the program `parlour` of this crate, as [`example`] does.
pub fn cli(home_of_cli: &Path) -> PathBuf {
    let sources = [home().join("src"), home_of_cli.join("src")];
    built(Path::new("parlour"), &sources, home_of_cli, &["--bin", "parlour"])
}

/// Returns the program at this path below the directory of the profile, built by cargo with these arguments if it is
/// older than its sources.
fn built(program: &Path, sources: &[PathBuf], directory: &Path, arguments: &[&str]) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let program = profile.join(program);
    let newest = sources.iter().map(|source| newest_in(source)).max().unwrap();
    if !fs::metadata(&program).and_then(|file| file.modified()).is_ok_and(|made| made > newest) {
        let name_of_profile = match profile.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            name => name,
        };
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--quiet", "--offline", "--profile", name_of_profile]).args(arguments);
        build.arg("--target-dir").arg(profile.parent().unwrap()).current_dir(directory);
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
