//! Large frames from one process to several others, in several ways: the time of a frame, its page faults, and the
//! processor time of readers that wait.
//!
//! The publisher and each reader are processes of this executable. Both ends touch every byte. One frame follows the
//! other, as fast as the readers take them.

mod ours;
mod probes;
mod role;
mod way;

pub(crate) use ours::ways;
pub(crate) use probes::probes;
pub(crate) use role::{ROLE, take};
pub use way::{FramePublisher, FrameWay, sum};
