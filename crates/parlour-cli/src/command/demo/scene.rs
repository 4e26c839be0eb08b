//! The place where the demo plays: a temporary directory with names of its own, and the wish to stop.

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

/// Removed with everything in it when dropped. Keep it longer than every process that plays in it.
pub(super) struct Scene {
    directory: TempDir,
    base: PathBuf,
    text: PathBuf,
    program: PathBuf,
    stop: Stop,
}

impl Scene {
    pub(super) fn set(text: &Text) -> anyhow::Result<Scene> {
        // First the signals, so that none can come between the directory and its removal.
        let stop = Stop::on_interrupt_or_hangup().context("catching signals")?;
        let directory = tempfile::Builder::new()
            .prefix("parlour-demo-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .context("making a temporary directory")?;
        let base = directory.path().join("names");
        DirBuilder::new().mode(0o700).create(&base).with_context(|| format!("making {}", base.display()))?;
        let file = directory.path().join("text");
        std::fs::write(&file, text.to_file()).with_context(|| format!("writing {}", file.display()))?;
        let program = std::env::current_exe().context("finding this program")?;
        Ok(Scene { directory, base, text: file, program, stop })
    }

    /// This program, to be run with the scene's names.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("PARLOUR_DIR", &self.base);
        command
    }

    /// The file with the lines to send.
    pub(super) fn text(&self) -> &Path {
        &self.text
    }

    /// Readable when the demo is to stop.
    pub(super) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Ends the play, and checks that nothing is left of it.
    pub(super) fn clear(self, report: &mut Report) -> anyhow::Result<()> {
        // `ECHILD`: not a single child is left, neither running nor waiting to be reaped.
        let no_process = matches!(wait(WaitOptions::NOHANG), Err(Errno::CHILD));
        let path = self.directory.path().to_owned();
        self.directory.close().with_context(|| format!("removing {}", path.display()))?;
        let no_file = !path.exists();
        let found = format!("{} is gone, no child is left", path.display());
        report.claim(None, "no file and no process is left", no_process && no_file, &found)
    }
}
