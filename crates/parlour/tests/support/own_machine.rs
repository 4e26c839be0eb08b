//! The paths of this machine at which a server has its name by default, hidden from the tests.
//!
//! A process that tests the default bases needs directories at fixed paths: `/run/parlour`, `/run/user/UID` and
//! `/tmp/parlour-UID`. A test must neither find the names that this machine has there, nor add one. Such a trial
//! therefore runs in a mount namespace of its own, in which `/run` and `/tmp` are empty. Its list declares that with
//! `#[own_machine]` ([`trials!`](super::trials)). In the environment of every other trial `$PARLOUR_DIR` is set to a
//! directory that cannot exist, so that a name without a directory is an error.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;

/// The base of the system's services.
pub const SYSTEM_BASE: &str = "/run/parlour";

/// The value of `$PARLOUR_DIR` for processes that must not use a name without a directory.
const NOWHERE: &str = "/proc/a-test-must-use-a-directory-of-its-own/parlour";

/// Returns the base of this user in the directory of the login session.
pub fn session_base(uid: u32) -> PathBuf {
    session(uid).join("parlour")
}

/// Returns the directory of the login session of this user.
pub fn session(uid: u32) -> PathBuf {
    PathBuf::from(format!("/run/user/{uid}"))
}

/// Returns the base of this user in `/tmp`.
pub fn tmp_base(uid: u32) -> PathBuf {
    PathBuf::from(format!("/tmp/parlour-{uid}"))
}

/// Removes from a command's environment the variables that lead to names, so that it uses the default bases. Only for
/// trials on their own machine.
pub fn use_default_bases(command: &mut Command) -> &mut Command {
    command.env_remove("PARLOUR_DIR").env_remove("XDG_RUNTIME_DIR")
}

/// Makes a command use no name of this machine.
pub fn hide_names(command: &mut Command) -> &mut Command {
    command.env("PARLOUR_DIR", NOWHERE).env_remove("XDG_RUNTIME_DIR")
}

/// Returns the reason why this process can hide the names of this machine from none of its trials, if there is one.
pub fn no_own_machine() -> Option<String> {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    // The thread ends with its namespace.
    let try_it = || thread::spawn(enter).join().unwrap().err();
    REASON.get_or_init(|| try_it().map(|error| format!("no mount namespace of its own: {error}"))).clone()
}

/// Gives the calling thread a mount namespace in which `/run` and `/tmp` are empty. Its threads and children inherit
/// it.
pub fn enter() -> io::Result<()> {
    let program = std::env::current_exe()?;
    if let Some(hidden) = ["/run", "/tmp"].iter().find(|hidden| program.starts_with(hidden)) {
        return Err(io::Error::other(format!("this program is in {hidden}")));
    }
    // SAFETY: this call takes only a flag.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    mount(c"none", c"/", None, libc::MS_REC | libc::MS_PRIVATE, c"")?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    mount(c"none", c"/run", Some(c"tmpfs"), flags, c"mode=755,size=64m")?;
    mount(c"none", c"/tmp", Some(c"tmpfs"), flags, c"mode=1777,size=256m")
}

fn mount(source: &CStr, target: &CStr, kind: Option<&CStr>, flags: libc::c_ulong, data: &CStr) -> io::Result<()> {
    let kind = kind.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: the kernel reads these strings, which end in a zero byte. A null type is allowed for a change of flags.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind, flags, data.as_ptr().cast()) })
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
