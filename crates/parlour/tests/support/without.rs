//! Features of the kernel that are made unavailable with seccomp(2).
//!
//! A filter cannot be removed, and children inherit it. So it is installed in the process of a trial, or in a child
//! before execve(2).
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Mutex;

/// Not defined by the `libc` crate for every target.
const SO_PEERPIDFD: u32 = 77;
const SO_PASSRIGHTS: u32 = 83;
const RWF_NOSIGNAL: u32 = 0x100;

/// A system call with these arguments fails with this error number. A condition is the number of the argument, a mask
/// for its lower 32 bits, and the value that it must have then.
struct Rule {
    call: libc::c_long,
    conditions: &'static [(u32, u32, u32)],
    errno: i32,
}

/// A feature that is missing: a word for names of trials, and the rules that remove it.
#[derive(Clone, Copy)]
pub struct Missing {
    pub word: &'static str,
    rules: &'static [Rule],
}

const ALL_BITS: u32 = u32::MAX;
const SOL_SOCKET: (u32, u32, u32) = (1, ALL_BITS, libc::SOL_SOCKET as u32);

const PEER_PIDFD: &[(u32, u32, u32)] = &[SOL_SOCKET, (2, ALL_BITS, SO_PEERPIDFD)];
const PASS_RIGHTS: &[(u32, u32, u32)] = &[SOL_SOCKET, (2, ALL_BITS, SO_PASSRIGHTS)];
/// `MADV_POPULATE_READ` and `MADV_POPULATE_WRITE`, 22 and 23.
const POPULATE: &[(u32, u32, u32)] = &[(2, !1, 22)];
const NO_SIGNAL: &[(u32, u32, u32)] = &[(5, RWF_NOSIGNAL, RWF_NOSIGNAL)];

const fn rule(call: libc::c_long, conditions: &'static [(u32, u32, u32)], errno: i32) -> Rule {
    Rule { call, conditions, errno }
}

/// Each feature alone. A feature that is denied, and not unknown, has an entry of its own.
pub const FEATURES: [Missing; 9] = [
    Missing { word: "without_so_peerpidfd", rules: &[rule(libc::SYS_getsockopt, PEER_PIDFD, libc::ENOPROTOOPT)] },
    Missing { word: "with_so_peerpidfd_denied", rules: &[rule(libc::SYS_getsockopt, PEER_PIDFD, libc::EACCES)] },
    Missing { word: "without_openat2", rules: &[rule(libc::SYS_openat2, &[], libc::ENOSYS)] },
    Missing { word: "without_pidfd_open", rules: &[rule(libc::SYS_pidfd_open, &[], libc::ENOSYS)] },
    Missing { word: "without_memfd_create", rules: &[rule(libc::SYS_memfd_create, &[], libc::ENOSYS)] },
    Missing { word: "without_madv_populate", rules: &[rule(libc::SYS_madvise, POPULATE, libc::EINVAL)] },
    Missing {
        word: "without_so_passrights",
        rules: &[
            rule(libc::SYS_setsockopt, PASS_RIGHTS, libc::ENOPROTOOPT),
            rule(libc::SYS_getsockopt, PASS_RIGHTS, libc::ENOPROTOOPT),
        ],
    },
    Missing { word: "without_rwf_nosignal", rules: &[rule(libc::SYS_pwritev2, NO_SIGNAL, libc::EOPNOTSUPP)] },
    Missing { word: "without_inotify", rules: &[rule(libc::SYS_inotify_init1, &[], libc::EMFILE)] },
];

/// The words of the features that this process has removed.
static REMOVED: Mutex<Vec<&str>> = Mutex::new(Vec::new());

/// Returns true if this process has removed the feature with this word.
pub fn is_removed(word: &str) -> bool {
    REMOVED.lock().unwrap().contains(&word)
}

/// Returns the feature with this word.
pub fn feature(word: &str) -> Missing {
    *FEATURES.iter().find(|feature| feature.word == word).unwrap_or_else(|| panic!("no feature is called {word}"))
}

/// Returns the reason why no filter can be installed here, if there is one.
pub fn cannot_filter() -> Option<String> {
    let mut command = Command::new("true");
    feature("without_openat2").remove_from(&mut command);
    match command.status() {
        Ok(status) if status.success() => None,
        Ok(status) => Some(format!("a process with a filter ended with {status}")),
        Err(error) => Some(format!("seccomp(2) does not work here: {error}")),
    }
}

impl Missing {
    /// Removes the feature from this process, in all threads.
    pub fn remove(self) {
        install(&self.program()).unwrap_or_else(|error| panic!("remove {}: {error}", self.word));
        REMOVED.lock().unwrap().push(self.word);
    }

    /// Removes the feature from the program that this command starts.
    pub fn remove_from(self, command: &mut Command) {
        let program = self.program();
        // SAFETY: `install` makes only system calls, which is allowed between fork(2) and execve(2).
        unsafe { command.pre_exec(move || install(&program)) };
    }

    /// Returns the program of the filter: for each rule a test of the number of the system call, tests of arguments,
    /// and an error. Each test jumps to the next rule if it fails.
    fn program(self) -> Vec<libc::sock_filter> {
        const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
        const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
        const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
        /// The offset of the arguments in `struct seccomp_data`. The lower half of an argument comes first.
        const ARGUMENTS: u32 = 16;
        let line = |code, k, jf| libc::sock_filter { code, jt: 0, jf, k };
        let mut program = Vec::new();
        for rule in self.rules {
            let mut left = 3 * rule.conditions.len() as u8;
            program.push(line(LOAD, 0, 0));
            program.push(line(EQUAL, rule.call as u32, left + 1));
            for &(argument, mask, value) in rule.conditions {
                left -= 3;
                program.push(line(LOAD, ARGUMENTS + 8 * argument, 0));
                program.push(line(AND, mask, 0));
                program.push(line(EQUAL, value, left + 1));
            }
            program.push(line(RETURN, libc::SECCOMP_RET_ERRNO | rule.errno as u32, 0));
        }
        program.push(line(RETURN, libc::SECCOMP_RET_ALLOW, 0));
        program
    }
}

/// Installs a filter in all threads of this process.
fn install(program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: this option takes only numbers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel reads the program, which lives through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const program,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
