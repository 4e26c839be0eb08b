//! Opening directories so that nobody else can interfere, or not at all.
//!
//! A path is opened component by component, no symbolic link is followed, and every directory on the way must be one in
//! which only root and we can rename things. What does not pass is an error that names the path, the owner and the
//! mode; it is never repaired.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, chmodat, fstat, mkdirat, openat, statat};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};

const OPERATION: &str = "use the directory";

/// Whose directories are safe to walk through: root's, our own, and those of a user that the caller named.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    uids: Vec<u32>,
}

impl Trust {
    pub(crate) fn own() -> Self {
        Self { uids: vec![0, rustix::process::geteuid().as_raw()] }
    }

    /// For what a server makes its own: not even root's will do.
    pub(crate) fn only_self() -> Self {
        Self { uids: vec![rustix::process::geteuid().as_raw()] }
    }

    pub(crate) fn and(mut self, uid: Option<u32>) -> Self {
        self.uids.extend(uid);
        self
    }

    pub(crate) fn includes(&self, uid: u32) -> bool {
        self.uids.contains(&uid)
    }
}

/// What stands at the end of a path.
pub(crate) enum Opened {
    /// A directory that passed the checks, opened `O_PATH`.
    Directory(OwnedFd),
    /// Nothing yet, in a parent that passed them.
    Missing { parent: OwnedFd },
    /// Not even the parent is there.
    NoParent { missing: PathBuf },
}

/// Opens `path`, which must be absolute, checking each component on the way.
///
/// # Errors
///
/// [`ErrorKind::UnsafeDirectory`] for an owner, a mode or a type that does not pass; [`ErrorKind::Denied`] where we may
/// not look.
pub(crate) fn open(path: &Path, trust: &Trust) -> Result<Opened> {
    let mut walked = PathBuf::from("/");
    let mut directory =
        openat(CWD, "/", DIRECTORY_PATH, Mode::empty()).map_err(|errno| Error::io(OPERATION, "/", errno))?;
    check(&walked, &fstat_of(&directory, &walked)?, trust)?;
    let mut parts = path.components().filter(|part| *part != Component::RootDir).peekable();
    while let Some(part) = parts.next() {
        walked.push(part);
        let next = match openat(&directory, part.as_os_str(), DIRECTORY_PATH, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT) if parts.peek().is_none() => return Ok(Opened::Missing { parent: directory }),
            Err(Errno::NOENT) => return Ok(Opened::NoParent { missing: walked }),
            Err(errno) => return Err(not_a_directory(&directory, part.as_os_str(), &walked, errno)),
        };
        check(&walked, &fstat_of(&next, &walked)?, trust)?;
        directory = next;
    }
    Ok(Opened::Directory(directory))
}

const DIRECTORY_PATH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn fstat_of(directory: &OwnedFd, path: &Path) -> Result<Stat> {
    fstat(directory).map_err(|errno| Error::io(OPERATION, path.display().to_string(), errno))
}

/// Only root and the trusted may be able to rename what is in this directory.
fn check(path: &Path, stat: &Stat, trust: &Trust) -> Result<()> {
    let mode = stat.st_mode & 0o7777;
    let unsafe_because = |why: &str, step: String| {
        let detail = format!("{why} (owner uid {}, mode {mode:04o})", stat.st_uid);
        Err(Error::new(ErrorKind::UnsafeDirectory, OPERATION, path.display().to_string(), detail).next(step))
    };
    if !trust.includes(stat.st_uid) {
        return unsafe_because(
            "it belongs to another user, who could replace what is in it",
            "use a directory of your own ($PARLOUR_DIR), or name that user as the one to trust".to_owned(),
        );
    }
    let sticky = mode & 0o1000 != 0;
    if mode & 0o022 != 0 && !sticky {
        return unsafe_because(
            "others may write to it",
            format!("chmod go-w {} if nobody else needs that", path.display()),
        );
    }
    Ok(())
}

/// Says what stands where a directory should be.
fn not_a_directory(parent: &OwnedFd, part: &OsStr, path: &Path, errno: Errno) -> Error {
    let shown = path.display().to_string();
    let found = match errno {
        Errno::NOTDIR | Errno::LOOP => statat(parent, part, AtFlags::SYMLINK_NOFOLLOW).ok(),
        _ => None,
    };
    let Some(stat) = found else { return Error::io(OPERATION, shown, errno) };
    let detail = format!("not a directory but a {}", describe_file(&stat));
    let step = match std::fs::read_link(path) {
        Ok(target) => format!("give the real path, without links (it points to {})", target.display()),
        Err(_) => "give another directory, or remove that file".to_owned(),
    };
    Error::new(ErrorKind::UnsafeDirectory, OPERATION, shown, detail).next(step)
}

