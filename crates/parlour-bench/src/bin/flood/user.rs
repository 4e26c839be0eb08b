//! Becoming somebody else.

use anyhow::{Context, Result};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Two users who are nobody on any system.
pub(crate) const HONEST: u32 = 1_500_000_001;
pub(crate) const FLOODER: u32 = 1_500_000_002;

/// For good. The process has one thread when it does this, and the others get its ids from it.
pub(crate) fn become_user(uid: u32) -> Result<()> {
    if geteuid().as_raw() == uid {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    set_thread_groups(&[]).and_then(|()| set_thread_res_gid(group, group, group)).context("becoming another group")?;
    set_thread_res_uid(user, user, user).context("becoming another user")
}
