//! Opening directories that other users cannot tamper with.
//!
//! A path is opened component by component. No symbolic link is followed. In every directory on the way only root and
//! this user may be able to rename entries. A directory that does not pass these checks is an error that names its
//! path, owner and mode. It is never repaired.
//!
//! As far as nobody else can create entries either, a path leads to the same directories as the descriptors would. So
//! these components are checked by their paths from the top down, and opened with one call.
//!
//! In a user namespace that does not map root, `/` and the directories of the system belong to an unmapped user, and so
//! do those of every other user. They look alike, so the rule for them is [`Above`].

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, StatxAttributes, StatxFlags, chmodat, fstat, mkdirat,
    openat, openat2, statat, statx,
};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::escape::escaped;
use crate::sys::id_maps::{IdKind, is_known, is_unmapped_uid};
use crate::sys::proc_fd;

const OPERATION: Operation = Operation::OpenDirectory;

/// The users whose directories are safe to walk through: root, this user, and a user that the caller named.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    uids: Vec<u32>,
}

impl Trust {
    /// Trusts root and the effective user of this process.
    pub(crate) fn own() -> Self {
        Self { uids: vec![0, rustix::process::geteuid().as_raw()] }
    }

    /// Trusts the effective user of this process alone, for what a server creates itself. A directory of root does not
    /// pass.
    pub(crate) fn only_self() -> Self {
        Self::only(rustix::process::geteuid().as_raw())
    }

    /// Trusts one user alone.
    fn only(uid: u32) -> Self {
        Self { uids: vec![uid] }
    }

    /// Adds a user.
    pub(crate) fn and(mut self, uid: Option<u32>) -> Self {
        self.uids.extend(uid);
        self
    }

    /// Returns true if this is a trusted user. A user that this user namespace does not map is none, also if the user
    /// of this process is not mapped: both have the same id here.
    pub(crate) fn includes(&self, uid: u32) -> bool {
        self.uids.contains(&uid) && is_known(uid, IdKind::User)
    }
}

/// The users who can replace the next directory of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Above {
    /// Users that this user namespace does not map. Nobody else may write to any directory so far, so they are root,
    /// or users to whom root has given a directory. The next directory may belong to such a user as well.
    Unmapped,
    /// Every user may have created the next directory: the last one is sticky, such as `/tmp`, and its owner is not
    /// mapped. The next directory must belong to a trusted user, whom no other user can impersonate.
    UnmappedSticky,
    /// A trusted user. From here on, every directory must belong to one.
    Trusted,
}

/// The object at the end of a path.
pub(crate) enum Opened {
    /// A directory that passed the checks, opened with `O_PATH`.
    Directory(OwnedFd),
    /// Nothing. The parent directory exists and passed the checks.
    Missing { parent: OwnedFd },
    /// Nothing. The directory `missing`, further up the path, does not exist either.
    NoParent { missing: PathBuf },
}

/// Opens `path`, which must be absolute, and checks each component on the way.
///
/// # Errors
///
/// - [`ErrorKind::UnsafeDirectory`]: a component has an owner, a mode or a type that does not pass. The last component
///   must belong to a trusted user.
/// - [`ErrorKind::Denied`]: this process may not search a directory on the way.
pub(crate) fn open(path: &Path, trust: &Trust) -> Result<Opened> {
    open_behind(open_beginning(path, trust), path, trust)
}

