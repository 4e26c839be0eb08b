//! Signals that the surroundings of the tests may have ignored.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Starts the command with the default actions of SIGINT, SIGQUIT and SIGHUP. A shell ignores the first two in a
/// background job, and nohup(1) the last. The tests may run like this.
pub fn restore_interrupts(command: &mut Command) {
    let restore = || {
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP] {
            // SAFETY: the default action runs no code of this process.
            if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure only calls signal(2), which is async-signal-safe.
    unsafe { command.pre_exec(restore) };
}
