use std::ops::Range;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use parlour::{ConnectOptions, ErrorKind, Payload, Server, ServerOptions, SharedBytes, Transport};
use rustix::fs::fstat;

use super::api::{Connection, Setting, settings};
use super::link;
use super::{HUB_KEEPS_BLOCKS, NO_SERVER};
use crate::support::{Base, Child, DEADLINE, Role, data, trials};

trials! {
    for setting in settings() =>
        a_shared_block_arrives_without_a_copy,
        a_full_channel_takes_neither_message_nor_block unless setting.is_a_hub(HUB_KEEPS_BLOCKS),
        a_block_is_sent_once_and_after_all_buffered_messages,
        a_waiting_sender_of_blocks_uses_no_cpu_time,
        one_block_goes_to_many_clients_and_is_never_copied unless setting.is_a_pair(NO_SERVER);
}

/// Identifies the memory of a block independently of the descriptor: device and inode.
fn identity(block: &SharedBytes) -> (u64, u64) {
    let stat = fstat(block.as_fd()).unwrap();
    (stat.st_dev, stat.st_ino)
}

fn a_shared_block_arrives_without_a_copy(setting: Setting) {
    for client_sends in [true, false] {
        let (client, served) =
            link::ends_with(setting, &ServerOptions::new().fds_max(2), &ConnectOptions::new().fds_max(2));
        let (mut sender, mut receiver) = if client_sends { (client, served) } else { (served, client) };
        let block = SharedBytes::new(data::message(1, 1000)).unwrap();
        if !sender.capabilities().zero_copy {
            let error = sender.send_shared(b"no", &[&block]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            sender.send(b"yes").unwrap();
            assert_eq!(receiver.recv().unwrap().expect("a message"), b"yes");
            continue;
        }
        let (other, third) = (SharedBytes::new(data::message(2, 70_001)).unwrap(), SharedBytes::new(b"").unwrap());
        // Several messages with blocks in flight, and messages without blocks between them.
        sender.send_shared(b"one", &[&block]).unwrap();
        sender.feed(b"none").unwrap();
        sender.send_shared(b"two", &[&other, &third]).unwrap();
        sender.send(b"none").unwrap();
        sender.send_shared(b"", &[]).unwrap();
        for (bytes, sent) in [
            (&b"one"[..], vec![&block]),
            (b"none", vec![]),
            (b"two", vec![&other, &third]),
            (b"none", vec![]),
            (b"", vec![]),
        ] {
            let mut message = receiver.recv_timeout(DEADLINE).unwrap().expect("a message");
            assert_eq!(message, bytes);
            let blocks = message.take_shared().unwrap();
            assert_eq!(blocks.len(), sent.len(), "{message:?}");
            for (block, sent) in blocks.iter().zip(sent) {
                assert_eq!(identity(block), identity(sent));
                assert_eq!(block[..], sent[..]);
            }
            assert!(message.fds().is_empty(), "take_shared left a descriptor");
        }
        // A received block can be sent again.
        sender.send_shared(b"there", &[&block]).unwrap();
        let mut message = receiver.recv().unwrap().expect("a message");
        receiver.send_shared(b"and back", &[&message.take_shared().unwrap()[0]]).unwrap();
        let mut message = sender.recv().unwrap().expect("a message");
        assert_eq!(identity(&message.take_shared().unwrap()[0]), identity(&block));
    }
}

/// Returns both ends, of which the first may send blocks, or `None` if the transport does not carry blocks.
fn ends(setting: Setting) -> Option<(Connection, Connection)> {
    let options = ConnectOptions::new().fds_max(1);
    let (sender, receiver) = link::ends_with(setting, &ServerOptions::new().fds_max(1), &options);
    sender.capabilities().zero_copy.then_some((sender, receiver))
}

/// Sends until the channel is full. Returns the number of messages.
fn fill(sender: &mut Connection) -> usize {
    let mut count = 0;
    while sender.try_send(data::message(count, 3001)).is_ok() {
        count += 1;
    }
    count
}

fn drain(receiver: &mut Connection, numbers: Range<usize>, length: usize) {
    for number in numbers {
        data::check(&receiver.recv_timeout(DEADLINE).unwrap().expect("a message"), number, length);
    }
}

fn expect(receiver: &mut Connection, bytes: &[u8], block: &SharedBytes) {
    let mut message = receiver.recv_timeout(DEADLINE).unwrap().expect("a message");
    assert_eq!(message, bytes);
    let blocks = message.take_shared().unwrap();
    assert_eq!(blocks.iter().map(identity).collect::<Vec<_>>(), [identity(block)]);
}

fn a_full_channel_takes_neither_message_nor_block(setting: Setting) {
    let Some((mut sender, mut receiver)) = ends(setting) else { return };
    let [late, in_time] = [b"late", b"time"].map(|bytes| SharedBytes::new(bytes).unwrap());
    let count = fill(&mut sender);
    for _ in 0..3 {
        let error = sender.send_timeout(Payload::new(b"late").shared(&[&late]), Duration::from_millis(5)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    }
    thread::scope(|scope| {
        scope.spawn(|| sender.send_timeout(Payload::new(b"in time").shared(&[&in_time]), DEADLINE).unwrap());
        drain(&mut receiver, 0..count, 3001);
        expect(&mut receiver, b"in time", &in_time);
    });
    sender.close().unwrap();
    assert_eq!(receiver.recv().unwrap(), None);
}

/// The fed messages do not fit into the channel at once.
fn a_block_is_sent_once_and_after_all_buffered_messages(setting: Setting) {
    let Some((mut sender, mut receiver)) = ends(setting) else { return };
    let blocks: Vec<_> = (0..20u8).map(|number| SharedBytes::new(&[number]).unwrap()).collect();
    for block in &blocks {
        let count = fill(&mut sender);
        for number in 0..500 {
            sender.feed(data::message(number, 100)).unwrap();
        }
        thread::scope(|scope| {
            scope.spawn(|| sender.send(Payload::new(&[7; 100_000]).shared(&[block])).unwrap());
            drain(&mut receiver, 0..count, 3001);
            drain(&mut receiver, 0..500, 100);
            expect(&mut receiver, &[7; 100_000], block);
        });
    }
    sender.close().unwrap();
    assert_eq!(receiver.recv().unwrap(), None);
}

/// Returns the CPU time of this thread.
fn thread_time() -> Duration {
    rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).try_into().unwrap()
}

/// The messages are short, so the number of descriptors in flight is what limits the sender.
fn a_waiting_sender_of_blocks_uses_no_cpu_time(setting: Setting) {
    let Some((mut sender, mut receiver)) = ends(setting) else { return };
    let block = SharedBytes::new(b"block").unwrap();
    let mut count = 0;
    loop {
        assert!(count < 10_000, "the number of blocks in flight is unbounded");
        let before = thread_time();
        match sender.send_timeout(Payload::new(b"one more").shared(&[&block]), Duration::from_millis(500)) {
            Ok(()) => count += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
                let used = thread_time() - before;
                assert!(used < Duration::from_millis(100), "a wait of half a second used {used:?} of CPU time");
                break;
            }
        }
    }
    for _ in 0..count {
        expect(&mut receiver, b"one more", &block);
    }
}

