//! Who is at the other end, and who says so.

use std::fmt;
use std::sync::OnceLock;

use crate::sys::credentials::Credentials;

/// What stands behind a statement about the peer, from nothing to proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Provenance {
    /// Nothing: it is not known.
    Unknown,
    /// The peer itself, or a file that it wrote. For people, never for a decision.
    Claim,
    /// The process was seen to hold the other end, in `/proc`. It can hand that end on, so it is for people too.
    Verified,
    /// The owner of the file through which the peer came, which only that user, or root, can have made.
    FileOwner,
    /// The kernel noted it when the connection was made (`SO_PEERCRED`).
    Kernel,
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Claim => "claim",
            Self::Verified => "verified",
            Self::FileOwner => "file owner",
            Self::Kernel => "kernel",
        })
    }
}

/// Who is at the other end of a connection: process, user and group, each with what vouches for it.
///
/// What is not known is `None`, and never 0 or "nobody". Base decisions on the user (and group) ids; a process id names
/// a process for people and may belong to another one by the time it is read.
#[derive(Clone, PartialEq, Eq)]
pub struct Peer {
    // Side by side and not in pairs: a program may know ten thousand peers.
    ids: [u32; 3],
    /// What vouches for each. Where that is nobody, the id has no meaning, and is 0.
    by: [Provenance; 3],
}

/// Which of the three.
const PID: usize = 0;
const UID: usize = 1;
const GID: usize = 2;

impl Peer {
    const UNKNOWN: Self = Self { ids: [0; 3], by: [Provenance::Unknown; 3] };

    /// What the kernel says about the other end of a socket.
    pub(crate) fn from_kernel(credentials: Credentials) -> Self {
        let Credentials { pid, uid, gid } = credentials;
        Self::UNKNOWN
            .with(PID, Some(pid).filter(|&pid| pid != 0), Provenance::Kernel)
            .with(UID, Some(uid).filter(|&uid| is_mapped(uid, "uid")), Provenance::Kernel)
            .with(GID, Some(gid).filter(|&gid| is_mapped(gid, "gid")), Provenance::Kernel)
    }

    /// What a FIFO tells: its owner, and the process id that its user gave or that was seen to hold it.
    pub(crate) fn from_file(uid: u32, pid: Option<u32>, pid_by: Provenance) -> Self {
        Self::UNKNOWN.with(PID, pid, pid_by).with(
            UID,
            Some(uid).filter(|&uid| is_mapped(uid, "uid")),
            Provenance::FileOwner,
        )
    }

    fn with(mut self, which: usize, id: Option<u32>, by: Provenance) -> Self {
        if let Some(id) = id {
            self.ids[which] = id;
            self.by[which] = by;
        }
        self
    }

    fn id(&self, which: usize) -> Option<u32> {
        (self.by[which] != Provenance::Unknown).then_some(self.ids[which])
    }

    /// The process id, in our own PID namespace.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.id(PID)
    }

    /// What vouches for the process id.
    #[must_use]
    pub fn pid_provenance(&self) -> Provenance {
        self.by[PID]
    }

    /// The effective user id, in our own user namespace.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        self.id(UID)
    }

    /// What vouches for the user id.
    #[must_use]
    pub fn uid_provenance(&self) -> Provenance {
        self.by[UID]
    }

    /// The effective group id, in our own user namespace.
    #[must_use]
    pub fn gid(&self) -> Option<u32> {
        self.id(GID)
    }

    /// What vouches for the group id.
    #[must_use]
    pub fn gid_provenance(&self) -> Provenance {
        self.by[GID]
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({self})")
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (which, what) in ["pid", "uid", "gid"].into_iter().enumerate() {
            let comma = if which == 0 { "" } else { ", " };
            match self.id(which) {
                Some(id) => write!(f, "{comma}{what} {id} ({})", self.by[which])?,
                None => write!(f, "{comma}{what} unknown")?,
            }
        }
        Ok(())
    }
}

/// Whether this id is one, and not what the kernel says for one that our user namespace does not map.
fn is_mapped(id: u32, kind: &str) -> bool {
    static OVERFLOW: OnceLock<u32> = OnceLock::new();
    // One value serves both kinds: nobody has been seen to set them apart, and an id is at worst called unknown.
    let overflow = *OVERFLOW.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/overflowuid");
        text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(65534)
    });
    if id != overflow {
        return true;
    }
    // Only where every id is mapped does the overflow id mean the user of that number.
    std::fs::read_to_string(format!("/proc/self/{kind}_map")).is_ok_and(|map| maps_every_id(&map))
}

/// Whether a map of user_namespaces(7) leaves nothing out.
fn maps_every_id(map: &str) -> bool {
    map.lines().any(|line| line.split_ascii_whitespace().nth(2).and_then(|count| count.parse().ok()) == Some(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_not_visible_is_unknown() {
        let peer = Peer::from_kernel(Credentials { pid: 0, uid: 1000, gid: 1000 });
        assert_eq!((peer.pid(), peer.pid_provenance()), (None, Provenance::Unknown));
        assert_eq!(peer.to_string(), "pid unknown, uid 1000 (kernel), gid 1000 (kernel)");
    }

    #[test]
    fn only_a_whole_map_makes_the_overflow_id_a_user() {
        assert!(maps_every_id("         0          0 4294967295\n"));
        assert!(!maps_every_id("         0       1000          1\n"));
        assert!(!maps_every_id(""));
    }
}
