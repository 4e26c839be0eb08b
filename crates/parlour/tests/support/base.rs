//! A directory of names for one test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use parlour::Transport;
use tempfile::TempDir;

/// A private base directory (0700), removed at the end. Addresses in it are absolute, so neither the environment nor
/// the bases of this machine matter.
#[derive(Debug)]
pub struct Base {
    directory: TempDir,
}

impl Base {
    pub fn new() -> Self {
        let mut builder = tempfile::Builder::new();
        let directory = builder.prefix("parlour-test-").permissions(fs::Permissions::from_mode(0o700)).tempdir();
        Self { directory: directory.unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `fifo:/tmp/parlour-test-x/name`.
    pub fn address(&self, transport: Transport, name: &str) -> String {
        format!("{transport}:{}", self.name(name).display())
    }

    /// `/tmp/parlour-test-x/name`: the directory of a name, and its address without a transport.
    pub fn name(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Everything in here as sorted paths relative to the base, directories with a slash at the end.
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        list(self.path(), "", &mut files);
        files.sort();
        files
    }
}

fn list(directory: &Path, prefix: &str, files: &mut Vec<String>) {
    // What goes while we look is not there.
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let shown = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let shown = format!("{shown}/");
            list(&entry.path(), &shown, files);
            files.push(shown);
        } else {
            files.push(shown);
        }
    }
}