/// `fan-out TRANSPORT`: sends one block of 64 MiB to eight clients, all of them in this process, and prints by how
/// many KiB its private memory grew.
pub const FAN_OUT: Role = Role { name: "fan-out", play: fan_out };

const LARGE: usize = 64 << 20;

fn fan_out(arguments: &[String]) {
    let transport: Transport = arguments[0].parse().unwrap();
    let base = Base::new();
    let address = base.address(transport, "frames");
    let server = Server::bind(&address).unwrap();
    let options = ConnectOptions::new().fds_max(1);
    let pairs: Vec<(parlour::Connection, parlour::Connection)> = (0..8)
        .map(|_| {
            thread::scope(|scope| {
                let client = scope.spawn(|| options.connect(&address).unwrap());
                (server.accept_timeout(DEADLINE).unwrap(), client.join().unwrap())
            })
        })
        .collect();
    // Built in place, so the block is the only memory that is used.
    let block = SharedBytes::build(LARGE, |bytes| bytes.iter_mut().step_by(4096).for_each(|byte| *byte = 7)).unwrap();
    let before = kib_of("RssAnon:");
    let mut received = Vec::new();
    for (mut served, mut client) in pairs {
        served.send(Payload::new(b"frame").shared(&[&block])).unwrap();
        received.extend(client.recv_timeout(DEADLINE).unwrap().unwrap().take_shared().unwrap());
    }
    assert_eq!(received.len(), 8);
    for copy in &received {
        assert_eq!(identity(copy), identity(&block));
        assert!(copy.len() == LARGE && copy.iter().step_by(4096).all(|&byte| byte == 7));
    }
    println!("{}", kib_of("RssAnon:").saturating_sub(before));
}

/// Returns the number in a line of `/proc/self/status`.
fn kib_of(what: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse().unwrap()
}

fn one_block_goes_to_many_clients_and_is_never_copied(setting: Setting) {
    if setting.transport == Transport::Fifo {
        return;
    }
    let mut child = Child::spawn("fan-out", &[setting.transport.to_string()]);
    let kib: usize = child.line().parse().unwrap();
    assert!(kib < 8 << 10, "eight clients used {kib} KiB of private memory");
    child.finish();
}
