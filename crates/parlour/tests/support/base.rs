//! A directory of names for one test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parlour::{ErrorKind, ServerOptions, Transport};
use tempfile::TempDir;

use super::alone;
use super::wait::eventually_some;

/// Whether somebody in this trial could not clear up after itself.
static LEAVES_FILES: AtomicBool = AtomicBool::new(false);

/// From now on files may be left in the bases of this trial, for the next server to remove: somebody was killed, or makes
/// files by hand.
pub fn leaves_files() {
    LEAVES_FILES.store(true, Ordering::Relaxed);
}

/// A private base directory (0700), removed at the end. Addresses in it are absolute, so neither the environment nor
/// the bases of this machine matter.
///
/// At the end of the trial everybody in it has gone, so of each name there must be its directory with an empty `c/` and
/// the lock, and nothing else. Where somebody [was killed](leaves_files) that must be so as soon as another server has
/// been there.
#[derive(Debug)]
pub struct Base {
    directory: Option<TempDir>,
    is_checked: bool,
    /// What nobody of ours has made, in the directories of names, and nobody may remove.
    foreign: Mutex<Vec<PathBuf>>,
}

impl Base {
    pub fn new() -> Self {
        let mut builder = tempfile::Builder::new();
        let directory = builder.prefix("parlour-test-").permissions(fs::Permissions::from_mode(0o700)).tempdir();
        Self { directory: Some(directory.unwrap()), is_checked: true, foreign: Mutex::default() }
    }

    /// For a test that puts files there which nobody may touch, and says itself what must stay.
    pub fn with_foreign_files() -> Self {
        let mut base = Self::new();
        base.is_checked = false;
        base
    }

    pub fn path(&self) -> &Path {
        self.directory.as_ref().unwrap().path()
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

    /// The test has put this into the directory of a name, and it must be there to the end.
    pub fn keeps(&self, path: &Path) {
        self.foreign.lock().unwrap().push(path.to_owned());
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        let directory = self.directory.take().unwrap();
        if thread::panicking() || !self.is_checked {
            return;
        }
        let foreign = std::mem::take(&mut *self.foreign.lock().unwrap());
        // When the trial is over everybody has gone, in whatever order.
        alone::at_end(move || assert_clean(directory.path(), foreign));
    }
}

/// Fails unless of each name in this directory there is what stays of it.
fn assert_clean(directory: &Path, foreign: Vec<PathBuf>) {
    for path in foreign.into_iter().rev() {
        let removed = if path.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) };
        removed.unwrap_or_else(|error| panic!("{} was to stay: {error}", path.display()));
    }
    let mut names = Vec::new();
    find_names(directory, &mut names);
    for name in names {
        if LEAVES_FILES.load(Ordering::Relaxed) && !serve_once(&name) {
            continue;
        }
        let mut left = files_of(&name);
        let clean = eventually_some(|| {
            left = files_of(&name);
            (left == ["c/", "lock"]).then_some(())
        });
        assert!(clean.is_some(), "files are left in {}: {left:?}", name.display());
    }
}

/// The next server of this name comes and goes, over every transport; `false` where the test has put something that keeps
/// it away.
fn serve_once(name: &Path) -> bool {
    let options = ServerOptions::new().transports(Transport::ALL.iter().copied());
    // A process that was killed may hold the name for another moment.
    let bound = eventually_some(|| match options.bind(name.to_str().unwrap()) {
        Err(error) if error.kind() == ErrorKind::NameInUse => None,
        bound => Some(bound),
    });
    match bound.unwrap_or_else(|| panic!("somebody still has the name {}", name.display())) {
        Ok(server) => server.close().unwrap(),
        Err(error) if error.kind() == ErrorKind::UnsafeDirectory => return false,
        Err(error) => panic!("when all have gone: {error}"),
    }
    true
}

/// The directories of names in this one. A name has had a server, or it has nothing.
fn find_names(directory: &Path, names: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    if directory.join("lock").is_file() {
        names.push(directory.to_owned());
    }
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find_names(&entry.path(), names);
        }
    }
}

fn files_of(name: &Path) -> Vec<String> {
    let mut files = Vec::new();
    list(name, "", &mut files);
    files.sort();
    files
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
