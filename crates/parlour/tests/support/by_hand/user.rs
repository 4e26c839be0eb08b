//! Being somebody else: root can, in a child process.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Why tests with other users cannot run here, if they cannot.
pub fn no_other_users() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can run a child as another user".to_owned());
    }
    let maps_all = |kind: &str| {
        let map = fs::read_to_string(format!("/proc/self/{kind}_map")).unwrap();
        map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
    };
    (!maps_all("uid") || !maps_all("gid")).then(|| "this user namespace does not have every user".to_owned())
}

/// The id of a user and group that nobody else is, not even in another run of these tests at the same time.
pub fn new_uid() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    assert!(count < 100);
    // Process ids end at 4,194,304, so this stays below the 2^31 above which some tools see negative numbers.
    1_000_000_000 + process::id() * 100 + count
}

/// Becomes that user for good, without any group of the one before. For roles, before they do anything else: they have
/// one thread then.
pub fn become_user(uid: u32) {
    let check = |result: i32| assert_eq!(result, 0, "become {uid}: {}", io::Error::last_os_error());
    // SAFETY: no list is read when its length is 0.
    check(unsafe { libc::setgroups(0, std::ptr::null()) });
    // SAFETY: this call takes numbers only.
    check(unsafe { libc::setresgid(uid, uid, uid) });
    // SAFETY: as above.
    check(unsafe { libc::setresuid(uid, uid, uid) });
    // The kernel hides /proc/self from a process that gave rights up, unless that process says that it has no secrets.
    // SAFETY: this option takes a number only.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) });
}

pub fn chown(path: &Path, uid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(uid)).unwrap();
}

/// Makes a directory that belongs to this user, with exactly this mode.
pub fn directory_of(path: &Path, uid: u32, mode: u32) {
    fs::create_dir(path).unwrap();
    chown(path, uid);
    super::place::chmod(path, mode);
}
