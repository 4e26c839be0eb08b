//! A name that a client keeps between connections, while nothing changes on the path to it.
//!
//! A search checks each directory on the path. What it finds stays true until the owner, the mode or the place of one
//! of these directories changes, and inotify(7) reports each such change before the call that makes it returns. So a
//! client watches the directories first, then searches, and needs no further search until a change is reported.
//!
//! Four things are asked for each connection: the events; the place where the path leads, because a mount is no event
//! and because a removed directory has no events while it is open; the owner and mode of directories of all users on
//! the path; and that no earlier base has the name by now. If any of that has changed, the client searches anew.
//!
//! A change that another machine makes in a file system of the network is not reported. There, only the directory of
//! the name itself is checked anew.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Stat, inotify, statat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::base;
use super::directory::{FileId, Trust};
use super::{Found, find};
use crate::address::Address;
use crate::sys::fork::Process;

/// The number of events that are read for one connection. More of them make it search.
const EVENTS_MAX: usize = 256;

/// The name that a client has found, and what the kernel must still say about it.
#[derive(Debug)]
pub(crate) struct Kept {
    found: Found,
    /// The directories of the name in the bases before, which did not exist.
    earlier: Vec<PathBuf>,
    /// The directories above in which every user can create files, such as `/tmp`.
    shared: Vec<Shared>,
    /// The effective user of this process, whom it trusts.
    uid: u32,
}

impl Kept {
    pub(crate) fn found(&self) -> &Found {
        &self.found
    }

    /// Returns true if the path leads to the same directory, if its owner and mode are the same, and if a search would
    /// not end in an earlier base. The directories on the way are watched.
    fn is_in_place(&self) -> bool {
        let now = statat(CWD, &self.found.path, AtFlags::SYMLINK_NOFOLLOW);
        let is_same = now.is_ok_and(|now| {
            let then = &self.found.stat;
            FileId::of(&now) == FileId::of(then) && (now.st_uid, now.st_mode) == (then.st_uid, then.st_mode)
        });
        let is_same = is_same && self.shared.iter().all(Shared::is_in_place);
        is_same && geteuid().as_raw() == self.uid && self.earlier.iter().all(|path| is_missing(path))
    }
}

/// A directory in which every user can create files. Changes of the attributes of its files would be reported with its
/// own, so its owner and mode are looked up for each connection instead.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    stat: Stat,
}

impl Shared {
    fn is_in_place(&self) -> bool {
        statat(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|now| {
            let then = &self.stat;
            FileId::of(&now) == FileId::of(then) && (now.st_uid, now.st_mode) == (then.st_uid, then.st_mode)
        })
    }
}

/// Returns the directories above a path in which every user can create files. Returns `None` if one does not exist.
fn shared_above(path: &Path) -> Option<Vec<Shared>> {
    const OTHERS_WRITE: u32 = 0o002;
    let mut shared = Vec::new();
    for above in path.ancestors().skip(1) {
        let stat = statat(CWD, above, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        if stat.st_mode & OTHERS_WRITE != 0 {
            shared.push(Shared { path: above.to_owned(), stat });
        }
    }
    Some(shared)
}

/// Keeps the name that a client has found, and finds out whether it must be searched for again.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// The process that created the instance of inotify(7). A forked child must not read the events of its parent.
    process: Process,
    /// `None` until it is needed, and while no instance is available.
    inotify: Option<OwnedFd>,
    /// The directories that are watched, from the root down. The last one is that of the name.
    watched: Vec<i32>,
    kept: Option<Arc<Kept>>,
}

impl Keeper {
    pub(crate) fn new() -> Self {
        Self { process: Process::current(), inotify: None, watched: Vec::new(), kept: None }
    }

