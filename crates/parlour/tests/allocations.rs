//! Sending and receiving with a reused `Vec` allocates no memory, nor does exchanging values. Releasing a server,
//! which a signal handler may do, does not use the allocator.
#![allow(unsafe_code, reason = "the trait GlobalAlloc is unsafe")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::IoSlice;
use std::process::ExitCode;
use std::thread;

use parlour::{Connection, Payload, Server, ServerOptions, Transport, TryRecvError};
use support::{Base, data, trials};

/// Counts the allocations of each thread, their bytes, and the deallocations.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
    static FREES: Cell<usize> = const { Cell::new(0) };
}

fn allocations() -> usize {
    ALLOCATIONS.get()
}

fn count_one(bytes: usize) {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    BYTES.set(BYTES.get().wrapping_add(bytes));
}

// SAFETY: every call is forwarded to the system's allocator unchanged. The counters are plain cells that allocate
// nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one(layout.size());
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_one(layout.size());
        // SAFETY: the caller upholds the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count_one(new_size);
        // SAFETY: the caller upholds the contract of `realloc`, and the memory came from the same allocator.
        unsafe { System.realloc(memory, layout, new_size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        FREES.set(FREES.get() + 1);
        // SAFETY: the caller upholds the contract of `dealloc`, and the memory came from the same allocator.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// The number of rounds until all buffers have their final size, and the number of rounds that are counted.
const WARM_UP: usize = 20;
const COUNTED: usize = 200;

/// The name of a test, and its way to send a message.
type Send = (&'static str, fn(&mut Connection, &[u8]));

const SENDS: [Send; 3] = [
    ("sending", |end, message| end.send(message).unwrap()),
    ("sending_in_parts", |end, message| {
        let (one, other) = message.split_at(message.len() / 3);
        end.send(Payload::vectored(&[IoSlice::new(one), IoSlice::new(other)])).unwrap();
    }),
    ("feeding", |end, message| {
        end.feed(message).unwrap();
        end.flush().unwrap();
    }),
];

const LENGTHS: [usize; 3] = [64, 4096, 256 * 1024];
const LENGTHS_OF_TASKS: [usize; 3] = [64, 256 * 1024, 4 << 20];

trials! {
    an_allocation_is_counted;

    for transport in Transport::ALL =>
        how_and_receiving_length_bytes_allocates_nothing(how in SENDS, length in LENGTHS),
        tasks_that_exchange_length_bytes_allocate_nothing_for_messages(length in LENGTHS_OF_TASKS),
        releasing_a_server_does_not_use_the_allocator,
        sending_and_receiving_values_allocates_nothing;
}

fn main() -> ExitCode {
    support::run(&[], &[trials])
}

fn an_allocation_is_counted() {
    let before = (allocations(), FREES.get());
    drop(std::hint::black_box(Box::new(7)));
    assert_eq!((allocations() - before.0, FREES.get() - before.1), (1, 1));
}

/// The values own no heap memory. All ways to send and to receive are used.
fn sending_and_receiving_values_allocates_nothing(transport: Transport) {
    type Value = (u64, [[u32; 32]; 32], Option<bool>);
    let value: Value = (1 << 40, [[1 << 30; 32]; 32], Some(true));
    let base = Base::new();
    let address = base.address(transport, "room");
    let server = Server::bind(&address).unwrap();
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let mut served = server.accept().unwrap().typed::<Value, Value>();
            rounds(|| {
                for _ in 0..3 {
                    let received = served.recv_timeout(support::DEADLINE).unwrap().unwrap();
                    served.send(&received).unwrap();
                }
            })
        });
        let mut client = Connection::connect(&address).unwrap().typed::<Value, Value>();
        let of_client = rounds(|| {
            client.send(&value).unwrap();
            assert_eq!(client.recv().unwrap(), Some(value));
            client.feed(&value).unwrap();
            assert_eq!(client.recv_timeout(support::DEADLINE).unwrap(), Some(value));
            client.try_send(&value).unwrap();
            let received = loop {
                match client.try_recv() {
                    Err(TryRecvError::Empty) => thread::yield_now(),
                    received => break received.unwrap(),
                }
            };
            assert_eq!(received, Some(value));
        });
        assert_eq!((of_client, serving.join().unwrap()), (0, 0), "allocations of the client and the server");
    });
}

