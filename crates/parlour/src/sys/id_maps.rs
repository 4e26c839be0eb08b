//! Ids that mean nothing in the user namespace of this process, user_namespaces(7).
//!
//! The kernel substitutes the overflow id, 65534 by default, for every id that the namespace does not map. Different
//! users outside of the namespace then look like one user inside.

use std::fs::read_to_string;
use std::sync::atomic::{AtomicU64, Ordering};

/// The kind of an id. Each has a map of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum IdKind {
    User,
    Group,
}

impl IdKind {
    fn map(self) -> Option<String> {
        let path = match self {
            Self::User => "/proc/self/uid_map",
            Self::Group => "/proc/self/gid_map",
        };
        read_to_string(path).ok()
    }
}

/// Returns the overflow uid. It serves for groups too: systems do not set the two apart, and the worst result of a
/// difference is an id that is called unknown.
fn overflow() -> u32 {
    /// The overflow id plus 1, or 0 while it is not known. Threads that get here at the same time read it twice. A lock
    /// would be held for ever in a child that another thread forks meanwhile.
    static OVERFLOW: AtomicU64 = AtomicU64::new(0);
    match OVERFLOW.load(Ordering::Relaxed) {
        0 => {
            let text = read_to_string("/proc/sys/kernel/overflowuid");
            let overflow = text.ok().and_then(|text| text.trim().parse::<u32>().ok()).unwrap_or(65534);
            OVERFLOW.store(u64::from(overflow) + 1, Ordering::Relaxed);
            overflow
        }
        known => (known - 1) as u32,
    }
}

/// Returns true if this is the id of one user or group. The overflow id is one only in a namespace that maps every id;
/// in any other, it may stand for an id that is not mapped.
pub(crate) fn is_known(id: u32, kind: IdKind) -> bool {
    id != overflow() || kind.map().is_some_and(|map| maps_every_id(&map))
}

/// Returns true if this user id stands for users that the namespace does not map, and for no other user.
pub(crate) fn is_unmapped_uid(uid: u32) -> bool {
    uid == overflow() && IdKind::User.map().is_some_and(|map| !maps(&map, uid))
}

/// Parses the lines of a map: the first id inside of the namespace, the first outside, and the number of ids.
fn ranges(map: &str) -> impl Iterator<Item = (u32, u32)> {
    map.lines().filter_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) => Some((first, count)),
            _ => None,
        }
    })
}

fn maps_every_id(map: &str) -> bool {
    ranges(map).any(|(_, count)| count == u32::MAX)
}

fn maps(map: &str, id: u32) -> bool {
    ranges(map).any(|(first, count)| id.checked_sub(first).is_some_and(|offset| offset < count))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = "         0          0 4294967295\n";
    const ONE: &str = "         0       1000          1\n";
    const CONTAINER: &str = "         0       1000          1\n         1     100000      65536\n";

    #[test]
    fn the_overflow_id_is_real_only_where_every_id_is_mapped() {
        assert!(maps_every_id(ALL));
        assert!(!maps_every_id(ONE));
        assert!(!maps_every_id(CONTAINER));
        assert!(!maps_every_id(""));
    }

    #[test]
    fn an_id_is_mapped_if_a_range_contains_it() {
        assert!(maps(ALL, 65534));
        assert!(maps(ONE, 0) && !maps(ONE, 1) && !maps(ONE, 65534));
        assert!(maps(CONTAINER, 65534) && maps(CONTAINER, 65536) && !maps(CONTAINER, 65537));
        assert!(!maps("", 0));
        assert!(!maps("1 x 5\n", 1), "a line that is not a range maps nothing");
    }

    #[test]
    fn other_ids_than_the_overflow_id_are_known_and_mapped() {
        for id in [0, 1, 1000, u32::MAX - 1] {
            assert!(is_known(id, IdKind::User) && is_known(id, IdKind::Group));
            assert!(!is_unmapped_uid(id));
        }
    }
}
