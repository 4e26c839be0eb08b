use std::os::fd::AsFd;
use std::thread;

use parlour::{ConnectOptions, Connection, ErrorKind, Server, ServerOptions, SharedBytes, Transport};
use rustix::fs::fstat;

use super::api::Setting;
use super::link::Link;
use crate::support::{Base, Child, DEADLINE, Role, data};

/// Which memory it is, whatever the descriptor.
fn identity(block: &SharedBytes) -> (u64, u64) {
    let stat = fstat(block.as_fd()).unwrap();
    (stat.st_dev, stat.st_ino)
}

pub fn a_shared_block_is_read_where_it_is(setting: Setting) {
    for client_sends in [true, false] {
        let (client, served) =
            Link::with(setting, &ServerOptions::new().fds_max(2), &ConnectOptions::new().fds_max(2)).ends();
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
        // Several under way, and messages without any between them.
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
            assert!(message.fds().is_empty(), "they were taken");
        }
        // What is received can be sent on.
        sender.send_shared(b"there", &[&block]).unwrap();
        let mut message = receiver.recv().unwrap().expect("a message");
        receiver.send_shared(b"and back", &[&message.take_shared().unwrap()[0]]).unwrap();
        let mut message = sender.recv().unwrap().expect("a message");
        assert_eq!(identity(&message.take_shared().unwrap()[0]), identity(&block));
    }
}

/// `fan-out TRANSPORT`: one block of 64 MiB for eight clients, all of them in this process, which says how much memory of
/// its own that took it.
pub const FAN_OUT: Role = Role { name: "fan-out", play: fan_out };

const LARGE: usize = 64 << 20;

fn fan_out(arguments: &[String]) {
    let transport: Transport = arguments[0].parse().unwrap();
    let base = Base::new();
    let address = base.address(transport, "frames");
    let server = Server::bind(&address).unwrap();
    let options = ConnectOptions::new().fds_max(1);
    let pairs: Vec<(Connection, Connection)> = (0..8)
        .map(|_| {
            thread::scope(|scope| {
                let client = scope.spawn(|| options.connect(&address).unwrap());
                (server.accept_timeout(DEADLINE).unwrap(), client.join().unwrap())
            })
        })
        .collect();
    // Built in place: the only memory is the block's own.
    let block = SharedBytes::build(LARGE, |bytes| bytes.iter_mut().step_by(4096).for_each(|byte| *byte = 7)).unwrap();
    let before = kib_of("RssAnon:");
    let mut received = Vec::new();
    for (mut served, mut client) in pairs {
        served.send_shared(b"frame", &[&block]).unwrap();
        received.extend(client.recv_timeout(DEADLINE).unwrap().unwrap().take_shared().unwrap());
    }
    assert_eq!(received.len(), 8);
    for copy in &received {
        assert_eq!(identity(copy), identity(&block));
        assert!(copy.len() == LARGE && copy.iter().step_by(4096).all(|&byte| byte == 7));
    }
    println!("{}", kib_of("RssAnon:").saturating_sub(before));
}

/// A line of `/proc/self/status`.
fn kib_of(what: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse().unwrap()
}

pub fn one_block_goes_to_many_clients_and_is_never_copied(setting: Setting) {
    if setting.transport == Transport::Fifo {
        return;
    }
    let mut child = Child::spawn("fan-out", &[setting.transport.to_string()]);
    let kib: usize = child.line().parse().unwrap();
    assert!(kib < 8 << 10, "eight clients took {kib} KiB of memory of their own");
    child.finish();
}
