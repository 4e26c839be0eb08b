//! Contenders that use the public API of parlour.

mod blocking;
mod hub;
mod version;

use crate::contender::Contender;

pub use blocking::address;
pub use version::version;

/// Returns the contenders of parlour: the blocking API over each transport, and the hub.
#[must_use]
pub fn contenders() -> Vec<Box<dyn Contender>> {
    let over = |transport| Box::new(blocking::Blocking::new(transport, true)) as Box<dyn Contender>;
    let each = |transport| Box::new(blocking::Blocking::new(transport, false)) as Box<dyn Contender>;
    let transports = parlour::Transport::ALL.iter().copied();
    let mut all: Vec<_> = transports.clone().map(over).chain(transports.map(each)).collect();
    all.push(Box::new(hub::Hub));
    all
}
