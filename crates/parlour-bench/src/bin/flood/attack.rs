//! The flooder. It bypasses the library and uses the sockets and the FIFO directly.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use parlour::{ConnectOptions, Connection, Transport};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::args::{Attack, Flood};
use crate::user::become_user;

/// The number of threads of the flooder. On a machine with two processors, the server and the honest client compete
/// with them.
const THREADS: usize = 2;

/// The maximum number of connections that each thread keeps. Beyond it the oldest connection is closed.
const KEPT_MAX: usize = 1500;

/// Prints `ready`. Floods from the next line of stdin until the line after that, then prints the number of attempts.
pub(crate) fn run(args: &Attack) -> Result<()> {
    let hard = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: hard.maximum, ..hard })?;
    become_user(args.uid)?;
    println!("ready");
    std::io::stdin().read_line(&mut String::new())?;
    let ended = Arc::new(AtomicBool::new(false));
    let tried = Arc::new(AtomicU64::new(0));
    for _ in 0..THREADS {
        let (ended, tried) = (Arc::clone(&ended), Arc::clone(&tried));
        let (_, path) = args.address.split_once(':').ok_or_else(|| anyhow!("the address has no transport"))?;
        let flooder = Flooder { transport: args.transport, path: path.to_owned(), address: args.address.clone() };
        let kind = args.kind;
        thread::spawn(move || {
            let mut kept = VecDeque::new();
            while !ended.load(Ordering::Relaxed) {
                let got = match kind {
                    Flood::None => return,
                    Flood::Connects => flooder.connect(),
                    Flood::Junk => flooder.junk(),
                };
                tried.fetch_add(1, Ordering::Relaxed);
                match got {
                    Some(got) if kind == Flood::Connects => kept.push_back(got),
                    Some(_) => {}
                    // The queue or the FIFO is full, which is the aim of the flood.
                    None => thread::yield_now(),
                }
                if kept.len() > KEPT_MAX {
                    kept.pop_front();
                }
            }
        });
    }
    println!("flooding");
    std::io::stdin().read_line(&mut String::new())?;
    ended.store(true, Ordering::Relaxed);
    println!("{}", tried.load(Ordering::Relaxed));
    Ok(())
}

/// A resource that the flooder keeps open.
enum Held {
    Socket(#[allow(dead_code, reason = "kept open")] OwnedFd),
    Connection(#[allow(dead_code, reason = "kept open")] Box<Connection>),
    Nothing,
}

struct Flooder {
    transport: Transport,
    path: String,
    address: String,
}

impl Flooder {
    fn connect(&self) -> Option<Held> {
        match self.transport {
            Transport::Fifo => {
                let options = ConnectOptions::new().timeout(Duration::from_millis(5));
                options.connect(&self.address).ok().map(|connection| Held::Connection(Box::new(connection)))
            }
            _ => self.dial().map(Held::Socket),
        }
    }

    fn junk(&self) -> Option<Held> {
        let fifo = Path::new(&self.path).join("fifo");
        match self.transport {
            Transport::Fifo => {
                let mut fifo = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(fifo).ok()?;
                // A hundred malformed request lines in one write.
                fifo.write_all(&b"parlour1 1 nobody zzz\n".repeat(100)).ok()?;
            }
            // Read as a length prefix, these bytes are the longest length. Read as a greeting, they are invalid and
            // bring no memory.
            _ => drop(send(self.dial()?, &[0xff; 24], SendFlags::NOSIGNAL)),
        }
        Some(Held::Nothing)
    }

    /// Connects a socket without waiting for space in the listener's queue.
    fn dial(&self) -> Option<OwnedFd> {
        let kind = if self.transport == Transport::Unix { SocketType::STREAM } else { SocketType::SEQPACKET };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, kind, flags, None).ok()?;
        let address = SocketAddrUnix::new(Path::new(&self.path).join(self.transport.to_string())).ok()?;
        connect(&socket, &address).ok()?;
        Some(socket)
    }
}
