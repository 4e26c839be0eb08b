//! The ring in every order that the memory model allows, checked by loom:
//! `RUSTFLAGS='--cfg loom' cargo test -p parlour --lib`.
//!
//! The memory is on the heap, and each byte of the ring is a cell that loom watches. The model fails if a byte is read
//! while it may be written, or if a sleeping side is never woken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unsafe_code)]

use std::io::{IoSlice, IoSliceMut};
use std::sync::atomic::Ordering;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU64;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::ring::{Memory, Reader, Sides, Unreadable, Word, Writer};

struct Heap {
    words: [AtomicU64; 4],
    ring: Vec<UnsafeCell<u8>>,
}

impl Heap {
    fn new(capacity: usize) -> std::sync::Arc<Self> {
        let words = std::array::from_fn(|_| AtomicU64::new(0));
        std::sync::Arc::new(Self { words, ring: (0..capacity).map(|_| UnsafeCell::new(0)).collect() })
    }
}

// SAFETY: loom's cells detect every conflicting access, which is the purpose of this test.
unsafe impl Sync for Heap {}

impl Memory for &Heap {
    fn capacity(&self) -> usize {
        self.ring.len()
    }

    fn load(&self, word: Word) -> u64 {
        self.words[word as usize].load(Ordering::Relaxed)
    }

    fn store(&self, word: Word, value: u64) {
        self.words[word as usize].store(value, Ordering::Release);
    }

    fn increment(&self, word: Word) {
        self.words[word as usize].fetch_add(1, Ordering::Release);
    }

    unsafe fn copy_in(&self, at: usize, from: &[u8]) {
        for (cell, &byte) in self.ring[at..at + from.len()].iter().zip(from) {
            // SAFETY: loom fails the model if another thread accesses the cell.
            cell.with_mut(|place| unsafe { *place = byte });
        }
    }

    unsafe fn copy_out(&self, at: usize, into: &mut [u8]) {
        for (cell, byte) in self.ring[at..at + into.len()].iter().zip(into) {
            // SAFETY: loom fails the model if another thread writes to the cell.
            cell.with(|place| *byte = unsafe { *place });
        }
    }
}

/// The memory of both sides: that of this side and that of the peer.
struct Heaps(std::sync::Arc<Heap>, std::sync::Arc<Heap>);

impl Sides for Heaps {
    type Memory<'a> = &'a Heap;

    fn local(&self) -> &Heap {
        &self.0
    }

    fn remote(&self) -> &Heap {
        &self.1
    }
}

/// Creates one direction of a connection, and the socket beside it. The state of the socket is that which poll(2) would
/// report.
fn direction(capacity: usize) -> (Writer<Heaps>, Reader<Heaps>, Arc<Socket>) {
    let (writers, readers) = (Heap::new(capacity), Heap::new(1));
    let writer = Writer::new(Heaps(writers.clone(), readers.clone()).into());
    (writer, Reader::new(Heaps(readers, writers).into()), Arc::new(Socket::default()))
}

/// The datagrams that announce bytes, and the filler that makes the socket not writable.
#[derive(Default)]
struct Socket {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    told: bool,
    filled: bool,
}

impl Socket {
    fn notify_peer(&self) {
        self.state.lock().unwrap().told = true;
        self.changed.notify_all();
    }

    fn fill(&self) {
        self.state.lock().unwrap().filled = true;
        self.changed.notify_all();
    }

    fn take(&self) {
        *self.state.lock().unwrap() = State::default();
        self.changed.notify_all();
    }