fn how_and_receiving_length_bytes_allocates_nothing(transport: Transport, (_, send): Send, length: usize) {
    let base = Base::new();
    let address = base.address(transport, "room");
    let server = Server::bind(&address).unwrap();
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let mut served = server.accept().unwrap();
            let mut message = Vec::new();
            rounds(|| {
                assert!(served.recv_into(&mut message).unwrap().is_some());
                send(&mut served, &message);
            })
        });
        let mut client = Connection::connect(&address).unwrap();
        let mut reply = Vec::new();
        let of_client = rounds(|| {
            send(&mut client, data::message(0, length));
            assert!(client.recv_into(&mut reply).unwrap().is_some());
            data::check(&reply, 0, length);
        });
        assert_eq!((of_client, serving.join().unwrap()), (0, 0), "allocations of the client and the server");
    });
}

/// A task lends its buffers to the connection for each poll, and the caller's memory must be returned. (A runtime
/// itself makes a few allocations where a task yields.)
fn tasks_that_exchange_length_bytes_allocate_nothing_for_messages(transport: Transport, length: usize) {
    let base = Base::new();
    let address = base.address(transport, "room");
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let of_server = runtime();
    let server = of_server.block_on(async { ServerOptions::new().bind_tokio(&address) }).unwrap();
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let mut served = of_server.block_on(server.accept()).unwrap();
            let mut message = Vec::new();
            allocated_in_rounds(|| {
                of_server.block_on(async {
                    assert!(served.recv_into(&mut message).await.unwrap().is_some());
                    served.send(&message).await.unwrap();
                });
            })
        });
        let of_client = runtime();
        let mut client = of_client.block_on(parlour::tokio::Connection::connect(&address)).unwrap();
        let mut reply = Vec::new();
        let of_client_task = allocated_in_rounds(|| {
            of_client.block_on(async {
                client.send(data::message(0, length)).await.unwrap();
                assert!(client.recv_into(&mut reply).await.unwrap().is_some());
            });
            data::check(&reply, 0, length);
        });
        let most = COUNTED * length.min(1024) / 2;
        let both = [of_client_task, serving.join().unwrap()];
        assert!(
            both.iter().all(|&(_, bytes)| bytes < most),
            "allocations and bytes of the client and the server: {both:?}"
        );
    });
}

/// The server has client files to remove, and its path is longer than the stack buffer for paths.
fn releasing_a_server_does_not_use_the_allocator(transport: Transport) {
    let base = Base::new();
    let deep = base.path().join("d".repeat(200)).join("e".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    let address = format!("{transport}:{}/room", deep.display());
    let server = Server::bind(&address).unwrap();
    for number in 0..3 {
        let file = format!("{}-{number:032x}.s2c", std::process::id());
        rustix::fs::mkfifoat(rustix::fs::CWD, server.path().join("c").join(file), rustix::fs::Mode::RUSR).unwrap();
    }
    let before = (allocations(), FREES.get());
    server.release().unwrap();
    assert_eq!((allocations() - before.0, FREES.get() - before.1), (0, 0), "allocations and deallocations");
    assert!(!server.path().exists(), "the directory of the name is gone");
}

/// Returns the number of allocations in this thread during [`COUNTED`] rounds, after [`WARM_UP`] others.
fn rounds(round: impl FnMut()) -> usize {
    allocated_in_rounds(round).0
}

/// Returns the number of allocations and their bytes in this thread during [`COUNTED`] rounds, after [`WARM_UP`]
/// others.
fn allocated_in_rounds(mut round: impl FnMut()) -> (usize, usize) {
    (0..WARM_UP).for_each(|_| round());
    let before = (allocations(), BYTES.get());
    (0..COUNTED).for_each(|_| round());
    (allocations() - before.0, BYTES.get().wrapping_sub(before.1))
}