/// Opens a path of which a beginning was opened, if there is one.
fn open_behind(beginning: Option<(PathBuf, OwnedFd)>, path: &Path, trust: &Trust) -> Result<Opened> {
    let (mut walked, mut directory, above) = match beginning {
        Some((beginning, directory)) => (beginning, directory, Above::Trusted),
        None => {
            let root = openat(CWD, "/", DIRECTORY_PATH, Mode::empty());
            (PathBuf::from("/"), root.map_err(|errno| Error::io(OPERATION, "/", errno))?, Above::Unmapped)
        }
    };
    let mut above = check(&walked, &fstat_of(&directory, &walked)?, trust, above)?;
    let mut parts = path.components().skip(walked.components().count()).peekable();
    while let Some(part) = parts.next() {
        walked.push(part);
        let next = match openat(&directory, part.as_os_str(), DIRECTORY_PATH, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT) if parts.peek().is_none() => return Ok(Opened::Missing { parent: directory }),
            Err(Errno::NOENT) => return Ok(Opened::NoParent { missing: walked }),
            Err(Errno::ACCESS) => return Err(not_searchable(&directory, &walked)),
            Err(errno) => return Err(not_a_directory(&directory, part.as_os_str(), &walked, errno)),
        };
        above = check(&walked, &fstat_of(&next, &walked)?, trust, above)?;
        directory = next;
    }
    match above {
        Above::Trusted => Ok(Opened::Directory(directory)),
        Above::Unmapped | Above::UnmappedSticky => Err(anothers(&walked, &fstat_of(&directory, &walked)?)),
    }
}

/// Opens the longest beginning of an absolute path that is safe to look up at once: in each of its directories but the
/// last one, nobody but trusted users can create, rename or remove entries. Returns the path and its directory, or
/// `None` if there is no such beginning, or if the system cannot open it so.
fn open_beginning(path: &Path, trust: &Trust) -> Option<(PathBuf, OwnedFd)> {
    let bytes = path.as_os_str().as_bytes();
    let up_to = |end| Path::new(OsStr::from_bytes(&bytes[..end]));
    // The root comes first.
    let (mut end, mut next) = (0, usize::from(path.is_absolute()));
    while end < bytes.len() && next > end {
        let walked = up_to(next);
        // A failure, or a file that does not pass, is found again and reported when this component is opened.
        let Some((uid, mode)) = owner_and_mode_at(walked) else { break };
        let is_directory = FileType::from_raw_mode(mode) == FileType::Directory;
        let others_may_write = mode & 0o022 != 0;
        if !is_directory || !trust.includes(uid) || (others_may_write && mode & 0o1000 == 0) {
            break;
        }
        end = next;
        if others_may_write {
            break;
        }
        let behind = bytes.get(end + 1..).unwrap_or_default();
        next = behind.iter().position(|&byte| byte == b'/').map_or(bytes.len(), |at| end + 1 + at);
    }
    let beginning = up_to(end);
    let directory = openat2(CWD, beginning, DIRECTORY_PATH, Mode::empty(), ResolveFlags::NO_SYMLINKS).ok()?;
    Some((beginning.to_owned(), directory))
}

/// Returns the owner and the mode of the file that opening this path finds. stat(2) would show a directory that waits
/// to be mounted over, while openat2(2) mounts. So does statx(2).
fn owner_and_mode_at(path: &Path) -> Option<(u32, u32)> {
    let wanted = StatxFlags::TYPE | StatxFlags::MODE | StatxFlags::UID;
    let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, wanted).ok()?;
    let is_found = StatxFlags::from_bits_retain(found.stx_mask).contains(wanted);
    let is_known = found.stx_attributes_mask.contains(StatxAttributes::AUTOMOUNT);
    let is_final = is_known && !found.stx_attributes.contains(StatxAttributes::AUTOMOUNT);
    (is_found && is_final).then_some((found.stx_uid, found.stx_mode.into()))
}

const DIRECTORY_PATH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn fstat_of(directory: &OwnedFd, path: &Path) -> Result<Stat> {
    fstat(directory).map_err(|errno| Error::io(OPERATION, path.display().to_string(), errno))
}

/// Checks that no user but root, trusted users and those that `above` allows can rename entries of this directory.
/// Returns the users who can replace the next directory.
fn check(path: &Path, stat: &Stat, trust: &Trust, above: Above) -> Result<Above> {
    let is_trusted = trust.includes(stat.st_uid);
    let may_be_unmapped = above == Above::Unmapped && is_unmapped_uid(stat.st_uid);
    if !is_trusted && !may_be_unmapped {
        return Err(anothers(path, stat));
    }
    let others_may_write = stat.st_mode & 0o022 != 0;
    if others_may_write && stat.st_mode & 0o1000 == 0 {
        let detail = format!("other users may write to it ({})", owner_and_mode(stat));
        return Err(Error::new(ErrorKind::UnsafeDirectory, OPERATION, path.display().to_string(), detail)
            .next(format!("run chmod go-w {}, if no other user needs write access", path.display())));
    }
    Ok(match (is_trusted, others_may_write) {
        (true, _) => Above::Trusted,
        (false, true) => Above::UnmappedSticky,
        (false, false) => Above::Unmapped,
    })
}

