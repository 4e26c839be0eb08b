use parlour::{ErrorKind, Peer, Provenance};

use super::api::{Setting, settings};
use super::link::{CHILD_ROLES, WithChild};
use crate::support::trials;
use crate::support::wait;

const NO_PIDFD: &str = "a hub does not provide pidfds";

trials! {
    for setting in settings() =>
        each_side_knows_the_others_process_and_user,
        a_pidfd_of_the_peer_shows_its_death_where_the_kernel_supports_it unless setting.is_a_hub(NO_PIDFD),
        the_capabilities_are_the_same_on_both_sides;
}

fn each_side_knows_the_others_process_and_user(setting: Setting) {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    for role in CHILD_ROLES {
        let WithChild { child, connection, room: _room } = WithChild::new(setting, role);
        let peer = connection.peer();
        assert_eq!((peer.pid(), peer.uid()), (Some(child.pid()), Some(uid)), "peer of a {role}: {peer}");
        if connection.capabilities().credentials {
            assert_eq!(peer.gid(), Some(gid));
            assert_eq!(vouchers(peer), [Provenance::Kernel; 3], "peer of a {role}: {peer}");
        } else {
            // The server has verified that the process holds the other end of the FIFO. The client only has the pid
            // that the owner record claims.
            let pid_by = if role == "client" { Provenance::Verified } else { Provenance::Claim };
            assert_eq!(
                vouchers(peer),
                [pid_by, Provenance::FileOwner, Provenance::Unknown],
                "peer of a {role}: {peer}"
            );
        }
        let shown = format!("pid {} ({}), uid {uid} (", child.pid(), peer.pid_provenance());
        assert!(peer.to_string().starts_with(&shown), "{peer}");
    }
}

fn vouchers(peer: &Peer) -> [Provenance; 3] {
    [peer.pid_provenance(), peer.uid_provenance(), peer.gid_provenance()]
}

fn a_pidfd_of_the_peer_shows_its_death_where_the_kernel_supports_it(setting: Setting) {
    for role in CHILD_ROLES {
        let WithChild { mut child, connection, room: _room } = WithChild::new(setting, role);
        match connection.peer_pidfd() {
            Ok(pidfd) => {
                assert!(!wait::readable_within(&pidfd, std::time::Duration::ZERO), "the child is alive");
                child.kill();
                assert!(wait::readable(&pidfd), "the child is dead");
            }
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::Unsupported, "{error}");
                assert_eq!(ErrorKind::Unsupported.to_string(), "unsupported");
            }
        }
    }
}

fn the_capabilities_are_the_same_on_both_sides(setting: Setting) {
    let (client, served) = super::link::ends(setting);
    assert_eq!(client.capabilities(), served.capabilities());
    assert_eq!(client.capabilities().message_max, 16 << 20);
}
