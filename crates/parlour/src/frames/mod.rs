//! Frames: large data that one process makes and many read, again and again, without a copy.
//!
//! A publisher has a [`FramePool`]: memory that it allocates once, and that its readers map once. It fills a block,
//! and [sends](FramePool::send) each reader a short message that tells which. A reader that drops the frame returns the
//! block, without a message. A reader that dies returns all that it had. docs/frames.md in the repository has the whole
//! picture.
//!
//! - A [`FrameReader`] copies frames out, in safe code. A [`TrustingReader`] reads them in place, under a promise that
//!   the caller makes in `unsafe` code: [`FrameReader::trust_publisher`].
//! - The messages go over an ordinary connection, between other messages or alone: the caller passes a closure that
//!   sends. So frames go over `shm`, `packet` and `unix`, with a [`Connection`](crate::Connection), a
//!   [`Hub`](crate::Hub) or a [`HubHandle`](crate::hub::HubHandle). `fifo` cannot carry descriptors: attaching fails
//!   with `Unsupported`.
//! - A reader that keeps its frames makes the publisher copy, wait, time out or skip it ([`AtShare`]), and can never
//!   hold more than its [share](FramePoolOptions::share).
//! - The kernel guarantees that only the publisher can write to the memory, and that no access fails, whatever either
//!   side does (`F_SEAL_FUTURE_WRITE`, `F_SEAL_SHRINK`).
//!
//! For data that does not change and is sent once, [`SharedBytes`](crate::SharedBytes) is simpler: it costs an
//! allocation of memory for each block, about half a millisecond for each MiB, which a pool costs once.
//!
//! # Examples
//!
//! ```
//! use parlour::frames::{FrameLimits, FramePool, FrameReader};
//! use parlour::{Connection, ServerOptions};
//!
//! /// The reader, which is usually another program.
//! fn watch(name: &str) -> parlour::Result<Vec<u8>> {
//!     let mut connection = Connection::connect(name)?;
//!     let mut reader = FrameReader::attach(&FrameLimits::new(), |payload| connection.send(payload))?;
//!     let mut pixels = Vec::new();
//!     while let Some(message) = connection.recv()? {
//!         let frame = reader.open(message)?;
//!         assert_eq!(frame.note(), b"frame 1");
//!         frame.copy_to(&mut pixels)?;
//!     }
//!     Ok(pixels)
//! }
//!
//! # let base = tempfile::tempdir()?;
//! # let name = format!("{}/camera", base.path().display());
//! // A reader sends two descriptors when it attaches.
//! let server = ServerOptions::new().fds_max(2).bind(&name)?;
//! let mut pool = FramePool::new(640 * 480)?;
//! let watching = std::thread::spawn(move || watch(&name));
//!
//! let mut connection = server.accept()?;
//! let attach = connection.recv()?.expect("a reader attaches first");
//! let reader = pool.admit(attach, connection.peer())?;
//!
//! let mut frame = pool.loan()?;
//! frame.fill(7);
//! pool.send(reader, &frame.freeze(), b"frame 1", |payload| connection.send(payload))?;
//! connection.close()?;
//! assert_eq!(watching.join().unwrap()?, [7; 640 * 480]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod borrowed;
mod frame;
mod lease;
mod options;
mod pool;
mod reader;
mod received;
mod sending;
mod trust;
mod watch;

pub use frame::{Frame, FrameMut};
pub use options::{AtShare, FrameLimits, FramePoolOptions};
pub use pool::{FramePool, ReaderId};
pub use reader::FrameReader;
pub use received::ReceivedFrame;
pub use trust::{TrustedFrame, TrustingReader};