/// Returns the error for a directory of a user who is not trusted.
fn anothers(path: &Path, stat: &Stat) -> Error {
    let is_this_user = stat.st_uid == rustix::process::geteuid().as_raw();
    let (why, step) = match (is_known(stat.st_uid, IdKind::User), is_this_user) {
        (true, _) => (
            "it belongs to another user, who could replace its entries",
            format!(
                "use a directory of your own ($PARLOUR_DIR), or let the client expect that user (option server_uid, \
                 --server-uid {})",
                stat.st_uid
            ),
        ),
        (false, false) => (
            "it belongs to a user without an id in this user namespace, who could replace its entries",
            "use a directory of your own ($PARLOUR_DIR), or map its owner into the namespace".to_owned(),
        ),
        (false, true) => (
            "the user of this process has the id of all unknown users in this user namespace, so its directories cannot be \
             told from theirs",
            "give the user another id in the namespace (newuidmap, unshare --map-current-user)".to_owned(),
        ),
    };
    let detail = format!("{why} ({})", owner_and_mode(stat));
    Error::new(ErrorKind::UnsafeDirectory, OPERATION, path.display().to_string(), detail).next(step)
}

/// Returns the error for a path component that this process may not look up in its parent directory.
fn not_searchable(parent: impl AsFd, path: &Path) -> Error {
    denied(OPERATION, path, "this process may not search the directory above it", fstat(parent).ok())
}

/// Returns the error for a directory whose owner and mode deny an operation.
fn denied(operation: Operation, path: &Path, reason: &str, stat: Option<Stat>) -> Error {
    let detail = match stat {
        Some(stat) => format!("{reason} ({})", owner_and_mode(&stat)),
        None => reason.to_owned(),
    };
    Error::new(ErrorKind::Denied, operation, path.display().to_string(), detail)
        .because(Errno::ACCESS)
        .next("ask its owner for access, or use another base directory ($PARLOUR_DIR)")
}

pub(crate) fn owner_and_mode(stat: &Stat) -> String {
    format!("owner uid {}, mode {:04o}", stat.st_uid, stat.st_mode & 0o7777)
}

/// Returns the error for a path component that could not be opened as a directory. Names the type of the file there.
fn not_a_directory(parent: &OwnedFd, part: &OsStr, path: &Path, errno: Errno) -> Error {
    let shown = path.display().to_string();
    let found = match errno {
        Errno::NOTDIR | Errno::LOOP => statat(parent, part, AtFlags::SYMLINK_NOFOLLOW).ok(),
        _ => None,
    };
    let Some(stat) = found else { return Error::io(OPERATION, shown, errno) };
    let detail = format!("expected a directory, found a {}", describe_file(&stat));
    let step = match std::fs::read_link(path) {
        Ok(target) => format!("use the real path, without symbolic links (this one points to {})", escaped(&target)),
        Err(_) => "use another directory, or remove that file".to_owned(),
    };
    Error::new(ErrorKind::UnsafeDirectory, OPERATION, shown, detail).next(step)
}

/// Describes the type, owner and mode of a file, for error messages about a file of an unexpected type.
pub(crate) fn describe_file(stat: &Stat) -> String {
    format!("{} ({})", describe(FileType::from_raw_mode(stat.st_mode)), owner_and_mode(stat))
}

/// Returns the name of a file type, for people.
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

