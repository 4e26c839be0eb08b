//! Clients that go away, send junk or stall.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use parlour::{ConnectOptions, Connection, Transport};

use crate::by_hand::unix::{dial, dial_bound};
use crate::support::DEADLINE;

/// Waits for the server, and connects.
pub fn connect(path: &Path) -> Connection {
    let options = ConnectOptions::new().wait_for_server(DEADLINE).message_max(64 << 20);
    options.connect(format!("{}:{}", Transport::Unix, path.display())).unwrap()
}

/// A client that ends, together with all that it holds until then.
pub type Rude = Box<dyn std::any::Any>;

/// A client by its name, and the function that connects it. What the function returns stays open.
pub type RudeClient = (&'static str, fn(&Path) -> Rude);

pub const RUDE: [RudeClient; 9] = [
    ("that goes away at once", |path| {
        drop(connect(path));
        Box::new(())
    }),
    ("that goes away while it is answered", |path| {
        let mut client = connect(path);
        for _ in 0..10_000 {
            if client.try_send(b"y").is_err() {
                break;
            }
        }
        Box::new(())
    }),
    ("that ends in the middle of a message", |path| {
        write(&dial_bound(path).0, b"\0\0\0\x09half");
        Box::new(())
    }),
    ("that sends junk", |path| {
        let (stream, _) = dial_bound(path);
        write(&stream, &[0xff; 4096]);
        Box::new(stream)
    }),
    ("that no client of parlour is", |path| {
        let stream = dial(path);
        write(&stream, b"GET / HTTP/1.1\r\n\r\n");
        Box::new(stream)
    }),
    ("that sends the longest message", |path| {
        let mut client = connect(path);
        let _ = client.send_timeout(&vec![b'y'; 16 << 20], DEADLINE);
        Box::new(client)
    }),
    ("that stops in the middle of a message", |path| {
        let (stream, _) = dial_bound(path);
        write(&stream, b"\0\0\0\x09half");
        Box::new(stream)
    }),
    ("that never receives", |path| {
        let mut client = connect(path);
        while client.try_send(&[b'y'; 10_000]).is_ok() {}
        Box::new(client)
    }),
    ("that ends its sending at once", |path| {
        let (stream, _) = dial_bound(path);
        stream.shutdown(Shutdown::Write).unwrap();
        Box::new(stream)
    }),
];

fn write(mut stream: &UnixStream, bytes: &[u8]) {
    // The server may have closed the connection already.
    let _ = stream.write_all(bytes);
}
