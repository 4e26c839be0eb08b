//! What the kernel can do: tried where trying harms nothing, else told by its version.

use std::io::IoSlice;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, inotify, openat2};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::check::{Check, Verdict};

/// `RWF_NOSIGNAL` of `linux/fs.h`, from Linux 6.18.
const RWF_NOSIGNAL: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x100);

pub(super) fn checks() -> Vec<Check> {
    vec![proc_mounted(), version(), openat2_works(), pidfd(), inotify_works(), peer_pidfd(), no_signal()]
}

fn proc_mounted() -> Check {
    const CHECK: &str = "/proc";
    if Path::new("/proc/self/fd").is_dir() && std::fs::read_link("/proc/self/exe").is_ok() {
        return Check::ok(CHECK, "mounted");
    }
    let mend = "mount -t proc proc /proc; without it long socket paths and the names of programs do not work";
    Check::but(Verdict::Problem, CHECK, "not mounted, or not readable", mend)
}

/// Open-file-description locks came with Linux 3.15; the trial at the end takes one.
fn version() -> Check {
    const CHECK: &str = "kernel";
    match release() {
        (text, Some(release)) if release >= (3, 15) => {
            Check::ok(CHECK, format!("Linux {text}: open-file-description locks"))
        }
        (text, Some(_)) => Check::but(
            Verdict::Problem,
            CHECK,
            format!("Linux {text} has no open-file-description locks"),
            "names are safe only from Linux 3.15 on",
        ),
        (text, None) => Check::but(
            Verdict::Note,
            CHECK,
            format!("release `{text}`"),
            "features told by version below are not known",
        ),
    }
}

fn openat2_works() -> Check {
    const CHECK: &str = "openat2 without symlinks";
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat2(CWD, "/", flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Ok(_) => Check::ok(CHECK, "works"),
        Err(error) => Check::but(
            Verdict::Note,
            CHECK,
            error.to_string(),
            "Linux 5.6 has it, unless a sandbox forbids it; paths are then walked step by step",
        ),
    }
}

fn pidfd() -> Check {
    const CHECK: &str = "pidfd";
    match pidfd_open(getpid(), PidfdFlags::empty()) {
        Ok(_) => Check::ok(CHECK, "works"),
        Err(error) => Check::but(
            Verdict::Problem,
            CHECK,
            error.to_string(),
            "Linux 5.3 has it, unless a sandbox forbids it; `parlour serve` cannot watch its programs without",
        ),
    }
}

fn inotify_works() -> Check {
    const CHECK: &str = "inotify";
    match inotify::init(inotify::CreateFlags::CLOEXEC) {
        Ok(_) => Check::ok(CHECK, "works"),
        Err(Errno::MFILE) => Check::but(
            Verdict::Problem,
            CHECK,
            "all instances of this user are taken",
            "end what holds them, or raise fs.inotify.max_user_instances",
        ),
        Err(error) => Check::but(
            Verdict::Note,
            CHECK,
            error.to_string(),
            "waiting for a server needs it, or looks again and again",
        ),
    }
}

fn peer_pidfd() -> Check {
    const CHECK: &str = "SO_PEERPIDFD";
    match release() {
        (_, Some(release)) if release >= (6, 5) => Check::ok(CHECK, "by its version the kernel has it"),
        (text, _) => Check::but(
            Verdict::Note,
            CHECK,
            format!("not known of Linux {text}"),
            "Linux 6.5 has it; without it a client's pid is a number that may be reused",
        ),
    }
}

fn no_signal() -> Check {
    const CHECK: &str = "RWF_NOSIGNAL";
    let tried = pipe_with(PipeFlags::CLOEXEC)
        .and_then(|(_reader, writer)| pwritev2(&writer, &[IoSlice::new(b"x")], u64::MAX, RWF_NOSIGNAL));
    match tried {
        Ok(_) => Check::ok(CHECK, "works"),
        Err(error) => Check::but(
            Verdict::Note,
            CHECK,
            error.to_string(),
            "Linux 6.18 has it; without it sending on fifo takes two more system calls, to hold SIGPIPE off",
        ),
    }
}

/// The kernel's release, and its first two numbers.
fn release() -> (String, Option<(u32, u32)>) {
    let text = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let release = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    };
    (text, release)
}