/// Creates the directory `name` in `parent` with exactly this mode, whatever the umask. Does nothing if the directory
/// already exists. The directory may be removed again before this function returns; the caller notices when it opens
/// it.
pub(crate) fn make(parent: impl AsFd, name: &OsStr, mode: Mode, path: &Path) -> Result<()> {
    let failed = |errno: Errno| Error::io(Operation::CreateDirectory, path.display().to_string(), errno);
    match mkdirat(&parent, name, mode) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(Errno::ACCESS) => {
            let reason = "this process may not write to the directory above it";
            return Err(denied(Operation::CreateDirectory, path, reason, fstat(&parent).ok()));
        }
        Err(errno) => return Err(failed(errno)),
    }
    // The new directory belongs to this process. The umask may have cleared bits, even those that this process needs to
    // open it. A directory that has all of its bits stays as it is: by now another server of this user may have changed
    // it.
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

/// For a directory that is to be listed, locked or changed.
const DIRECTORY_READ: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a directory for listing, inside a directory that passed the checks. Returns `Ok(None)` if it does not exist.
pub(crate) fn open_inside(parent: impl AsFd, name: &str, path: &Path) -> Result<Option<(OwnedFd, Stat)>> {
    open_inside_with(parent, name, path, DIRECTORY_READ)
}

/// Opens a directory with `O_PATH`, for one that this process may search but not list. Otherwise as [`open_inside`].
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
        Err(Errno::ACCESS) => {
            return Err(match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => denied(OPERATION, path, "this process may not read it", Some(stat)),
                Err(_) => not_searchable(&parent, path),
            });
        }
        Err(errno) => return Err(Error::io(OPERATION, path.display().to_string(), errno)),
    };
    let stat = fstat_of(&directory, path)?;
    Ok(Some((directory, stat)))
}

/// Checks that the directory of a name belongs to one of `owners`, and that no other user may write to it.
pub(crate) fn check_name(path: &Path, stat: &Stat, owners: &Trust) -> Result<()> {
    // Most often the last part of the address was meant as the base: `unix:/tmp` names `tmp` in the base `/`.
    check_owner(path, stat, owners, || {
        format!(
            "use another name or another base directory ($PARLOUR_DIR); if {0} is to be the base, add a name to the \
             address ({0}/NAME)",
            path.display()
        )
    })
}

/// Checks that the directory of the clients' files belongs to the user of this process, and that no other user may
/// write to it.
pub(crate) fn check_clients(path: &Path, stat: &Stat) -> Result<()> {
    check_clients_of(path, stat, rustix::process::geteuid().as_raw())
}

/// Checks that the directory of the clients' files belongs to the user of the server, and that no other user may write
/// to it.
pub(crate) fn check_clients_of(path: &Path, stat: &Stat, server_uid: u32) -> Result<()> {
    check_owner(path, stat, &Trust::only(server_uid), || "find out which process changed it, then remove it".to_owned())
}

fn check_owner(path: &Path, stat: &Stat, owners: &Trust, step: impl FnOnce() -> String) -> Result<()> {
    let why = if !owners.includes(stat.st_uid) {
        "it belongs to another user"
    } else if stat.st_mode & 0o022 != 0 {
        "other users may write to it"
    } else {
        return Ok(());
    };
    let detail = format!("{why} ({})", owner_and_mode(stat));
    Err(Error::new(ErrorKind::UnsafeDirectory, OPERATION, path.display().to_string(), detail).next(step()))
}

/// Returns a path through which a socket can be bound or connected to, however long its real path is (`sun_path` has
/// 108 bytes).
///
/// The real path is used if it fits, because tools that list sockets, and cleaners that spare live sockets, match by
/// it. It leads through directories that passed the checks, in which only root and this user can rename entries. A
/// longer path goes through `/proc` ([`proc_fd`]).
pub(crate) fn socket_path(directory: impl AsFd, real: &Path, file_name: &str) -> PathBuf {
    let path = real.join(file_name);
    if fits(&path) { path } else { proc_fd::path(directory).join(file_name) }
}

/// The maximum length of a path in the address of a socket, without the zero byte at its end.
const SOCKET_PATH_LEN_MAX: usize = 107;

fn fits(path: &Path) -> bool {
    path.as_os_str().as_bytes().len() <= SOCKET_PATH_LEN_MAX
}

