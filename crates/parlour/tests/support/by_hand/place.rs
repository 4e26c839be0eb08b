//! The directory of a name, created without the library.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::lock;
use crate::support::Base;
use crate::support::base::leaves_files;

/// A name whose directory, `c/` and `lock` were created with the system calls of a server. Nothing listens on it.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    lock: Option<File>,
}

impl Place {
    /// Creates the directory and takes its lock.
    pub fn held(base: &Base, name: &str) -> Self {
        Self::held_at(&base.name(name))
    }

    pub fn held_at(path: &Path) -> Self {
        let mut place = Self::dead_at(path);
        let lock = File::options().read(true).write(true).open(path.join("lock")).unwrap();
        assert!(lock::take(&lock));
        place.lock = Some(lock);
        place
    }

    /// Creates the directory without taking its lock, as if the server had died.
    pub fn dead_at(path: &Path) -> Self {
        leaves_files();
        for directory in [path, &path.join("c")] {
            fs::create_dir(directory).unwrap();
            fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
        }
        File::create(path.join("lock")).unwrap();
        fs::set_permissions(path.join("lock"), Permissions::from_mode(0o600)).unwrap();
        Self { path: path.to_owned(), lock: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn clients(&self) -> PathBuf {
        self.path.join("c")
    }

    /// Releases the lock, as the kernel does when a process dies.
    pub fn die(&mut self) {
        self.lock = None;
    }
}

/// Returns the sorted names in a directory.
pub fn list(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Returns the sorted names in the `c/` of a name. A server that ends removes the directory.
pub fn client_files(name_directory: &Path) -> Vec<String> {
    let clients = name_directory.join("c");
    if clients.exists() { list(&clients) } else { Vec::new() }
}

/// Returns the permission bits of a file without following symbolic links.
pub fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode()
        & 0o7777
}

pub fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}
