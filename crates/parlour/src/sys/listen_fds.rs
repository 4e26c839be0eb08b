//! The descriptors that a service manager hands over, as sd_listen_fds(3) describes it: `LISTEN_FDS` of them from number 3
//! on, for the process `LISTEN_PID`, with names in `LISTEN_FDNAMES`. The environment is read and left as it is.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

const FIRST: RawFd = 3;

/// Those that somebody has taken: the environment goes on naming them.
static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// A descriptor that was handed over. Dropping this leaves it open, as it was found; it may be somebody else's.
#[derive(Debug)]
pub(crate) struct Passed {
    descriptor: ManuallyDrop<OwnedFd>,
    number: RawFd,
    /// What the manager calls it (`FileDescriptorName=`).
    pub(crate) name: String,
}

/// Why there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotPassed {
    /// The environment names none.
    Nothing,
    /// They are for the process with this number, or for none that is one.
    ForAnother(String),
    /// What the environment says makes no sense.
    Malformed(&'static str),
    AllTaken,
}

/// The descriptors that were handed over to this process and not taken yet.
pub(crate) fn passed() -> Result<Vec<Passed>, NotPassed> {
    let numbered = announced(std::process::id(), |variable| std::env::var_os(variable))?;
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all = Vec::new();
    for (number, name) in (FIRST..).zip(numbered).filter(|(number, _)| !taken.contains(number)) {
        // SAFETY: a plain system call on a number.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
            return Err(NotPassed::Malformed("a descriptor that LISTEN_FDS counts is not open"));
        }
        // SAFETY: it is open, and by the protocol it is this process's to use. Nothing closes it through this value but
        // `close`, once, which the table of those that are taken sees to.
        let descriptor = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
        all.push(Passed { descriptor, number, name });
    }
    if all.is_empty() { Err(NotPassed::AllTaken) } else { Ok(all) }
}

/// The names of the descriptors, as many as there are, for the process with this number.
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
        Err(_) => return Err(NotPassed::Malformed("LISTEN_FDS is no number of descriptors")),
    };
    let names: Vec<String> = match text("LISTEN_FDNAMES") {
        Some(names) => names.split(':').map(str::to_owned).collect(),
        None => vec!["unknown".to_owned(); count],
    };
    if names.len() != count {
        return Err(NotPassed::Malformed("LISTEN_FDNAMES has not as many names as LISTEN_FDS says"));
    }
    Ok(names)
}

impl Passed {
    /// Takes it for good: whoever looks later does not find it. The caller has a duplicate by now, and this one is closed.
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
    fn as_many_names_as_there_are_descriptors() {
        let pid = ("LISTEN_PID", "77");
        assert_eq!(read(&[pid, ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "a:b")]), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(read(&[pid, ("LISTEN_FDS", "2")]), Ok(vec!["unknown".into(), "unknown".into()]));
        for names in ["a", "a:b:c", ""] {
            let found = read(&[pid, ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", names)]);
            assert!(matches!(found, Err(NotPassed::Malformed(_))), "{names:?}: {found:?}");
        }
    }

    #[test]
    fn what_is_for_another_process_is_not_for_us() {
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
