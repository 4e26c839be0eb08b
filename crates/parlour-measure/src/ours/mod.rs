//! Contenders that use the public API of parlour.

mod blocking;
mod calls;
mod hub;
mod version;

use self::blocking::{Blocking, Way};
use crate::contender::Contender;

pub use blocking::address;
pub use version::version;

/// Returns the contenders of parlour: the blocking API and calls over each transport, and the hub.
#[must_use]
pub fn contenders() -> Vec<Box<dyn Contender>> {
    let blocking = |transport, way| Box::new(Blocking::new(transport, way)) as Box<dyn Contender>;
    let transports = parlour::Transport::ALL.iter().copied();
    let mut all: Vec<_> = transports.clone().map(|transport| blocking(transport, Way::Feed)).collect();
    all.extend(transports.clone().map(|transport| blocking(transport, Way::Send)));
    all.extend(transports.clone().map(|transport| blocking(transport, Way::Connector)));
    all.extend(transports.clone().map(|transport| Box::new(calls::Calls::new(transport)) as Box<dyn Contender>));
    all.extend(transports.map(|transport| Box::new(hub::HubEcho::new(transport)) as Box<dyn Contender>));
    all.push(Box::new(hub::Hub));
    all
}
