//! Descriptors that nobody asked for.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use libtest_mimic::Trial;
use parlour::{Server, Transport};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::by_hand::line::frame;
use crate::by_hand::unix;
use crate::support::baseline::Baseline;
use crate::support::{Base, Child, DEADLINE, Role, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("descriptors_that_a_client_sends_never_appear_in_the_server", || arrive("server")),
        trial("descriptors_that_a_server_sends_never_appear_in_the_client", || arrive("client")),
    ]
}

/// `receive BASE SIDE`: this side of the library is sent descriptors with every piece of its messages, and says `none`
/// when it has not got any.
pub const RECEIVE: Role = Role { name: "receive", play: receive };

fn receive(arguments: &[String]) {
    let (address, side) = (&arguments[0], arguments[1].as_str());
    let (mut connection, sender, _server);
    match side {
        "server" => {
            let server = Server::bind(address).unwrap();
            sender = unix::dial(server.path());
            connection = server.accept_timeout(DEADLINE).unwrap();
            _server = Some(server);
        }
        _ => {
            let place = crate::by_hand::Place::held_at(address.strip_prefix("unix:").unwrap().as_ref());
            let listener = unix::listener(&place);
            connection = parlour::Connection::connect(address).unwrap();
            sender = unix::accept(&listener);
            _server = None;
        }
    }
    let file = std::fs::File::open("/proc/self/status").unwrap();
    let descriptors: Vec<BorrowedFd<'_>> = (0..100).map(|_| file.as_fd()).collect();
    let before = Baseline::take();
    for count in [1, 2, 100] {
        let bytes = frame(&vec![b'm'; 1000 * count]);
        // With the header, in the middle, and with the rest.
        for piece in [&bytes[..2], &bytes[2..500], &bytes[500..]] {
            send(&sender, piece, &descriptors[..count]);
        }
        let message = connection.recv_timeout(DEADLINE).unwrap().unwrap();
        assert_eq!(message.len(), 1000 * count);
        assert_eq!(Baseline::take(), before, "after {count} at a time");
    }
    // Several messages in one read, with descriptors between them.
    for _ in 0..5 {
        send(&sender, &frame(b"small"), &descriptors[..7]);
    }
    for _ in 0..5 {
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"small");
    }
    assert_eq!(Baseline::take(), before);
    // Some that nobody has received when the connection ends.
    send(&sender, &frame(b"last"), &descriptors);
    drop((connection, sender));
    assert!(Baseline::take().descriptors.len() <= before.descriptors.len() - 2);
    println!("none");
}

fn send(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = vec![MaybeUninit::uninit(); 4096];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    let sent = sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
    assert_eq!(sent, bytes.len());
}

fn arrive(side: &str) {
    let base = Base::new();
    let mut child = Child::spawn("receive", &[base.address(Transport::Unix, "clean"), side.to_owned()]);
    child.expect("none");
    child.finish();
}
