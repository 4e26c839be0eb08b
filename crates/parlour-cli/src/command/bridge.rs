//! `parlour bridge`: replaces this process with the program `parlour-bridge`.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use crate::args;
use crate::exit::{self, Failure};

/// The name of the program.
const PROGRAM: &str = "parlour-bridge";

pub(super) fn run(args: &args::Bridge) -> anyhow::Result<()> {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(PROGRAM));
    // Without one beside this program, exec searches $PATH.
    let program = beside.clone().filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from(PROGRAM));
    let error = Command::new(&program).args(&args.arguments).exec();
    let problem = match error.kind() {
        ErrorKind::NotFound if program.as_os_str() == PROGRAM => {
            let directory = beside.and_then(|path| Some(path.parent()?.display().to_string()));
            let directory = directory.unwrap_or_else(|| "the directory of parlour".to_owned());
            format!(
                "{PROGRAM} is not installed: it is neither in {directory} nor in a directory of $PATH; build it with \
                 `cargo build --release -p parlour-bridge`, and copy it to one of them"
            )
        }
        _ => format!("{} cannot be executed: {error}", program.display()),
    };
    Err(Failure::new(exit::OTHER, problem).into())
}