    fn wait_readable(&self) {
        let mut state = self.state.lock().unwrap();
        while !state.told && !state.filled {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn wait_writable(&self) {
        let mut state = self.state.lock().unwrap();
        while state.filled {
            state = self.changed.wait(state).unwrap();
        }
    }
}

/// Sends like `Sender`, but without polling before it sleeps.
fn send(writer: &mut Writer<Heaps>, socket: &Socket, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let count = writer.write(&[IoSlice::new(bytes)]).unwrap();
        bytes = &bytes[count..];
        if count > 0 {
            if writer.should_notify() {
                socket.notify_peer();
            }
            continue;
        }
        socket.fill();
        if !writer.request_wakeup().unwrap() {
            socket.wait_writable();
        }
    }
}

/// Receives like `Receiver`, but without polling before it sleeps.
fn receive(reader: &mut Reader<Heaps>, socket: &Socket, count: usize) -> Vec<u8> {
    let mut received = Vec::new();
    while received.len() < count {
        let mut bytes = [0; 4];
        let here = reader.read(&mut [IoSliceMut::new(&mut bytes)]).unwrap();
        received.extend_from_slice(&bytes[..here]);
        if here > 0 {
            if reader.should_notify() {
                socket.take();
            }
            continue;
        }
        socket.take();
        reader.request_wakeup();
        if reader.available() == Ok(0) {
            socket.wait_readable();
        }
    }
    received
}

fn check(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(model);
}

#[test]
fn bytes_are_whole_when_their_position_is_seen() {
    check(None, || {
        let (mut writer, mut reader, _) = direction(2);
        let writing = thread::spawn(move || {
            assert_eq!(writer.write(&[IoSlice::new(b"ab")]), Ok(2));
            // Overwrites the bytes that were taken.
            writer.write(&[IoSlice::new(b"cd")]).unwrap()
        });
        let mut bytes = [0; 2];
        let first = reader.read(&mut [IoSliceMut::new(&mut bytes[..1])]).unwrap();
        assert_eq!(&bytes[..first], &b"a"[..first]);
        let second = reader.read(&mut [IoSliceMut::new(&mut bytes[first..])]).unwrap();
        assert_eq!(&bytes[..first + second], &b"ab"[..first + second]);
        assert!(writing.join().unwrap() <= 2);
    });
}

#[test]
fn a_reader_that_sleeps_is_woken() {
    check(None, || {
        let (mut writer, mut reader, socket) = direction(2);
        let writing = thread::spawn({
            let socket = Arc::clone(&socket);
            move || send(&mut writer, &socket, b"a")
        });
        assert_eq!(receive(&mut reader, &socket, 1), b"a");
        writing.join().unwrap();
    });
}

/// The reader takes all that it needs and does not sleep afterwards.
#[test]
fn a_writer_that_sleeps_is_woken_by_one_read() {
    check(None, || {
        let (mut writer, mut reader, socket) = direction(1);
        send(&mut writer, &socket, b"a");
        let writing = thread::spawn({
            let socket = Arc::clone(&socket);
            move || send(&mut writer, &socket, b"b")
        });
        let mut byte = [0];
        assert_eq!(reader.read(&mut [IoSliceMut::new(&mut byte)]), Ok(1));
        if reader.should_notify() {
            socket.take();
        }
        writing.join().unwrap();
    });
}

#[test]
fn a_writer_that_sleeps_is_woken() {
    check(Some(4), || {
        let (mut writer, mut reader, socket) = direction(1);
        // The ring is full before the other thread starts.
        send(&mut writer, &socket, b"a");
        let writing = thread::spawn({
            let socket = Arc::clone(&socket);
            move || send(&mut writer, &socket, b"b")
        });
        assert_eq!(receive(&mut reader, &socket, 2), b"ab");
        writing.join().unwrap();
    });
}

#[test]
fn a_stream_longer_than_the_ring_flows_with_both_ends_sleeping() {
    check(Some(3), || {
        let (mut writer, mut reader, socket) = direction(1);
        let writing = thread::spawn({
            let socket = Arc::clone(&socket);
            move || send(&mut writer, &socket, b"abc")
        });
        assert_eq!(receive(&mut reader, &socket, 3), b"abc");
        writing.join().unwrap();
    });
}

/// The writer aborts a full ring, and the reader takes bytes out at the same moment. The reader never takes the end for
/// one after the last byte.
#[test]
fn a_byte_that_is_taken_back_is_missing_or_known_to_be() {
    check(None, || {
        let (mut writer, mut reader, _) = direction(2);
        assert_eq!(writer.write(&[IoSlice::new(b"ab")]), Ok(2));
        let aborting = thread::spawn(move || writer.take_back());
        let mut bytes = [0; 2];
        let mut taken = 0;
        for _ in 0..2 {
            taken += reader.read(&mut [IoSliceMut::new(&mut bytes[taken..])]).unwrap_or(0);
        }
        aborting.join().unwrap();
        let end = reader.read(&mut [IoSliceMut::new(&mut [0])]);
        match taken {
            1 => assert_eq!(end, Ok(0)),
            _ => assert_eq!((taken, end), (2, Err(Unreadable::TakenBack))),
        }
    });
}
