//! Who is at the other end, and who says so.

use std::fmt;
use std::sync::OnceLock;

use crate::sys::credentials::Credentials;

/// What stands behind a statement about the peer, from nothing to proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Voucher {
    /// Nothing: it is not known.
    Nobody,
    /// The peer itself, or a file that it wrote. For people, never for a decision.
    Claim,
    /// The process was seen to hold the other end, in `/proc`. It can hand that end on, so it is for people too.
    Verified,
    /// The owner of the file through which the peer came, which only that user, or root, can have made.
    FileOwner,
    /// The kernel noted it when the connection was made (`SO_PEERCRED`).
    Kernel,
}

impl fmt::Display for Voucher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "nobody",
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pid: Vouched,
    uid: Vouched,
    gid: Vouched,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Vouched {
    id: Option<u32>,
    by: Voucher,
}

impl Vouched {
    const UNKNOWN: Self = Self { id: None, by: Voucher::Nobody };

    fn new(id: Option<u32>, by: Voucher) -> Self {
        match id {
            Some(_) => Self { id, by },
            None => Self::UNKNOWN,
        }
    }
}

impl Peer {
    /// What the kernel says about the other end of a socket.
    pub(crate) fn from_kernel(credentials: Credentials) -> Self {
        let Credentials { pid, uid, gid } = credentials;
        Self {
            pid: Vouched::new(Some(pid).filter(|&pid| pid != 0), Voucher::Kernel),
            uid: Vouched::new(Some(uid).filter(|&uid| is_mapped(uid, "uid")), Voucher::Kernel),
            gid: Vouched::new(Some(gid).filter(|&gid| is_mapped(gid, "gid")), Voucher::Kernel),
        }
    }

    /// What a FIFO tells: its owner, and the process id that its user gave or that was seen to hold it.
    pub(crate) fn from_file(uid: u32, pid: Option<u32>, pid_by: Voucher) -> Self {
        Self {
            pid: Vouched::new(pid, pid_by),
            uid: Vouched::new(Some(uid).filter(|&uid| is_mapped(uid, "uid")), Voucher::FileOwner),
            gid: Vouched::UNKNOWN,
        }
    }

    /// The process id, in our own PID namespace.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid.id
    }

    /// What vouches for the process id.
    #[must_use]
    pub fn pid_vouched(&self) -> Voucher {
        self.pid.by
    }

    /// The effective user id, in our own user namespace.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        self.uid.id
    }

    /// What vouches for the user id.
    #[must_use]
    pub fn uid_vouched(&self) -> Voucher {
        self.uid.by
    }

    /// The effective group id, in our own user namespace.
    #[must_use]
    pub fn gid(&self) -> Option<u32> {
        self.gid.id
    }

    /// What vouches for the group id.
    #[must_use]
    pub fn gid_vouched(&self) -> Voucher {
        self.gid.by
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (what, vouched)) in
            [("pid", self.pid), ("uid", self.uid), ("gid", self.gid)].into_iter().enumerate()
        {
            let comma = if index == 0 { "" } else { ", " };
            match vouched.id {
                Some(id) => write!(f, "{comma}{what} {id} ({})", vouched.by)?,
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
        assert_eq!((peer.pid(), peer.pid_vouched()), (None, Voucher::Nobody));
        assert_eq!(peer.to_string(), "pid unknown, uid 1000 (kernel), gid 1000 (kernel)");
    }

    #[test]
    fn only_a_whole_map_makes_the_overflow_id_a_user() {
        assert!(maps_every_id("         0          0 4294967295\n"));
        assert!(!maps_every_id("         0       1000          1\n"));
        assert!(!maps_every_id(""));
    }
}
