//! Snapshots of files, to check that a refused file was not changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// All attributes of a file except its access time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileState {
    id: (u64, u64),
    mode: u32,
    owner: (u32, u32),
    links: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    content: Option<Vec<u8>>,
    target: Option<PathBuf>,
}

/// Returns the state of one file without following symbolic links.
pub fn of(path: &Path) -> FileState {
    let metadata = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    FileState {
        id: (metadata.dev(), metadata.ino()),
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        links: metadata.nlink(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        content: metadata.is_file().then(|| fs::read(path).unwrap()),
        target: fs::read_link(path).ok(),
    }
}

/// Returns the states of a file or directory and of everything below it.
pub fn tree(path: &Path) -> BTreeMap<PathBuf, FileState> {
    let mut states = BTreeMap::from([(path.to_owned(), of(path))]);
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            states.extend(tree(&entry.unwrap().path()));
        }
    }
    states
}
