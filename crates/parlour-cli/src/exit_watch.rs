//! A descriptor that shows that a child process has exited.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::thread;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

/// Returns a descriptor for poll(2) that has events once the child has exited. The child is not reaped.
///
/// It is a pidfd. On a system without pidfd_open(2), such as gVisor or a sandbox that forbids it, a thread waits for
/// the child and then closes the other end of a pipe.
pub(crate) fn watch(child: &Child) -> io::Result<OwnedFd> {
    let pid = Pid::from_child(child);
    match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS) => watch_in_a_thread(pid),
        opened => Ok(opened?),
    }
}

fn watch_in_a_thread(pid: Pid) -> io::Result<OwnedFd> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    thread::Builder::new().name("exit-watch".to_owned()).spawn(move || {
        let exited = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(waitid(WaitId::Pid(pid), exited), Err(Errno::INTR)) {}
        drop(writer);
    })?;
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::process::{Command, Stdio};

    fn has_exited(fd: &OwnedFd, seconds: i64) -> bool {
        let timeout = Timespec { tv_sec: seconds, tv_nsec: 0 };
        poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)).unwrap() == 1
    }

    #[test]
    fn the_descriptor_shows_the_exit_and_leaves_the_child_to_be_reaped() {
        let ways: [fn(&Child) -> io::Result<OwnedFd>; 2] = [watch, |child| watch_in_a_thread(Pid::from_child(child))];
        for way in ways {
            let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
            let fd = way(&child).unwrap();
            assert!(!has_exited(&fd, 0));
            drop(child.stdin.take());
            assert!(has_exited(&fd, 10));
            assert!(child.wait().unwrap().success());
        }
    }
}