/// Returns an error if the real path of a socket is too long for its address and `/proc` does not lead to its directory
/// either. Then [`socket_path`] leads nowhere.
pub(crate) fn check_reachable(directory: impl AsFd, real: &Path, file_name: &str, operation: Operation) -> Result<()> {
    let path = real.join(file_name);
    if fits(&path) || proc_fd::leads_to(directory) {
        return Ok(());
    }
    let detail = format!(
        "its path has more than {SOCKET_PATH_LEN_MAX} bytes, and such paths need /proc, which is missing or hides the \
         descriptors of this process"
    );
    Err(Error::new(ErrorKind::Unsupported, operation, path.display().to_string(), detail)
        .next("mount /proc, or use a base directory with a shorter path ($PARLOUR_DIR)"))
}

/// Removes a file from a directory that this process owns. Succeeds if the file does not exist.
pub(crate) fn remove(directory: impl AsFd, file_name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, file_name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The device and inode number of a file, which identify it under any name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }

    /// Returns the file that has this name now, if there is one.
    pub(crate) fn at(directory: impl AsFd, file_name: &str) -> Option<Self> {
        statat(directory, file_name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| Self::of(&stat))
    }

    /// Returns true if `looked`, the result of stat on a name, shows this file. Returns an error if the result does not
    /// decide that: the system call failed for a temporary reason.
    pub(crate) fn is_found(self, looked: Result<Stat, Errno>) -> Result<bool, Errno> {
        match looked {
            Ok(stat) => Ok(Self::of(&stat) == self),
            Err(errno @ (Errno::NOMEM | Errno::IO | Errno::INTR)) => Err(errno),
            Err(_) => Ok(false),
        }
    }

    /// Does the same for a name in a directory. See [`is_found`](Self::is_found).
    pub(crate) fn is_at(self, directory: impl AsFd, file_name: &str) -> Result<bool, Errno> {
        self.is_found(statat(directory, file_name, AtFlags::SYMLINK_NOFOLLOW))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn an_inconclusive_stat_is_an_error() {
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

    /// Describes what a path leads to.
    fn found(opened: Result<Opened>) -> String {
        let id = |directory| FileId::of(&fstat(directory).unwrap());
        match opened {
            Ok(Opened::Directory(directory)) => format!("{:?}", id(directory)),
            Ok(Opened::Missing { parent }) => format!("nothing in {:?}", id(parent)),
            Ok(Opened::NoParent { missing }) => format!("no {}", missing.display()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_beginning_that_is_opened_at_once_changes_no_result() {
        // Beside this program usually nobody else can create files, and in the other directory everybody can.
        let program = std::env::current_exe().unwrap();
        for within in [program.parent().unwrap(), &std::env::temp_dir()] {
            let top = tempfile::tempdir_in(within).unwrap();
            let at = |path: &str| top.path().join(path);
            for (name, mode) in [("own", 0o755), ("shared", 0o777), ("group", 0o770), ("sticky", 0o1777)] {
                std::fs::create_dir_all(at(name).join("base/deeper")).unwrap();
                chmod(&at(name), mode);
            }
            symlink("own", at("link")).unwrap();
            std::fs::write(at("file"), "").unwrap();
            for name in ["own", "shared", "group", "sticky", "link", "file", "none"] {
                for rest in ["", "base", "base/deeper", "base/none", "base/none/deeper", "../own/base"] {
                    let path = at(name).join(rest);
                    let trust = Trust::own();
                    let stepwise = found(open_behind(None, &path, &trust));
                    assert_eq!(found(open(&path, &trust)), stepwise, "{}", path.display());
                    if let Some((beginning, _)) = open_beginning(&path, &trust) {
                        assert!(!beginning.starts_with(at("link")) && !beginning.starts_with(at("shared/base")));
                        assert!(!beginning.starts_with(at("sticky/base")), "everybody can create entries above it");
                    }
                }
            }
        }
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
        assert!(socket_path(&directory, &long, "unix").starts_with("/proc/thread-self/fd"));
        assert!(check_reachable(&directory, &long, "unix", OPERATION).is_ok());
    }
}
