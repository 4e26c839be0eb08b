//! Paths through `/proc` that lead to an open file, whatever its own path is.
//!
//! The descriptor table of the calling thread is used (`/proc/thread-self`), and not that of the main thread
//! (`/proc/self`): a thread may have a table of its own (unshare(2)), and the main thread may have ended.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{fstat, stat};

/// Returns the path that leads to the file of this descriptor, in the calling thread.
pub(crate) fn path(fd: impl AsFd) -> PathBuf {
    Path::new("/proc/thread-self/fd").join(fd.as_fd().as_raw_fd().to_string())
}

/// Returns true if [`path`] leads to the file. Returns false if `/proc` is not mounted, or if it hides the descriptors
/// of this process, as after a change of the user id.
pub(crate) fn leads_to(fd: impl AsFd) -> bool {
    match (stat(path(&fd)), fstat(&fd)) {
        (Ok(found), Ok(open)) => (found.st_dev, found.st_ino) == (open.st_dev, open.st_ino),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn the_path_leads_to_the_file_of_the_thread() {
        let file = tempfile::tempfile().unwrap();
        assert!(leads_to(&file));
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(leads_to(&file)));
        });
        assert_eq!(File::open(path(&file)).unwrap().metadata().unwrap().len(), 0);
    }
}
