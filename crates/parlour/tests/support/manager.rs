//! A service manager for socket activation: it creates the sockets, keeps them open, and passes them to a program.
#![allow(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    reason = "the descriptors are renumbered between fork and exec"
)]

use std::fs::{self, DirBuilder, Permissions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

/// The number of the first descriptor that is passed.
const FIRST: RawFd = 3;

/// The sockets of a socket unit, each with its name.
#[derive(Debug, Default)]
pub struct Manager {
    descriptors: Vec<(String, OwnedFd)>,
}

impl Manager {
    /// Creates the sockets of a name as `ListenStream=` and `ListenSequentialPacket=` do.
    pub fn of_name(directory: &Path, transports: &[&str]) -> Self {
        let mut manager = Self::default();
        manager.add_name(directory, transports, "parlour");
        manager
    }

    pub fn add_name(&mut self, directory: &Path, transports: &[&str], fd_name: &str) {
        for transport in transports {
            let kind = if *transport == "unix" { SocketType::STREAM } else { SocketType::SEQPACKET };
            self.add_listening(&directory.join(transport), kind, fd_name);
        }
    }

    /// Adds a listening socket at any path.
    pub fn add_listening(&mut self, path: &Path, kind: SocketType, fd_name: &str) {
        let socket = bound(path, kind);
        listen(&socket, 100).unwrap();
        self.add(socket, fd_name);
    }

    /// Adds any descriptor.
    pub fn add(&mut self, descriptor: impl Into<OwnedFd>, fd_name: &str) {
        self.descriptors.push((fd_name.to_owned(), descriptor.into()));
    }

    /// Returns a command that runs the program with all descriptors passed. A shell runs it, because `LISTEN_PID` must
    /// be the process id of the program, which the shell knows before its exec.
    pub fn hand_over(&self, program: &Command) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""]).arg(program.get_program()).args(program.get_args());
        for (variable, value) in program.get_envs() {
            match value {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
        let names: Vec<&str> = self.descriptors.iter().map(|(name, _)| &**name).collect();
        command.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        let descriptors: Vec<RawFd> = self.descriptors.iter().map(|(_, descriptor)| descriptor.as_raw_fd()).collect();
        // SAFETY: between fork and exec the closure makes only async-signal-safe system calls. The descriptors are
        // open until `self` is dropped. In the child nothing else uses the numbers from `FIRST` on, except the pipe of
        // the standard library for a failed exec, whose end of file has the same effect.
        unsafe {
            command.pre_exec(move || {
                // Duplicates to high numbers first, so that no descriptor overwrites another.
                let mut far = [-1; 16];
                for (place, &number) in far.iter_mut().zip(&descriptors) {
                    *place = libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 100);
                }
                for (number, &from) in (FIRST..).zip(&far[..descriptors.len()]) {
                    if libc::dup2(from, number) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        command
    }
}

/// Binds a socket that does not listen. Creates the directories of the path with the mode that systemd uses.
pub fn bound(path: &Path, kind: SocketType) -> OwnedFd {
    let directory = path.parent().unwrap();
    DirBuilder::new().recursive(true).mode(0o755).create(directory).unwrap();
    // The mode must not depend on the umask.
    if fs::metadata(directory).unwrap().permissions().mode() & 0o777 != 0o755 {
        fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
    }
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None).unwrap();
    bind(socket.as_fd(), &SocketAddrUnix::new(path).unwrap()).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    socket
}
