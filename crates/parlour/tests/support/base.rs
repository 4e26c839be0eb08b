//! A temporary directory of names for one test.

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

/// Set when a process of this trial could not clean up after itself.
static LEAVES_FILES: AtomicBool = AtomicBool::new(false);

/// Allows files in the bases of this trial to be left over for the next server to remove. Called when a process is
/// killed or a test creates files itself.
pub fn leaves_files() {
    LEAVES_FILES.store(true, Ordering::Relaxed);
}

/// A private base directory (0700), removed at the end. Addresses in it are absolute, so neither the environment nor
/// the bases of this machine matter.
///
/// At the end of the trial all servers and clients have gone, and with them all names. If a process [was
/// killed](leaves_files), this must hold after another server has taken and released the name. It must also hold then
/// for a name that consists of its directory with an empty `c/` and the lock, which remain if a client creates a file
/// while the server ends.
#[derive(Debug)]
pub struct Base {
    directory: Option<TempDir>,
    is_checked: bool,
    /// Files of the test in the directories of names. No server may remove them.
    foreign: Mutex<Vec<PathBuf>>,
}

impl Base {
    pub fn new() -> Self {
        let mut builder = tempfile::Builder::new();
        let directory = builder.prefix("parlour-test-").permissions(fs::Permissions::from_mode(0o700)).tempdir();
        Self { directory: Some(directory.unwrap()), is_checked: true, foreign: Mutex::default() }
    }

    /// Creates a base that is not checked at the end, for a test that puts foreign files there and checks them itself.
    pub fn with_foreign_files() -> Self {
        let mut base = Self::new();
        base.is_checked = false;
        base
    }

    pub fn path(&self) -> &Path {
        self.directory.as_ref().unwrap().path()
    }

    /// Returns an address like `fifo:/tmp/parlour-test-x/name`.
    pub fn address(&self, transport: Transport, name: &str) -> String {
        format!("{transport}:{}", self.name(name).display())
    }

    /// Returns the directory of a name, like `/tmp/parlour-test-x/name`, which is also its address without a
    /// transport.
    pub fn name(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Returns all files in the base as sorted relative paths; directories end in a slash.
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        list(self.path(), "", &mut files);
        files.sort();
        files
    }

    /// Registers a file that the test has put into the directory of a name. It must exist at the end.
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
        // At the end of the trial all servers and clients are gone, in whatever order they were dropped.
        alone::at_end(move || assert_clean(directory.path(), foreign));
    }
}

/// Panics if a name is left in this directory. See [`Base`].
fn assert_clean(directory: &Path, foreign: Vec<PathBuf>) {
    for path in foreign.into_iter().rev() {
        let removed = if path.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) };
        removed.unwrap_or_else(|error| panic!("{} should have been left alone: {error}", path.display()));
    }
    let mut names = Vec::new();
    find_names(directory, &mut names);
    for name in names {
        let mut left = files_of(&name);
        if !LEAVES_FILES.load(Ordering::Relaxed) {
            // A client that gave up may still be about to remove its file.
            let is_clean = eventually_some(|| {
                left = files_of(&name);
                (left.is_empty() || left == ["c/", "lock"]).then_some(())
            });
            assert!(is_clean.is_some(), "files are left in {}: {left:?}", name.display());
        }
        if !name.exists() || !serve_once(&name) {
            continue;
        }
        left = files_of(&name);
        assert!(!name.exists(), "files are left in {}: {left:?}", name.display());
    }
}

/// Binds and closes a server of this name over every transport. Returns `false` if a file of the test makes that fail.
fn serve_once(name: &Path) -> bool {
    let options = ServerOptions::new().transports(Transport::ALL.iter().copied());
    // The kernel may release the lock of a killed process with a delay.
    let bound = eventually_some(|| match options.bind(name.to_str().unwrap()) {
        Err(error) if error.kind() == ErrorKind::NameInUse => None,
        bound => Some(bound),
    });
    match bound.unwrap_or_else(|| panic!("the name {} is still held", name.display())) {
        Ok(server) => server.close().unwrap(),
        Err(error) if error.kind() == ErrorKind::UnsafeDirectory => return false,
        Err(error) => panic!("bind after the trial: {error}"),
    }
    true
}

/// Collects the directories of names below this directory. A directory is one if it has a lock.
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
    // A file that is removed during the walk is ignored.
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