/// What a file is, whose and with which mode, for messages about one that should be something else.
pub(crate) fn describe_file(stat: &Stat) -> String {
    let kind = describe(FileType::from_raw_mode(stat.st_mode));
    format!("{kind} (owner uid {}, mode {:04o})", stat.st_uid, stat.st_mode & 0o7777)
}

/// A file type in a person's words.
pub(crate) fn describe(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "regular file",
        FileType::Directory => "directory",
        FileType::Symlink => "symbolic link",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => "file of an unknown type",
    }
}

/// Makes `name` in `parent` with exactly this mode, whatever the umask; that it exists already is fine and leaves it as it
/// is. It may be gone again when this returns: whoever opens it next finds out.
pub(crate) fn make(parent: impl AsFd, name: &OsStr, mode: Mode, path: &Path) -> Result<()> {
    let failed = |errno: Errno| Error::io("make the directory", path.display().to_string(), errno);
    match mkdirat(&parent, name, mode & Mode::RWXU) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(errno) => return Err(failed(errno)),
    }
    // It is new and ours. The umask may have taken bits away, even those that would let us open it, and the bits for others
    // come only now. What has all of its bits stays as it is: by now it may be in the hands of another server of ours.
    let wanted = mode.bits();
    match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if stat.st_mode & wanted == wanted => Ok(()),
        Ok(_) => match chmodat(&parent, name, mode, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed(errno)),
        },
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed(errno)),
    }
}

/// For a directory that is to be listed, locked or changed, and not only walked through.
const DIRECTORY_READ: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a directory inside one that passed the checks, for listing; `Ok(None)` when it is not there.
pub(crate) fn open_inside(parent: impl AsFd, name: &str, path: &Path) -> Result<Option<(OwnedFd, Stat)>> {
    open_inside_with(parent, name, path, DIRECTORY_READ)
}

/// The same for a directory that we may only walk through.
pub(crate) fn walk_inside(parent: impl AsFd, name: &str, path: &Path) -> Result<Option<(OwnedFd, Stat)>> {
    open_inside_with(parent, name, path, DIRECTORY_PATH)
}

fn open_inside_with(parent: impl AsFd, name: &str, path: &Path, flags: OFlags) -> Result<Option<(OwnedFd, Stat)>> {
    let directory = match openat(&parent, name, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno @ (Errno::NOTDIR | Errno::LOOP)) => {
            let parent = parent
                .as_fd()
                .try_clone_to_owned()
                .map_err(|error| Error::io(OPERATION, path.display().to_string(), error))?;
            return Err(not_a_directory(&parent, name.as_ref(), path, errno));
        }
        Err(errno) => return Err(Error::io(OPERATION, path.display().to_string(), errno)),
    };
    let stat = fstat_of(&directory, path)?;
    Ok(Some((directory, stat)))
}

/// The directory of a name, or the one in it for clients: ours alone to write.
pub(crate) fn check_ours(path: &Path, stat: &Stat, owners: &Trust) -> Result<()> {
    let mode = stat.st_mode & 0o7777;
    let why = if !owners.includes(stat.st_uid) {
        "it belongs to another user"
    } else if mode & 0o022 != 0 {
        "others may write to it"
    } else {
        return Ok(());
    };
    let detail = format!("{why} (owner uid {}, mode {mode:04o})", stat.st_uid);
    Err(Error::new(ErrorKind::UnsafeDirectory, OPERATION, path.display().to_string(), detail)
        .next("have its owner remove it, or use another base directory ($PARLOUR_DIR)"))
}

/// A path through which a socket can be bound or reached however long the real one is (`sun_path` has 108 bytes).
///
/// The real path is used where it fits, because tools that list sockets, and cleaners that spare live ones, go by it.
/// It leads through directories that passed the checks, in which only root and we can rename.
pub(crate) fn socket_path(directory: impl AsFd, real: &Path, file_name: &str) -> PathBuf {
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    const SUN_PATH_LEN: usize = 108;
    let path = real.join(file_name);
    if path.as_os_str().as_bytes().len() < SUN_PATH_LEN {
        return path;
    }
    Path::new("/proc/self/fd").join(directory.as_fd().as_raw_fd().to_string()).join(file_name)
}

