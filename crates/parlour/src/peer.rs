//! The identity of the peer, and the source of each part of it.

use std::fmt;

use crate::sys::credentials::Credentials;
use crate::sys::id_maps::{IdKind, is_known};
use crate::wire::origin::Origin;

/// The source of a statement about the peer. Ordered from no evidence to proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Provenance {
    /// There is no statement.
    Unknown,
    /// The peer stated it, directly or in a file that it wrote. Suitable for people, never for a decision.
    Claim,
    /// `/proc` showed that the process held the other end, or this process started it with that end. A process can pass
    /// its end on, so this is for people too.
    Verified,
    /// The owner of the file through which the peer connected. Only that user or root can have created the file.
    FileOwner,
    /// The kernel recorded it when the connection was established (`SO_PEERCRED`, unix(7)).
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

/// The identity of the peer of a connection: its process, user and group, each with its [`Provenance`].
///
/// An unknown id is `None`, never 0 or "nobody". Base decisions on the user id and group id only. A process id
/// identifies a process for people; the kernel may have reused it for another process by the time it is read.
#[derive(Clone, PartialEq, Eq)]
pub struct Peer {
    // Two arrays are smaller than an array of pairs, and a program may hold ten thousand peers.
    ids: [u32; 3],
    /// The provenance of each id. If it is `Unknown`, the id is 0 and has no meaning.
    by: [Provenance; 3],
    origin: Option<Box<Origin>>,
}

/// Indexes of the three ids.
const PID: usize = 0;
const UID: usize = 1;
const GID: usize = 2;

impl Peer {
    pub(crate) const UNKNOWN: Self = Self { ids: [0; 3], by: [Provenance::Unknown; 3], origin: None };

    /// Returns the identity that the kernel recorded for the peer of a socket.
    pub(crate) fn from_kernel(credentials: Credentials) -> Self {
        let Credentials { pid, uid, gid } = credentials;
        Self::UNKNOWN
            .with(PID, Some(pid).filter(|&pid| pid != 0), Provenance::Kernel)
            .with(UID, Some(uid).filter(|&uid| is_known(uid, IdKind::User)), Provenance::Kernel)
            .with(GID, Some(gid).filter(|&gid| is_known(gid, IdKind::Group)), Provenance::Kernel)
    }

    /// Returns the identity that a FIFO shows: its owner, and the process id that its user stated or that `/proc`
    /// showed.
    pub(crate) fn from_file(uid: u32, pid: Option<u32>, pid_by: Provenance) -> Self {
        Self::UNKNOWN.with(PID, pid, pid_by).with(
            UID,
            Some(uid).filter(|&uid| is_known(uid, IdKind::User)),
            Provenance::FileOwner,
        )
    }

    /// Returns the identity of a child process that this process started with the other end. Its user may be another
    /// one than that of this process, and is unknown.
    pub(crate) fn of_child(pid: u32) -> Self {
        Self::UNKNOWN.with(PID, Some(pid), Provenance::Verified)
    }

    /// Adds the origin that the process of the peer has shown.
    pub(crate) fn with_origin(mut self, origin: Option<Box<Origin>>) -> Self {
        self.origin = origin;
        self
    }

    /// Returns the origin, to be kept.
    pub(crate) fn into_origin(self) -> Option<Box<Origin>> {
        self.origin
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

    /// Returns the process id, in the PID namespace of this process. `None` if it is unknown, for example because the
    /// peer is in a PID namespace that is not visible here. With the provenance [`Claim`](Provenance::Claim), it is the
    /// number in the PID namespace of the peer, which may be another one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.id(PID)
    }

    /// Returns the provenance of the process id.
    #[must_use]
    pub fn pid_provenance(&self) -> Provenance {
        self.by[PID]
    }

    /// Returns the effective user id, in the user namespace of this process. `None` if it is unknown or not mapped
    /// there.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        self.id(UID)
    }

    /// Returns the provenance of the user id.
    #[must_use]
    pub fn uid_provenance(&self) -> Provenance {
        self.by[UID]
    }

    /// Returns the effective group id, in the user namespace of this process. `None` if it is unknown or not mapped
    /// there.
    #[must_use]
    pub fn gid(&self) -> Option<u32> {
        self.id(GID)
    }

    /// Returns the provenance of the group id.
    #[must_use]
    pub fn gid_provenance(&self) -> Provenance {
        self.by[GID]
    }

    /// Returns the other host that the client comes from, if the process that has connected is a bridge
    /// ([`ConnectOptions::origin`](crate::ConnectOptions::origin)) and runs as the user of this server or as root.
    /// `None` for every other client, and for a server.
    ///
    /// The ids of this peer are those of the bridge. It vouches for the host: a policy may base a decision on
    /// [`Origin::host`], as long as it trusts every process of this user.
    ///
    /// # Examples
    ///
    /// A server for clients of this host, and for those of one other host:
    ///
    /// ```no_run
    /// let options = parlour::ServerOptions::new();
    /// let options = options.allow(|peer| peer.origin().is_none_or(|origin| origin.host() == "a.example"));
    /// let server = options.bind("wc")?;
    /// # Ok::<(), parlour::Error>(())
    /// ```
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_deref()
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
        if let Some(origin) = &self.origin {
            write!(f, ", for {origin}")?;
        }
        Ok(())
    }
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
}
