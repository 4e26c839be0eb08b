//! Checks kernel features: by using them where this has no side effects, otherwise by the kernel version.

use std::io::IoSlice;
use std::path::Path;

use parlour::{Connection, Server};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, inotify, openat2};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::check::{Check, Verdict};
use crate::exit;

/// `RWF_NOSIGNAL` of `linux/fs.h`, from Linux 6.18.
const RWF_NOSIGNAL: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x100);

pub(super) fn checks() -> Vec<Check> {
    let mut checks = vec![proc_mounted(), version(), openat2_works(), pidfd(), inotify_works(), no_signal()];
    for mend in checks.iter_mut().filter_map(|check| check.mend.as_mut()) {
        mend.push_str(" (docs/platforms.md lists the cost of each)");
    }
    checks
}

fn proc_mounted() -> Check {
    const CHECK: &str = "/proc";
    if Path::new("/proc/thread-self/fd").is_dir() && std::fs::read_link("/proc/self/exe").is_ok() {
        return Check::ok(CHECK, "mounted");
    }
    let mend = "run mount -t proc proc /proc; without it, names whose path has more than 100 bytes cannot be used, the \
                user 65534 counts as unknown, and the programs of servers and the processes of fifo clients are not shown";
    Check::but(Verdict::Note, CHECK, "not mounted, or not readable", mend)
}

/// Checks for open-file-description locks, which Linux has from 3.15. The conversations in `trial` take one.
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
            "use Linux 3.15 or newer; without these locks names are not safe",
        ),
        (text, None) => Check::but(
            Verdict::Note,
            CHECK,
            format!("release `{text}`"),
            "the checks below that depend on the kernel version are not reliable",
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
            "Linux 5.6 or newer has it, unless a sandbox forbids it; parlour does not need it",
        ),
    }
}

fn pidfd() -> Check {
    const CHECK: &str = "pidfd";
    match pidfd_open(getpid(), PidfdFlags::empty()) {
        Ok(_) => Check::ok(CHECK, "works"),
        Err(error) => Check::but(
            Verdict::Note,
            CHECK,
            error.to_string(),
            "Linux 5.3 or newer has it, unless a sandbox forbids it; without it, `parlour serve` has a thread for each program",
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
            "all instances of this user are in use",
            "end processes that use inotify, or raise fs.inotify.max_user_instances",
        ),
        Err(error) => Check::but(
            Verdict::Note,
            CHECK,
            error.to_string(),
            "without it, a client that waits for a server polls the directories",
        ),
    }
}

/// Asks for a pidfd of this process through a connection to itself.
pub(super) fn peer_pidfd(directory: &Path) -> Check {
    const CHECK: &str = "SO_PEERPIDFD";
    match own_peer_pidfd(directory) {
        Ok(()) => Check::ok(CHECK, "works"),
        Err(error) => Check::but(
            Verdict::Note,
            CHECK,
            exit::one_line(&error),
            "Linux 6.5 or newer has it, unless a sandbox forbids it; without it, programs cannot get a pidfd of a client \
             (peer_pidfd), and nobody is refused for that",
        ),
    }
}

fn own_peer_pidfd(directory: &Path) -> anyhow::Result<()> {
    let address = format!("unix:{}/base/pidfd", directory.display());
    let server = Server::bind(&address)?;
    let client = Connection::connect(&address)?;
    drop(client.peer_pidfd()?);
    server.close()?;
    Ok(())
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
            "Linux 6.18 or newer has it; without it, sending on fifo takes two more system calls to suppress SIGPIPE",
        ),
    }
}

/// Returns the release of the kernel as text, and its major and minor numbers.
fn release() -> (String, Option<(u32, u32)>) {
    let text = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let release = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    };
    (text, release)
}
