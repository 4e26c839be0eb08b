//! Listening sockets that a service manager creates and passes to this process, sd_listen_fds(3), and the selection of
//! those that belong to a name.
//!
//! The path of a socket determines its name and transport: `<base>/<name>/<transport>`, as in an address. A unit
//! contains the name once, in the path of its socket, and clients find the server like any other.

use std::fmt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::net::sockopt::{socket_acceptconn, socket_type};
use rustix::net::{SocketAddrUnix, SocketType, getsockname};

use crate::address::Address;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::sys::listen_fds::{self, NotPassed, Passed};
use crate::transport::Transport;
use crate::wire::listen_fds::NotAnnounced;

const OPERATION: Operation = Operation::Activate;
const OBJECT: &str = "the sockets of the service manager";

/// The sockets that were passed for one name.
pub(crate) struct Activation {
    /// The name, with its base.
    pub(crate) address: Address,
    pub(crate) sockets: Vec<Socket>,
}

/// A listening socket of one transport.
pub(crate) struct Socket {
    pub(crate) transport: Transport,
    pub(crate) passed: Passed,
    /// The mode of the socket file, which the manager chose.
    pub(crate) mode: u32,
}

/// The reason why a descriptor is not a listening socket of a name.
enum Unfit {
    /// The descriptor serves another purpose. It is left alone.
    Foreign(&'static str),
    /// The descriptor belongs to a name and does not meet the requirements.
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
    /// Selects the descriptors with this name; without one, the sockets whose paths are those of a name. All of them
    /// must belong to one name. Other descriptors are left alone.
    pub(crate) fn find(fd_name: Option<&str>) -> Result<Self> {
        let mut passed = listen_fds::passed().map_err(|why| not_passed(&why))?;
        if let Some(fd_name) = fd_name {
            let names: Vec<String> = passed.iter().map(|passed| passed.name.escape_debug().to_string()).collect();
            passed.retain(|passed| passed.name == fd_name);
            if passed.is_empty() {
                let detail = format!("no descriptor is named {fd_name:?} (the names are {})", names.join(", "));
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
                let detail = format!("they belong to two names, {first} and {address}");
                return Err(error(ErrorKind::InvalidOption, detail)
                    .next("give each socket unit its own FileDescriptorName= and select by it"));
            }
            if sockets.iter().any(|other| other.transport == socket.transport) {
                let detail = format!("two sockets are for transport {} of {address}", socket.transport);
                return Err(error(ErrorKind::InvalidOption, detail).next("list each socket once in the socket unit"));
            }
            sockets.push(socket);
        }
        match found {
            Some(address) => Ok(Self { address, sockets }),
            None => Err(error(ErrorKind::InvalidOption, format!("none belongs to a name ({})", foreign.join("; ")))
                .next(
                    "set the path in the socket unit to DIRECTORY/NAME/unix, as in ListenStream=%t/parlour/NAME/unix",
                )),
        }
    }
}

/// Examines a descriptor by its socket address, type and file.
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
        _ if expected == SocketType::STREAM => return Err(wrong("is not a stream socket; use ListenStream= for unix")),
        _ => return Err(wrong("is not a SOCK_SEQPACKET socket; use ListenSequentialPacket= for packet and shm")),
    }
    if !matches!(socket_acceptconn(passed), Ok(true)) {
        return Err(wrong("does not listen and is probably a single connection; use Accept=no"));
    }
    match std::fs::symlink_metadata(Path::new(path)) {
        Ok(file) if file.file_type().is_socket() => Ok((address, transport, file.mode() & 0o777)),
        _ => Err(wrong("is no longer a socket, so clients cannot find it; restart the socket unit")),
    }
}

fn not_passed(why: &NotPassed) -> Error {
    match why {
        NotPassed::NotAnnounced(NotAnnounced::Nothing) => {
            error(ErrorKind::Unsupported, "the environment announces none ($LISTEN_PID, $LISTEN_FDS)".to_owned())
                .next("start the program through its socket unit, or bind a name")
        }
        NotPassed::NotAnnounced(NotAnnounced::ForAnother(pid)) => {
            let detail =
                format!("$LISTEN_PID assigns them to process {pid:?}, and this is process {}", std::process::id());
            error(ErrorKind::Unsupported, detail)
                .next("have the manager start this program directly, or exec it from the wrapper")
        }
        NotPassed::NotAnnounced(NotAnnounced::Malformed(problem)) => {
            error(ErrorKind::InvalidOption, (*problem).to_owned()).next("correct the variables that the manager sets")
        }
        NotPassed::NotOpen(number) => {
            error(ErrorKind::InvalidOption, format!("$LISTEN_FDS includes descriptor {number}, which is not open"))
                .next("take the sockets before other code closes them")
        }
        NotPassed::AllTaken => error(ErrorKind::Unsupported, "they were taken already".to_owned())
            .next("take them once and keep the server, or select other sockets by their FileDescriptorName="),
    }
}

fn error(kind: ErrorKind, detail: String) -> Error {
    Error::new(kind, OPERATION, OBJECT, detail)
}
