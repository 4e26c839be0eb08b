//! Change of the user of this process.

use anyhow::{Context, Result};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// The user ids of the honest client and of the flooder, which no system assigns.
pub(crate) const HONEST: u32 = 1_500_000_001;
pub(crate) const FLOODER: u32 = 1_500_000_002;

/// Changes the user and the groups of this process irrevocably. The process has only one thread at this time; later
/// threads inherit the ids.
pub(crate) fn become_user(uid: u32) -> Result<()> {
    if geteuid().as_raw() == uid {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    set_thread_groups(&[])
        .and_then(|()| set_thread_res_gid(group, group, group))
        .context("changing the group of this process")?;
    set_thread_res_uid(user, user, user).context("changing the user of this process")
}
