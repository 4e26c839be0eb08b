//! Connections to other bridges.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

use super::buffered::Buffered;
use crate::files::tls;
use crate::identity::Host;

/// The time for a connection with its handshake and its first bytes.
pub(super) const SETUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The number of unanswered probes after which an idle connection has failed.
const KEEPALIVE_PROBES: u32 = 4;

/// A connection to another bridge.
pub(super) type Remote = TlsStream<Buffered>;

/// Dials the addresses of a host one after the other, until the host answers. Fails with the last error.
pub(super) async fn dial_any(
    host: &Host,
    addresses: &[SocketAddr],
    client: &Arc<ClientConfig>,
    lease: Duration,
) -> io::Result<(Remote, SocketAddr)> {
    let mut failed = io::Error::other("it has no address");
    for &address in addresses {
        match dial(host, address, Arc::clone(client), lease).await {
            Ok(remote) => return Ok((remote, address)),
            Err(error) => failed = io::Error::new(error.kind(), format!("{address}: {error}")),
        }
    }
    Err(failed)
}

/// Dials a host, and verifies that the peer is it.
pub(super) async fn dial(
    host: &Host,
    address: SocketAddr,
    client: Arc<ClientConfig>,
    lease: Duration,
) -> io::Result<Remote> {
    let connecting = async {
        let socket = TcpStream::connect(address).await?;
        configure(&socket, lease)?;
        let name = tls::server_name(host).map_err(io::Error::other)?;
        let stream = TlsStream::from(TlsConnector::from(client).connect(name, Buffered::new(socket)).await?);
        let peer = tls::peer(stream.get_ref().1).map_err(io::Error::other)?;
        if peer != *host {
            return Err(io::Error::other(format!("the peer is {peer}")));
        }
        Ok(stream)
    };
    tokio::time::timeout(SETUP_TIMEOUT, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Lets a connection that is idle notice that the other host has gone.
///
/// The end of the link tells everybody else. A limit for unacknowledged data (`TCP_USER_TIMEOUT`) would end the
/// conversation of a client or a server that reads nothing for that time: it counts from the moment at which the window
/// of the receiver is full.
pub(super) fn configure(socket: &TcpStream, lease: Duration) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let quarter = (lease / 4).max(Duration::from_secs(1));
    sockopt::set_tcp_keepidle(socket, quarter)?;
    sockopt::set_tcp_keepintvl(socket, quarter)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
    sockopt::set_socket_keepalive(socket, true)?;
    Ok(())
}
