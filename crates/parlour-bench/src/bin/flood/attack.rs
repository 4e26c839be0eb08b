//! The flooder, which does not care what the library would let it do: it talks to the sockets and the FIFO itself.

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

/// In one flooder. Its machine has two processors, of which the server and the honest client want one, too.
const THREADS: usize = 2;

/// How many connections each of them keeps, at most; the oldest go first.
const KEPT_MAX: usize = 1500;

/// Says `ready`, floods from the next line on, and at the one after that says how often it has tried.
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
        let (_, path) = args.address.split_once(':').ok_or_else(|| anyhow!("an address with a transport"))?;
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
                    // The queue or the FIFO is full, as it is to be.
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

/// Something that is held on to.
enum Kept {
    Socket(#[allow(dead_code, reason = "it is open")] OwnedFd),
    Connection(#[allow(dead_code, reason = "it is open")] Box<Connection>),
    Nothing,
}

struct Flooder {
    transport: Transport,
    path: String,
    address: String,
}

impl Flooder {
    fn connect(&self) -> Option<Kept> {
        match self.transport {
            Transport::Fifo => {
                let options = ConnectOptions::new().timeout(Duration::from_millis(5));
                options.connect(&self.address).ok().map(|connection| Kept::Connection(Box::new(connection)))
            }
            _ => self.dial().map(Kept::Socket),
        }
    }

    fn junk(&self) -> Option<Kept> {
        let fifo = Path::new(&self.path).join("fifo");
        match self.transport {
            Transport::Fifo => {
                let mut fifo = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(fifo).ok()?;
                // A hundred lines that are none, in one write.
                fifo.write_all(&b"parlour1 1 nobody zzz\n".repeat(100)).ok()?;
            }
            // The longest length that there is, and as a greeting a word that no memory comes with.
            _ => drop(send(self.dial()?, &[0xff; 24], SendFlags::NOSIGNAL)),
        }
        Some(Kept::Nothing)
    }

    /// Without waiting for a place in the queue.
    fn dial(&self) -> Option<OwnedFd> {
        let kind = if self.transport == Transport::Unix { SocketType::STREAM } else { SocketType::SEQPACKET };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, kind, flags, None).ok()?;
        let address = SocketAddrUnix::new(Path::new(&self.path).join(self.transport.to_string())).ok()?;
        connect(&socket, &address).ok()?;
        Some(socket)
    }
}
