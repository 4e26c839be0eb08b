//! Connections without a server: both ends of a pair in one process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, getpeername, socketpair, sockopt};
use rustix::pipe::{PipeFlags, pipe_with};

use super::config::{ConnectConfig, MessageMax};
use super::notice::Origin;
use super::shm::inherit::{Memories, NoMemory};
use super::{Link, fifo, packet, shm, unix};
use crate::peer::{Peer, Provenance};
use crate::sys::credentials::peer_credentials;
use crate::sys::pass_rights::{refuse_descriptors, take_descriptors};
use crate::sys::retry::retry;
use crate::transport::Transport;

/// Creates both ends of a connection. No name and no file is involved.
pub(crate) fn pair(transport: Transport, config: &ConnectConfig) -> io::Result<(Link, Link)> {
    match transport {
        Transport::Fifo => fifo_pair(config),
        Transport::Shm | Transport::Packet | Transport::Unix => {
            let (one, other) = sockets(transport)?;
            let one = first_end(transport, one, config)?;
            let prepared = Prepared::new(transport, other.as_fd(), config.ring_size).map_err(|why| match why {
                NotAnEnd::Io(error) => error,
                why => io::Error::other(format!("{why:?}")),
            })?;
            Ok((one, prepared.second_end(other, config)?))
        }
    }
}

