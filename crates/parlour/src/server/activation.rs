//! Listening sockets that a service manager made and hands over, sd_listen_fds(3): which of them belong to a name of ours.
//!
//! Where a socket lies says what it is for: `<base>/<name>/<transport>`, as in an address. So a unit says the name once,
//! in the path of its socket, and clients find the server as they find any other.

use std::fmt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::net::sockopt::{socket_acceptconn, socket_type};
use rustix::net::{SocketAddrUnix, SocketType, getsockname};

use crate::address::Address;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::listen_fds::{self, NotPassed, Passed};
use crate::transport::Transport;

const OPERATION: &str = "take over";
const OBJECT: &str = "the sockets of the service manager";

/// What was handed over for one name.
pub(crate) struct Activation {
    /// The name, with its base.
    pub(crate) address: Address,
    pub(crate) sockets: Vec<Socket>,
}

/// A listening socket of one transport.
pub(crate) struct Socket {
    pub(crate) transport: Transport,
    pub(crate) passed: Passed,
    /// The mode of its file, which the manager chose.
    pub(crate) mode: u32,
}

/// Why a descriptor is not one for a name.
enum Unfit {
    /// It is for something else, and none of our business.
    Foreign(&'static str),
    /// It is meant for a name and is not what it has to be.
    Wrong(String),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign(why) => f.write_str(why),
            Self::Wrong(why) => f.write_str(why),
        }
    }
}

impl Activation {
    /// Those with this descriptor name; or, without one, those that lie where a name's sockets lie. They must be of one
    /// name. All others are left alone.
    pub(crate) fn find(fd_name: Option<&str>) -> Result<Self> {
        let mut passed = listen_fds::passed().map_err(|why| not_passed(&why))?;
        if let Some(fd_name) = fd_name {
            let names: Vec<String> = passed.iter().map(|passed| passed.name.clone()).collect();
            passed.retain(|passed| passed.name == fd_name);
            if passed.is_empty() {
                let detail = format!("none is named {fd_name:?}; those there are named {}", names.join(", "));
                return Err(error(ErrorKind::Unsupported, detail)
                    .next("set FileDescriptorName= in the socket unit, or select another name"));
            }
        }
        let mut sockets: Vec<Socket> = Vec::new();
        let mut found: Option<Address> = None;
        let mut foreign = Vec::new();
        for passed in passed {
            let (address, socket) = match examine(passed) {
                Ok(found) => found,
                Err((name, Unfit::Foreign(why))) if fd_name.is_none() => {
                    foreign.push(format!("{name:?}: {why}"));
                    continue;
                }
                Err((name, unfit)) => return Err(error(ErrorKind::InvalidOption, format!("{name:?}: {unfit}"))),
            };
            let first = found.get_or_insert_with(|| address.clone());
            if *first != address {
                let detail = format!("they are of two names, {first} and {address}");
                return Err(error(ErrorKind::InvalidOption, detail)
                    .next("give each its own FileDescriptorName= and select by that"));
            }
            if sockets.iter().any(|other| other.transport == socket.transport) {
                let detail = format!("two are for {} of {address}", socket.transport);
                return Err(error(ErrorKind::InvalidOption, detail).next("list each socket once in the socket unit"));
            }
            sockets.push(socket);
        }
        match found {
            Some(address) => Ok(Self { address, sockets }),
            None => Err(error(ErrorKind::InvalidOption, format!("none is a name's ({})", foreign.join("; ")))
                .next("have the unit listen on DIRECTORY/NAME/unix, such as ListenStream=%t/parlour/NAME/unix")),
        }
    }
}

/// What a descriptor is, by what the kernel says about it.
fn examine(passed: Passed) -> Result<(Address, Socket), (String, Unfit)> {
    match place(&passed) {
        Ok((address, transport, mode)) => Ok((address, Socket { transport, passed, mode })),
        Err(unfit) => Err((passed.name, unfit)),
    }
}

fn place(passed: &Passed) -> Result<(Address, Transport, u32), Unfit> {
    let local = getsockname(passed).map_err(|_| Unfit::Foreign("it is not a socket"))?;
    let local = SocketAddrUnix::try_from(local).map_err(|_| Unfit::Foreign("it is not a UNIX socket"))?;
    let path = local.path_bytes().and_then(|path| std::str::from_utf8(path).ok());
    let path = path.filter(|path| path.starts_with('/')).ok_or(Unfit::Foreign("it is not bound to a path"))?;
    let elsewhere = Unfit::Foreign("its path does not end in NAME/unix, NAME/packet or NAME/shm");
    let Some((directory, file_name)) = path.rsplit_once('/') else { return Err(elsewhere) };
    let transport = file_name.parse::<Transport>().ok();
    let Some((transport, expected)) = transport.and_then(|it| Some((it, it.socket_type()?))) else {
        return Err(elsewhere);
    };
    let Ok(address) = Address::parse(directory) else { return Err(elsewhere) };

    let wrong = |what: &str| Unfit::Wrong(format!("{path} {what}"));
    match socket_type(passed) {
        Ok(found) if found == expected => {}
        _ if expected == SocketType::STREAM => return Err(wrong("is no stream socket; use ListenStream= for unix")),
        _ => return Err(wrong("keeps no messages apart; use ListenSequentialPacket= for packet and shm")),
    }
    if !matches!(socket_acceptconn(passed), Ok(true)) {
        return Err(wrong("does not listen; it seems to be one connection: use Accept=no"));
    }
    match std::fs::symlink_metadata(Path::new(path)) {
        Ok(file) if file.file_type().is_socket() => Ok((address, transport, file.mode() & 0o777)),
        _ => Err(wrong("is no socket any more, so no client finds it; restart the socket unit")),
    }
}

fn not_passed(why: &NotPassed) -> Error {
    match why {
        NotPassed::Nothing => {
            error(ErrorKind::Unsupported, "none were handed over ($LISTEN_FDS is not set)".to_owned())
                .next("start the program through its socket unit, or bind a name")
        }
        NotPassed::ForAnother(pid) => {
            let detail = format!("they are for process {pid:?} ($LISTEN_PID), and this is {}", std::process::id());
            error(ErrorKind::Unsupported, detail).next("have the manager start this program itself, or exec it")
        }
        NotPassed::Malformed(what) => error(ErrorKind::InvalidOption, (*what).to_owned()),
        NotPassed::AllTaken => error(ErrorKind::Unsupported, "they were taken already".to_owned())
            .next("take them once, and keep the server; a second one selects by another name"),
    }
}

fn error(kind: ErrorKind, detail: String) -> Error {
    Error::new(kind, OPERATION, OBJECT, detail)
}