    /// Returns the name if it is where the last search has found it, or where a new one finds it. Returns `None` if the
    /// name cannot be kept: it does not exist, a directory is unsafe or cannot be watched, or something changes at this
    /// moment. The caller then searches by itself, which finds the reason.
    pub(crate) fn get(&mut self, address: &Address, server_uid: Option<u32>) -> Option<Arc<Kept>> {
        if !self.process.is_current() {
            *self = Self::new();
        }
        let is_unchanged = !self.has_events();
        if let Some(kept) = self.kept.take().filter(|kept| is_unchanged && kept.is_in_place()) {
            return Some(Arc::clone(self.kept.insert(kept)));
        }
        self.kept = self.search(address, server_uid).map(Arc::new);
        self.kept.clone()
    }

    fn search(&mut self, address: &Address, server_uid: Option<u32>) -> Option<Kept> {
        self.unwatch();
        let trust = Trust::own().and(server_uid);
        let uid = geteuid().as_raw();
        let mut earlier = Vec::new();
        for candidate in base::candidates_for_client(address, server_uid).ok()? {
            let path = candidate.path.join(address.name());
            if is_missing(&path) {
                earlier.push(path);
                continue;
            }
            let shared = shared_above(&path)?;
            self.watched = self.watch(&path, &shared)?;
            let found = find(&candidate, address.name(), &trust).ok()??.keeping_entries();
            let kept = Kept { found, earlier, shared, uid };
            // The directories that were checked are those that are watched: the path still leads to them, and none was
            // moved in between.
            let again = self.watch(&path, &kept.shared)?;
            if let Some(inotify) = self.inotify.as_ref().filter(|_| again != self.watched) {
                let new: Vec<i32> = again.into_iter().filter(|number| !self.watched.contains(number)).collect();
                unwatch(inotify, &new);
                return None;
            }
            let is_watched = !self.has_events();
            return (is_watched && kept.is_in_place()).then_some(kept);
        }
        None
    }

    /// Watches the directories on an absolute path, from the root down. Returns their numbers. Returns `None` if one
    /// cannot be watched: inotify(7) needs the permission to list it.
    fn watch(&mut self, path: &Path, shared: &[Shared]) -> Option<Vec<i32>> {
        use inotify::WatchFlags as Watch;
        let inotify = match &self.inotify {
            Some(inotify) => inotify,
            None => {
                let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
                self.inotify.insert(inotify::init(flags).ok()?)
            }
        };
        let moves = Watch::MOVE_SELF | Watch::DELETE_SELF;
        let itself = Watch::ATTRIB | moves;
        let entries = Watch::CREATE | Watch::DELETE | Watch::MOVED_FROM | Watch::MOVED_TO;
        let how = Watch::ONLYDIR | Watch::DONT_FOLLOW | Watch::MASK_ADD;
        let mut directories: Vec<&Path> = path.ancestors().collect();
        directories.reverse();
        let mut numbers = Vec::with_capacity(directories.len());
        for directory in directories {
            let events = match directory == path {
                true => itself | entries,
                false if shared.iter().any(|shared| shared.path == directory) => moves,
                false => itself,
            };
            match inotify::add_watch(inotify, directory, events | how) {
                Ok(number) => numbers.push(number),
                Err(_) => {
                    unwatch(inotify, &numbers);
                    return None;
                }
            }
        }
        Some(numbers)
    }

    /// Ends all watches, and forgets their events. Keeps the instance, because closing one can take the kernel some
    /// milliseconds.
    fn unwatch(&mut self) {
        if let Some(inotify) = &self.inotify {
            unwatch(inotify, &self.watched);
        }
        self.watched.clear();
        self.has_events();
    }

    /// Returns true if a directory that is watched has changed since the last call: itself, or an entry of the one of
    /// the name. Returns true as well after very many events, because other users can cause some that do not concern
    /// the name, without end.
    fn has_events(&self) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(inotify, &mut buffer);
        let mut has_changed = false;
        for _ in 0..EVENTS_MAX {
            match events.next() {
                Ok(event) => has_changed |= self.concerns(event.wd(), event.file_name().is_some(), event.events()),
                Err(Errno::AGAIN) => return has_changed,
                Err(Errno::INTR) => {}
                // The events are not known.
                Err(_) => return true,
            }
        }
        true
    }

    /// Returns true if an event concerns the name: it is about a directory on the path, and not about another entry of
    /// a directory above.
    fn concerns(&self, number: i32, has_file_name: bool, events: inotify::ReadFlags) -> bool {
        let is_name = self.watched.last() == Some(&number);
        events.contains(inotify::ReadFlags::QUEUE_OVERFLOW)
            || is_name
            || (!has_file_name && self.watched.contains(&number))
    }
}

