//! A publisher and a reader of frames, with a connection between them.

use parlour::frames::{Frame, FrameLimits, FramePool, FramePoolOptions, FrameReader, ReaderId, ReceivedFrame};
use parlour::{ConnectOptions, Connection, Result, Transport};

use crate::support::{DEADLINE, data};

/// The transports that carry frames.
pub const CARRIERS: &[Transport] = &[Transport::Shm, Transport::Packet, Transport::Unix];

/// The length of the blocks of most tests: not a multiple of a page.
pub const LEN: usize = 10_000;

/// One reader at the end of a connection with the publisher.
pub struct End {
    pub connection: Connection,
    pub reader: FrameReader,
}

impl End {
    /// Receives and opens the next frame.
    #[track_caller]
    pub fn open(&mut self) -> ReceivedFrame {
        self.try_open().unwrap()
    }

    #[track_caller]
    pub fn try_open(&mut self) -> Result<ReceivedFrame> {
        self.reader.open(self.connection.recv_timeout(DEADLINE).unwrap().expect("a frame"))
    }
}

/// A publisher with its end of one connection.
pub struct Publisher {
    pub pool: FramePool,
    pub connection: Connection,
    pub id: ReaderId,
}

impl Publisher {
    /// Fills a block without waiting.
    #[track_caller]
    pub fn fill(&mut self, seed: usize) -> Frame {
        fill(&mut self.pool, seed)
    }

    /// Fills a block without waiting, and sends it.
    #[track_caller]
    pub fn publish(&mut self, seed: usize) {
        let frame = self.fill(seed);
        self.send(&frame).unwrap();
    }

    pub fn send(&mut self, frame: &Frame) -> Result<()> {
        let Self { pool, connection, id } = self;
        pool.send(*id, frame, b"note", |payload| connection.send(payload))
    }

    #[track_caller]
    pub fn held(&mut self) -> usize {
        self.pool.held_by(self.id)
    }
}

/// Fills a block without waiting.
#[track_caller]
pub fn fill(pool: &mut FramePool, seed: usize) -> Frame {
    let mut frame = pool.try_loan().unwrap().expect("a block is free");
    frame.copy_from_slice(data::message(seed, LEN));
    frame.freeze()
}

#[track_caller]
pub fn check(frame: &ReceivedFrame, seed: usize) {
    assert_eq!(frame.note(), b"note");
    data::check(&frame.to_vec().unwrap(), seed, LEN);
}

pub fn pair(transport: Transport) -> (Connection, Connection) {
    ConnectOptions::new().fds_max(2).pair(transport).unwrap()
}

/// Creates the options of a pool for one reader.
pub fn options(share: usize) -> FramePoolOptions {
    FramePoolOptions::new(LEN).readers(1).share(share)
}

/// Attaches a reader to a pool.
#[track_caller]
pub fn attach(pool: &mut FramePool, transport: Transport, limits: &FrameLimits) -> (Connection, ReaderId, End) {
    let (mut ours, mut theirs) = pair(transport);
    let reader = FrameReader::attach(limits, |payload| theirs.send(payload)).unwrap();
    let message = ours.recv_timeout(DEADLINE).unwrap().expect("an attach");
    assert!(FramePool::is_attach(&message));
    let id = pool.admit(message, ours.peer()).unwrap();
    (ours, id, End { connection: theirs, reader })
}

/// Creates a publisher with one reader.
#[track_caller]
pub fn ends(transport: Transport, options: &FramePoolOptions) -> (Publisher, End) {
    let mut pool = options.create().unwrap();
    let (connection, id, end) = attach(&mut pool, transport, &FrameLimits::new());
    (Publisher { pool, connection, id }, end)
}