/// Removes a file in a directory of ours; that it is gone already is fine.
pub(crate) fn remove(directory: impl AsFd, file_name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, file_name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Device and inode: which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }

    /// Which file has this name now, if any.
    pub(crate) fn at(directory: impl AsFd, file_name: &str) -> Option<Self> {
        statat(directory, file_name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| Self::of(&stat))
    }

    /// Whether it is this file that has a name now, by what looking at the name has brought. An error: that cannot be said at
    /// present.
    pub(crate) fn is_found(self, looked: Result<Stat, Errno>) -> Result<bool, Errno> {
        match looked {
            Ok(stat) => Ok(Self::of(&stat) == self),
            Err(errno @ (Errno::NOMEM | Errno::IO | Errno::INTR)) => Err(errno),
            Err(_) => Ok(false),
        }
    }

    /// [`is_found`](Self::is_found) of a name in a directory.
    pub(crate) fn is_at(self, directory: impl AsFd, file_name: &str) -> Result<bool, Errno> {
        self.is_found(statat(directory, file_name, AtFlags::SYMLINK_NOFOLLOW))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_file_that_cannot_be_looked_at_is_neither_there_nor_gone() {
        let stat = |path: &str| rustix::fs::lstat(path);
        let id = FileId::of(&stat("/proc").unwrap());
        assert_eq!(id.is_found(stat("/proc")), Ok(true));
        assert_eq!(id.is_found(stat("/")), Ok(false));
        assert_eq!(id.is_found(stat("/no such file")), Ok(false));
        for errno in [Errno::NOMEM, Errno::IO, Errno::INTR] {
            assert_eq!(id.is_found(Err(errno)), Err(errno));
        }
    }

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn error_of(path: &Path) -> Error {
        match open(path, &Trust::own()) {
            Err(error) => error,
            Ok(_) => panic!("{} was accepted", path.display()),
        }
    }

    #[test]
    fn a_directory_of_our_own_passes() {
        let top = tempfile::tempdir().unwrap();
        assert!(matches!(open(top.path(), &Trust::own()), Ok(Opened::Directory(_))));
        assert!(matches!(open(&top.path().join("x"), &Trust::own()), Ok(Opened::Missing { .. })));
        let Ok(Opened::NoParent { missing }) = open(&top.path().join("x/y"), &Trust::own()) else {
            panic!("there is no parent")
        };
        assert_eq!(missing, top.path().join("x"));
    }

    #[test]
    fn a_symbolic_link_on_the_way_is_refused_and_its_target_named() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir(top.path().join("real")).unwrap();
        symlink("real", top.path().join("link")).unwrap();
        let error = error_of(&top.path().join("link/base"));
        assert_eq!(error.kind(), ErrorKind::UnsafeDirectory);
        assert!(error.to_string().contains("symbolic link"), "{error}");
        assert!(error.to_string().contains("real"), "{error}");
    }

    #[test]
    fn a_parent_that_others_may_write_is_refused_unless_sticky() {
        let top = tempfile::tempdir().unwrap();
        let parent = top.path().join("parent");
        std::fs::create_dir_all(parent.join("base")).unwrap();
        for mode in [0o777, 0o770, 0o707] {
            chmod(&parent, mode);
            let error = error_of(&parent.join("base"));
            assert_eq!(error.kind(), ErrorKind::UnsafeDirectory);
            let text = error.to_string();
            assert!(text.contains(&format!("{mode:04o}")) && text.contains("chmod go-w"), "{text}");
        }
        chmod(&parent, 0o1777);
        assert!(open(&parent.join("base"), &Trust::own()).is_ok());
    }

    #[test]
    fn a_file_in_the_place_of_a_directory_is_named_as_what_it_is() {
        let top = tempfile::tempdir().unwrap();
        std::fs::write(top.path().join("base"), "x").unwrap();
        let text = error_of(&top.path().join("base")).to_string();
        assert!(text.contains("regular file"), "{text}");
    }

    #[test]
    fn long_paths_go_through_the_descriptor() {
        let top = tempfile::tempdir().unwrap();
        let directory = std::fs::File::open(top.path()).unwrap();
        assert_eq!(socket_path(&directory, top.path(), "unix"), top.path().join("unix"));
        let long = top.path().join("d".repeat(100));
        assert!(socket_path(&directory, &long, "unix").starts_with("/proc/self/fd"));
    }
}
