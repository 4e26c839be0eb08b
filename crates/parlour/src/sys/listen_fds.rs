//! Descriptors that a service manager passes to this process, as sd_listen_fds(3) describes: `LISTEN_FDS` descriptors
//! from number 3 on, for the process `LISTEN_PID`, with names in `LISTEN_FDNAMES`. The environment is read and not
//! changed.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

const FIRST: RawFd = 3;

/// Descriptors that were taken. The environment continues to list them.
static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// A passed descriptor. Dropping it leaves the descriptor open, as it was found: other code may use it.
#[derive(Debug)]
pub(crate) struct Passed {
    descriptor: ManuallyDrop<OwnedFd>,
    number: RawFd,
    /// The name that the manager gave it (`FileDescriptorName=`).
    pub(crate) name: String,
}

/// The reason for which no descriptors are available.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotPassed {
    /// The environment lists no descriptors.
    Nothing,
    /// The descriptors are for the process with this id, or the variable is not a process id.
    ForAnother(String),
    /// The content of the environment is malformed.
    Malformed(&'static str),
    AllTaken,
}

/// Returns the descriptors that were passed to this process and not taken yet.
pub(crate) fn passed() -> Result<Vec<Passed>, NotPassed> {
    let numbered = announced(std::process::id(), |variable| std::env::var_os(variable))?;
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all = Vec::new();
    for (number, name) in (FIRST..).zip(numbered).filter(|(number, _)| !taken.contains(number)) {
        // SAFETY: a system call on a number, without pointers.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
            return Err(NotPassed::Malformed("LISTEN_FDS includes a descriptor that is not open"));
        }
        // SAFETY: the descriptor is open, and according to the protocol this process may use it. Only `close` closes it
        // through this value, and only once: the table of taken descriptors ensures that.
        let descriptor = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
        all.push(Passed { descriptor, number, name });
    }
    if all.is_empty() { Err(NotPassed::AllTaken) } else { Ok(all) }
}

/// Returns the names of the descriptors for the process with this id, one name for each descriptor.
fn announced(pid: u32, variable: impl Fn(&str) -> Option<OsString>) -> Result<Vec<String>, NotPassed> {
    let text = |name: &str| variable(name).map(|value| value.to_string_lossy().into_owned());
    let (Some(for_pid), Some(count)) = (text("LISTEN_PID"), text("LISTEN_FDS")) else {
        return Err(NotPassed::Nothing);
    };
    if for_pid.parse() != Ok(pid) {
        return Err(NotPassed::ForAnother(for_pid));
    }
    let count = match count.parse::<u16>() {
        Ok(0) => return Err(NotPassed::Nothing),
        Ok(count) => usize::from(count),
        Err(_) => return Err(NotPassed::Malformed("LISTEN_FDS is not a number of descriptors")),
    };
    let names: Vec<String> = match text("LISTEN_FDNAMES") {
        Some(names) => names.split(':').map(str::to_owned).collect(),
        None => vec!["unknown".to_owned(); count],
    };
    if names.len() != count {
        return Err(NotPassed::Malformed("the number of names in LISTEN_FDNAMES differs from LISTEN_FDS"));
    }
    Ok(names)
}

impl Passed {
    /// Takes the descriptor permanently: later calls of [`passed`] do not return it. The caller has a duplicate
    /// already, and this descriptor is closed.
    pub(crate) fn close(self) {
        if TAKEN.lock().unwrap_or_else(PoisonError::into_inner).insert(self.number) {
            drop(ManuallyDrop::into_inner(self.descriptor));
        }
    }
}

impl AsFd for Passed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Vec<String>, NotPassed> {
        announced(77, |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn each_descriptor_has_one_name() {
        let pid = ("LISTEN_PID", "77");
        assert_eq!(read(&[pid, ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "a:b")]), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(read(&[pid, ("LISTEN_FDS", "2")]), Ok(vec!["unknown".into(), "unknown".into()]));
        for names in ["a", "a:b:c", ""] {
            let found = read(&[pid, ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", names)]);
            assert!(matches!(found, Err(NotPassed::Malformed(_))), "{names:?}: {found:?}");
        }
    }

    #[test]
    fn descriptors_for_another_process_are_not_returned() {
        let count = ("LISTEN_FDS", "1");
        assert_eq!(read(&[count]), Err(NotPassed::Nothing));
        assert_eq!(read(&[("LISTEN_PID", "77")]), Err(NotPassed::Nothing));
        assert_eq!(read(&[("LISTEN_PID", "77"), ("LISTEN_FDS", "0")]), Err(NotPassed::Nothing));
        for pid in ["78", "0", "", "-77", "77x"] {
            assert_eq!(read(&[("LISTEN_PID", pid), count]), Err(NotPassed::ForAnother(pid.into())));
        }
        for number in ["-1", "x", "99999999999999999999"] {
            let found = read(&[("LISTEN_PID", "77"), ("LISTEN_FDS", number)]);
            assert!(matches!(found, Err(NotPassed::Malformed(_))), "{number:?}: {found:?}");
        }
    }
}