fn unwatch(inotify: &OwnedFd, watched: &[i32]) {
    for &number in watched {
        // The kernel has ended the watch of a directory that is gone.
        let _ = inotify::remove_watch(inotify, number);
    }
}

/// Returns true if nothing is at this path.
fn is_missing(path: &Path) -> bool {
    statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).is_err_and(|errno| errno == Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    struct Scene {
        top: tempfile::TempDir,
        address: Address,
        keeper: Keeper,
    }

    impl Scene {
        /// Makes the directory of a name in `above/base`, and keeps it.
        fn new() -> Self {
            let top = tempfile::tempdir().unwrap();
            let name = top.path().join("above/base/name");
            fs::create_dir_all(&name).unwrap();
            let address = Address::parse(name.to_str().unwrap()).unwrap();
            let mut scene = Self { top, address, keeper: Keeper::new() };
            scene.get().expect("the name is kept");
            scene
        }

        fn path(&self, path: &str) -> PathBuf {
            self.top.path().join(path)
        }

        fn get(&mut self) -> Option<Arc<Kept>> {
            self.keeper.get(&self.address, None)
        }

        /// Returns true if the name is kept without another search.
        fn is_kept(&mut self) -> bool {
            let before = self.keeper.kept.clone();
            match (before, self.get()) {
                (Some(before), Some(now)) => Arc::ptr_eq(&before, &now),
                _ => false,
            }
        }
    }

    #[test]
    fn a_name_to_which_nothing_happens_is_searched_for_once() {
        let mut scene = Scene::new();
        fs::create_dir(scene.path("above/other")).unwrap();
        fs::set_permissions(scene.path("above/other"), Permissions::from_mode(0o777)).unwrap();
        fs::create_dir(scene.path("above/base/other")).unwrap();
        fs::remove_dir(scene.path("above/other")).unwrap();
        for _ in 0..3 {
            assert!(scene.is_kept());
        }
    }

    #[test]
    fn every_change_on_the_path_causes_a_search_and_an_unsafe_path_is_not_kept() {
        type Change = fn(&Scene);
        fn chmod(scene: &Scene, path: &str, mode: u32) {
            fs::set_permissions(scene.path(path), Permissions::from_mode(mode)).unwrap();
        }
        fn rename(scene: &Scene, from: &str, to: &str) {
            fs::rename(scene.path(from), scene.path(to)).unwrap();
        }
        const CHANGES: &[(&str, Change, bool)] = &[
            ("the name is open to a group", |scene| chmod(scene, "above/base/name", 0o750), true),
            ("others may write to the name", |scene| chmod(scene, "above/base/name", 0o777), false),
            ("others may write to the base", |scene| chmod(scene, "above/base", 0o777), false),
            ("others may write above the base", |scene| chmod(scene, "above", 0o770), false),
            ("the name has gone", |scene| fs::remove_dir(scene.path("above/base/name")).unwrap(), false),
            ("the name was moved", |scene| rename(scene, "above/base/name", "above/base/new"), false),
            ("the base was moved", |scene| rename(scene, "above/base", "above/new"), false),
            (
                "the name is another directory",
                |scene| {
                    rename(scene, "above/base/name", "old");
                    fs::create_dir(scene.path("above/base/name")).unwrap();
                },
                true,
            ),
            (
                "the name was moved and has come back",
                |scene| {
                    rename(scene, "above/base/name", "above/base/new");
                    rename(scene, "above/base/new", "above/base/name");
                },
                true,
            ),
            (
                "a link leads to the old base",
                |scene| {
                    rename(scene, "above/base", "old");
                    symlink(scene.path("old"), scene.path("above/base")).unwrap();
                },
                false,
            ),
            (
                "a link leads to the directory with the old base",
                |scene| {
                    rename(scene, "above", "old");
                    symlink("old", scene.path("above")).unwrap();
                },
                false,
            ),
            (
                "a link leads to the old name",
                |scene| {
                    rename(scene, "above/base/name", "old");
                    symlink(scene.path("old"), scene.path("above/base/name")).unwrap();
                },
                false,
            ),
            ("an entry appears", |scene| fs::write(scene.path("above/base/name/unix"), "").unwrap(), true),
        ];
        for (what, change, is_found) in CHANGES {
            let mut scene = Scene::new();
            change(&scene);
            assert!(!scene.is_kept(), "{what}");
            assert_eq!(scene.keeper.kept.is_some(), *is_found, "{what}");
            // The directories of the new search are watched as well.
            if *is_found {
                assert!(scene.is_kept(), "{what}");
                chmod(&scene, "above/base", 0o777);
                assert!(!scene.is_kept() && scene.keeper.kept.is_none(), "{what}");
            }
        }
    }

    #[test]
    fn an_entry_is_opened_again_after_it_has_changed() {
        let mut scene = Scene::new();
        fs::write(scene.path("above/base/name/unix"), "").unwrap();
        let open = |kept: &Kept| {
            let opened = std::cell::Cell::new(false);
            let path = kept.found.path.join("unix");
            let entry = kept.found.entry("unix", || {
                opened.set(true);
                let stat = rustix::fs::lstat(&path)?;
                Ok::<_, std::io::Error>(super::super::Entry { file: fs::File::open(&path)?.into(), stat })
            });
            (opened.get(), FileId::of(&entry.unwrap().stat))
        };
        let (opened, first) = open(&scene.get().unwrap());
        assert!(opened);
        assert_eq!(open(&scene.get().unwrap()), (false, first));
        fs::write(scene.path("new"), "").unwrap();
        fs::rename(scene.path("new"), scene.path("above/base/name/unix")).unwrap();
        let (opened, second) = open(&scene.get().unwrap());
        assert!(opened && second != first);
        fs::set_permissions(scene.path("above/base/name/unix"), Permissions::from_mode(0o600)).unwrap();
        assert!(open(&scene.get().unwrap()).0, "its mode has changed");
        assert!(!open(&scene.get().unwrap()).0);
    }

    #[test]
    fn others_cause_no_events_in_a_directory_of_all_users() {
        let top = tempfile::tempdir().unwrap();
        let shared = top.path().join("shared");
        fs::create_dir_all(shared.join("base/name")).unwrap();
        fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
        let address = Address::parse(shared.join("base/name").to_str().unwrap()).unwrap();
        let mut scene = Scene { top, address, keeper: Keeper::new() };
        scene.get().expect("the name is kept");
        // The kernel joins equal events, so two files take turns.
        let files = ["one", "two"].map(|name| shared.join(name));
        files.iter().for_each(|file| fs::create_dir(file).unwrap());
        for turn in 0..2 * EVENTS_MAX {
            fs::set_permissions(&files[turn % 2], Permissions::from_mode(0o700)).unwrap();
        }
        assert!(scene.is_kept());
        fs::set_permissions(&shared, Permissions::from_mode(0o777)).unwrap();
        assert!(!scene.is_kept() && scene.keeper.kept.is_none(), "the directory is unsafe without its sticky bit");
    }

    #[test]
    fn a_flood_of_events_is_a_change() {
        let mut scene = Scene::new();
        let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let limit: u32 = limit.trim().parse().unwrap();
        if limit > 100_000 {
            return;
        }
        let names = ["one", "two"].map(|name| scene.path("above").join(name));
        fs::create_dir(&names[0]).unwrap();
        fs::create_dir(&names[1]).unwrap();
        // The kernel joins equal events, so two files take turns.
        for turn in 0..=limit {
            fs::set_permissions(&names[turn as usize % 2], Permissions::from_mode(0o700)).unwrap();
        }
        assert!(!scene.is_kept());
        // The rest of the events is read by and by.
        assert!((0..=limit).any(|_| scene.is_kept()));
    }
}
