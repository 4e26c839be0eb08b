//! Change of the user id in a child process, which requires root.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Returns the reason why tests with other users cannot run here, if there is one.
pub fn no_other_users() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can run a child as another user".to_owned());
    }
    let maps_all = |kind: &str| {
        let map = fs::read_to_string(format!("/proc/self/{kind}_map")).unwrap();
        map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
    };
    (!maps_all("uid") || !maps_all("gid")).then(|| "this user namespace does not map all users".to_owned())
}

/// Returns a user and group id that nothing else uses, not even another run of these tests at the same time.
pub fn new_uid() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    assert!(count < 100);
    // Process ids are below 4,194,304, so this is below 2^31, above which some tools print negative numbers.
    1_000_000_000 + process::id() * 100 + count
}

/// Changes to that user permanently and drops all groups. Only for roles, as their first step, when they are
/// single-threaded.
pub fn become_user(uid: u32) {
    let check = |result: i32| assert_eq!(result, 0, "become {uid}: {}", io::Error::last_os_error());
    // SAFETY: the kernel reads no list if its length is 0.
    check(unsafe { libc::setgroups(0, std::ptr::null()) });
    // SAFETY: this call takes only numbers.
    check(unsafe { libc::setresgid(uid, uid, uid) });
    // SAFETY: this call takes only numbers.
    check(unsafe { libc::setresuid(uid, uid, uid) });
    // After a change of credentials the process is not dumpable, and the kernel hides its /proc/self from it.
    // SAFETY: this option takes only a number.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) });
}

/// Makes this process one whose `/proc/PID/fd` other processes of its user cannot open. Root can.
pub fn hide_from_proc() {
    // SAFETY: this option takes only a number.
    let result = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// Makes the next child of this process the first process of a PID namespace.
pub fn give_children_a_pid_namespace() {
    // SAFETY: this call takes only a number.
    let result = unsafe { libc::unshare(libc::CLONE_NEWPID) };
    assert_eq!(result, 0, "create a PID namespace: {}", io::Error::last_os_error());
}

/// Returns the reason why a role cannot create a PID namespace.
pub fn no_pid_namespaces() -> Option<String> {
    let created = std::process::Command::new("unshare").args(["--pid", "--fork", "true"]).output();
    match created {
        Err(error) => Some(format!("cannot start unshare: {error}")),
        Ok(output) => (!output.status.success()).then(|| "this user may not create PID namespaces".to_owned()),
    }
}

/// Moves this process into a user namespace that maps `inside` to its user, and no other user. Only for roles, as their
/// first step after [`become_user`], when they are single-threaded.
pub fn enter_a_namespace(inside: u32) {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // SAFETY: this call takes only a number.
    let result = unsafe { libc::unshare(libc::CLONE_NEWUSER) };
    assert_eq!(result, 0, "create a user namespace: {}", io::Error::last_os_error());
    for (file, map) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{inside} {uid} 1")),
        ("gid_map", format!("{inside} {gid} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), map).unwrap_or_else(|error| panic!("write {file}: {error}"));
    }
}

/// Returns the reason why an ordinary user cannot create a user namespace here, if there is one.
pub fn no_namespaces_for_users() -> Option<String> {
    no_other_users().or_else(|| {
        let mut unshare = std::process::Command::new("unshare");
        unshare.args(["--user", "--map-current-user", "true"]).current_dir("/");
        std::os::unix::process::CommandExt::uid(&mut unshare, new_uid());
        match unshare.output() {
            Err(error) => Some(format!("cannot start unshare: {error}")),
            Ok(output) if !output.status.success() => Some(format!(
                "users may not create user namespaces here: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )),
            Ok(_) => None,
        }
    })
}

pub fn chown(path: &Path, uid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(uid)).unwrap();
}

/// Creates a directory that belongs to this user, with exactly this mode.
pub fn directory_of(path: &Path, uid: u32, mode: u32) {
    fs::create_dir(path).unwrap();
    chown(path, uid);
    super::place::chmod(path, mode);
}
