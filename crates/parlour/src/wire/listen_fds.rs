//! The environment variables by which a service manager announces descriptors, as sd_listen_fds(3) describes:
//! `LISTEN_FDS` descriptors for the process `LISTEN_PID`, with names in `LISTEN_FDNAMES`.

use std::ffi::OsStr;

/// The name of a descriptor to which the manager gave none.
const UNNAMED: &str = "unknown";

/// The reason for which the environment announces no descriptors to this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotAnnounced {
    /// The variables are not set, or the number of descriptors is 0.
    Nothing,
    /// The descriptors are for the process with this id, or the variable is not a process id.
    ForAnother(String),
    /// The content of a variable is malformed.
    Malformed(&'static str),
}

/// Returns the number of descriptors for the process with the id `pid`. It is at least 1.
///
/// The names are parsed by [`names`], so that a caller knows the descriptors even if their names are malformed.
pub(crate) fn count(pid: u32, listen_pid: Option<&OsStr>, listen_fds: Option<&OsStr>) -> Result<u16, NotAnnounced> {
    let (Some(for_pid), Some(count)) = (listen_pid, listen_fds) else {
        return Err(NotAnnounced::Nothing);
    };
    if number(for_pid) != Some(pid) {
        return Err(NotAnnounced::ForAnother(for_pid.to_string_lossy().into_owned()));
    }
    match number(count).map(u16::try_from) {
        Some(Ok(0)) => Err(NotAnnounced::Nothing),
        Some(Ok(count)) => Ok(count),
        _ => Err(NotAnnounced::Malformed("LISTEN_FDS is not a number of descriptors")),
    }
}

/// Returns the names of `count` descriptors, one for each. Bytes that are not UTF-8 are replaced.
pub(crate) fn names(count: u16, listen_fdnames: Option<&OsStr>) -> Result<Vec<String>, NotAnnounced> {
    let count = usize::from(count);
    let Some(names) = listen_fdnames else { return Ok(vec![UNNAMED.to_owned(); count]) };
    let names: Vec<String> = names.to_string_lossy().split(':').map(str::to_owned).collect();
    if names.len() != count {
        return Err(NotAnnounced::Malformed("the number of names in LISTEN_FDNAMES differs from LISTEN_FDS"));
    }
    Ok(names)
}

/// Parses decimal digits. The parser of the standard library also takes a sign.
fn number(text: &OsStr) -> Option<u32> {
    let text = text.to_str()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn os(text: &str) -> Option<&OsStr> {
        Some(OsStr::new(text))
    }

    #[test]
    fn each_descriptor_has_one_name() {
        assert_eq!(names(2, os("a:b")), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(names(2, None), Ok(vec!["unknown".into(), "unknown".into()]));
        for malformed in ["a", "a:b:c", ""] {
            let found = names(2, os(malformed));
            assert!(matches!(found, Err(NotAnnounced::Malformed(_))), "{malformed:?}: {found:?}");
        }
    }

    #[test]
    fn descriptors_for_another_process_are_not_announced() {
        assert_eq!(count(77, None, os("1")), Err(NotAnnounced::Nothing));
        assert_eq!(count(77, os("77"), None), Err(NotAnnounced::Nothing));
        assert_eq!(count(77, os("77"), os("0")), Err(NotAnnounced::Nothing));
        assert_eq!(count(77, os("77"), os("65535")), Ok(65_535));
        for pid in ["78", "0", "", "-77", "+77", "77x", " 77", "4294967373"] {
            assert_eq!(count(77, os(pid), os("1")), Err(NotAnnounced::ForAnother(pid.into())));
        }
        for number in ["", "-1", "+1", "x", "1 ", "65536", "99999999999999999999"] {
            let found = count(77, os("77"), os(number));
            assert!(matches!(found, Err(NotAnnounced::Malformed(_))), "{number:?}: {found:?}");
        }
    }

    proptest! {
        #[test]
        fn announced_names_are_found_again(written in prop::collection::vec("[^:\0]*", 1..20), pid in 1..=u32::MAX) {
            let found = count(pid, os(&pid.to_string()), os(&written.len().to_string())).unwrap();
            prop_assert_eq!(names(found, os(&written.join(":"))), Ok(written));
        }
    }
}
