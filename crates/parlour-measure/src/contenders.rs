//! The list of contenders.

use crate::contender::Contender;
use crate::{ours, raw};

/// Returns the contenders that need nothing but the system and parlour.
#[must_use]
pub fn contenders() -> Vec<Box<dyn Contender>> {
    raw::contenders().into_iter().chain(ours::contenders()).collect()
}
