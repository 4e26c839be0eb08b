//! The environment of the demo: a temporary directory with its own names, and the request to stop.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};
use tempfile::TempDir;

use super::report::Report;
use super::text::Text;
use crate::signals::Stop;

/// The temporary directory of the demo. Dropping it removes the directory with its contents, so it must outlive every
/// process of the demo.
pub(super) struct Scene {
    directory: TempDir,
    base: PathBuf,
    text: PathBuf,
    program: PathBuf,
    stop: Stop,
}

impl Scene {
    /// Creates the directory, and writes the text to a file in it.
    pub(super) fn set(text: &Text) -> anyhow::Result<Scene> {
        // Signals are caught before the directory is created, so that none can prevent its removal.
        let stop = Stop::on_interrupt_or_hangup().context("catching signals")?;
        let directory = tempfile::Builder::new()
            .prefix("parlour-demo-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .context("creating a temporary directory")?;
        let base = directory.path().join("names");
        DirBuilder::new().mode(0o700).create(&base).with_context(|| format!("creating {}", base.display()))?;
        let file = directory.path().join("text");
        std::fs::write(&file, text.to_file()).with_context(|| format!("writing {}", file.display()))?;
        let program = std::env::current_exe().context("finding the path of this program")?;
        Ok(Scene { directory, base, text: file, program, stop })
    }

    /// Returns a command that runs this program with the names of the demo.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("PARLOUR_DIR", &self.base);
        command
    }

    /// Returns the path of the file with the lines to send.
    pub(super) fn text(&self) -> &Path {
        &self.text
    }

    /// Returns a descriptor that is readable when the demo must stop.
    pub(super) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Removes the directory, and checks that no file and no process is left.
    pub(super) fn clear(self, report: &mut Report) -> anyhow::Result<()> {
        // `ECHILD` means that this process has no child, neither running nor waiting to be reaped.
        let no_process = matches!(wait(WaitOptions::NOHANG), Err(Errno::CHILD));
        let path = self.directory.path().to_owned();
        self.directory.close().with_context(|| format!("removing {}", path.display()))?;
        let no_file = !path.exists();
        let found = format!("{} was removed, no child is left", path.display());
        report.claim(None, "no file and no process is left", no_process && no_file, &found)
    }
}
