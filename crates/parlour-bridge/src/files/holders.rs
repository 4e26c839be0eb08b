//! The holders of the names of this host, as far as their users may have them.

use std::fs;
use std::os::unix::fs::MetadataExt;

use parlour::inspect::{self, NameStatus};
use parlour::{Address, ConnectOptions};

use crate::identity::Name;

/// Returns the states of a name of this host, in the order in which clients search them. With `uid`, these are the
/// states of the directories of that user alone: those of all other users are passed over.
///
/// # Errors
///
/// The bases cannot be searched.
pub fn holders(name: &Name, uid: Option<u32>) -> parlour::Result<Vec<NameStatus>> {
    let options = uid.into_iter().fold(ConnectOptions::new(), ConnectOptions::server_uid);
    let found = inspect::resolve_with(name.as_str(), &options)?.candidates;
    let is_of = |status: &NameStatus| uid.is_none_or(|uid| owner(status).is_none_or(|owner| owner == uid));
    Ok(found.into_iter().filter_map(|candidate| candidate.name).filter(is_of).collect())
}

/// Returns the user whose directory the name is, or `None` if it has gone.
#[must_use]
pub fn owner(status: &NameStatus) -> Option<u32> {
    fs::symlink_metadata(&status.path).map(|metadata| metadata.uid()).ok()
}

/// Returns the address at which a client connects to this directory and no other one.
#[must_use]
pub fn address(status: &NameStatus) -> String {
    let path = status.path.to_str().filter(|path| Address::parse(path).is_ok());
    // Only `$PARLOUR_DIR` can lead to a directory without an address, and then there is no other one.
    path.unwrap_or(&status.name).to_owned()
}