/// Creates two connected sockets of the type of this transport.
fn sockets(transport: Transport) -> io::Result<(OwnedFd, OwnedFd)> {
    let socket_type = match transport {
        Transport::Unix => SocketType::STREAM,
        Transport::Packet | Transport::Shm | Transport::Fifo => SocketType::SEQPACKET,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(retry(|| socketpair(AddressFamily::UNIX, socket_type, flags, None))?)
}

/// Makes the end of the process that has made the pair of sockets. Over `shm` it sends the hello for the other end.
fn first_end(transport: Transport, socket: OwnedFd, config: &ConnectConfig) -> io::Result<Link> {
    match transport {
        Transport::Shm => {
            let peer = Peer::from_kernel(peer_credentials(&socket)?);
            shm::inherit::make(socket, peer, config).map(Link::shm)
        }
        _ => socket_end(transport, socket, config.message_max),
    }
}

/// Makes an end of `unix` or `packet` of a connected socket. The kernel recorded the process that made the pair.
fn socket_end(transport: Transport, socket: OwnedFd, max: MessageMax) -> io::Result<Link> {
    let peer = Peer::from_kernel(peer_credentials(&socket)?);
    if max.fds() == 0 {
        refuse_descriptors(&socket)?;
    }
    Ok(match transport {
        Transport::Unix => Link::unix(unix::establish(socket, peer, Origin::Pair, max)),
        _ => Link::packet(packet::establish(socket, peer, Origin::Pair, max)),
    })
}

/// Creates one end, and the socket of the other end for a child process: in blocking mode, as programs expect that do
/// not use this library.
pub(crate) fn with_socket(transport: Transport, config: &ConnectConfig) -> io::Result<(Link, OwnedFd)> {
    let (one, other) = sockets(transport)?;
    // The mode belongs to this end of the pair alone.
    rustix::io::ioctl_fionbio(&other, false)?;
    Ok((first_end(transport, one, config)?, other))
}

/// The reason for which a descriptor is not one end of a pair.
#[derive(Debug)]
pub(crate) enum NotAnEnd {
    /// The words that follow "the descriptor".
    Wrong(&'static str),
    /// The hello of `shm` is missing, or is wrong.
    Hello(String),
    /// A user made the pair whom this side does not accept.
    Denied(Option<u32>),
    Io(io::Error),
}

/// Examines an inherited descriptor. Without an announced transport, it is the one that belongs to the type of the
/// socket.
pub(crate) fn examine(
    fd: BorrowedFd<'_>,
    announced: Option<Transport>,
    config: &ConnectConfig,
) -> Result<Prepared, NotAnEnd> {
    let domain = sockopt::socket_domain(fd).map_err(|errno| match errno {
        Errno::NOTSOCK => NotAnEnd::Wrong("is not a socket"),
        errno => NotAnEnd::Io(errno.into()),
    })?;
    if domain != AddressFamily::UNIX {
        return Err(NotAnEnd::Wrong("is not a UNIX socket"));
    }
    let io = |errno: Errno| NotAnEnd::Io(errno.into());
    let transport = match (sockopt::socket_type(fd).map_err(io)?, announced) {
        (SocketType::STREAM, None | Some(Transport::Unix)) => Transport::Unix,
        (SocketType::SEQPACKET, None | Some(Transport::Packet)) => Transport::Packet,
        (SocketType::SEQPACKET, Some(Transport::Shm)) => Transport::Shm,
        (SocketType::STREAM | SocketType::SEQPACKET, Some(_)) => {
            return Err(NotAnEnd::Wrong("is a socket of another type than the announced transport has"));
        }
        _ => return Err(NotAnEnd::Wrong("is a socket of another type than SOCK_STREAM and SOCK_SEQPACKET")),
    };
    if sockopt::socket_acceptconn(fd).map_err(io)? {
        return Err(NotAnEnd::Wrong("is a listening socket"));
    }
    match getpeername(fd) {
        Ok(_) => {}
        Err(Errno::NOTCONN) => return Err(NotAnEnd::Wrong("is a socket that is not connected")),
        Err(errno) => return Err(io(errno)),
    }
    let peer = Peer::from_kernel(peer_credentials(fd).map_err(NotAnEnd::Io)?);
    match config.accepts(peer.uid()) {
        true => Prepared::new(transport, fd, config.peer_ring_max),
        false => Err(NotAnEnd::Denied(peer.uid())),
    }
}

/// The transport of a socket, and over `shm` the memories that its hello carries.
pub(crate) struct Prepared {
    transport: Transport,
    memories: Option<Memories>,
}

impl Prepared {
    fn new(transport: Transport, fd: BorrowedFd<'_>, ring_max: usize) -> Result<Self, NotAnEnd> {
        let map = || {
            shm::inherit::map(fd, ring_max).map_err(|why| match why {
                NoMemory::Hello(why) => NotAnEnd::Hello(why),
                NoMemory::Io(error) => NotAnEnd::Io(error),
            })
        };
        Ok(Self { transport, memories: (transport == Transport::Shm).then(map).transpose()? })
    }

    pub(crate) fn transport(&self) -> Transport {
        self.transport
    }

    /// Makes the end of this socket.
    fn second_end(self, socket: OwnedFd, config: &ConnectConfig) -> io::Result<Link> {
        let Self { transport, memories } = self;
        let Some(memories) = memories else { return socket_end(transport, socket, config.message_max) };
        let peer = Peer::from_kernel(peer_credentials(&socket)?);
        shm::inherit::take(socket, memories, peer, config).map(Link::shm)
    }

    /// Makes the end of a socket that [`examine`] accepted.
    pub(crate) fn adopt(self, socket: OwnedFd, config: &ConnectConfig) -> io::Result<Link> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        if config.message_max.fds() > 0 {
            take_descriptors(&socket)?;
        }
        self.second_end(socket, config)
    }
}

/// Two pipes, which are FIFOs without names.
fn fifo_pair(config: &ConnectConfig) -> io::Result<(Link, Link)> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
    let ((one_reader, other_writer), (other_reader, one_writer)) = (pipe()?, pipe()?);
    let uid = rustix::process::geteuid().as_raw();
    let end = |reader, writer| {
        let peer = Peer::from_file(uid, Some(std::process::id()), Provenance::Verified);
        Link::fifo(fifo::establish(reader, writer, peer, None, config.message_max))
    };
    Ok((end(one_reader, one_writer), end(other_reader, other_writer)))
}
