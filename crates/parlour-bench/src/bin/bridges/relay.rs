//! A plain relay between a UNIX socket and TCP, with the shape of the bridge and nothing else. With TLS, it is the loop
//! of the bridge as one writes it with tokio and rustls.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Builder;

use crate::tls::{self, Tls};

/// The argument that makes this program a relay.
pub(crate) const ROLE: &str = "--relay";

/// The length of a buffer for one direction, in bytes: that of the bridge.
const BUFFER_LEN: usize = 64 * 1024;

/// Relays from a UNIX socket to an address (`to ADDRESS PATH`), or from an address to a UNIX socket (`from ADDRESS
/// PATH`). A fourth argument is the directory of a realm, whose certificates the connection between them uses.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let [direction, address, path, realm @ ..] = arguments else { bail!("expected to or from, an address and a path") };
    let (address, path): (SocketAddr, PathBuf) = (address.parse().context("parsing the address")?, path.into());
    let tls = realm.first().map(|realm| tls::read(Path::new(realm))).transpose()?;
    Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(async {
        if direction == "to" {
            let listener = UnixListener::bind(&path)?;
            loop {
                let (client, _) = listener.accept().await?;
                tokio::spawn(dial(client, address, tls.clone()));
            }
        }
        let listener = TcpListener::bind(address).await?;
        loop {
            let (remote, _) = listener.accept().await?;
            tokio::spawn(answer(remote, path.clone(), tls.clone()));
        }
    })
}

async fn dial(client: UnixStream, address: SocketAddr, tls: Option<Tls>) -> Result<()> {
    let remote = TcpStream::connect(address).await?;
    remote.set_nodelay(true)?;
    match tls {
        Some(tls) => relay(client, tls.connector.connect(tls.exporter, remote).await?).await,
        None => relay(client, remote).await,
    }
}

async fn answer(remote: TcpStream, path: PathBuf, tls: Option<Tls>) -> Result<()> {
    remote.set_nodelay(true)?;
    match tls {
        Some(tls) => relay(tls.acceptor.accept(remote).await?, UnixStream::connect(path).await?).await,
        None => relay(remote, UnixStream::connect(path).await?).await,
    }
}

/// Moves bytes until both directions have ended. An error ends both.
async fn relay(
    mut one: impl AsyncRead + AsyncWrite + Unpin,
    mut other: impl AsyncRead + AsyncWrite + Unpin,
) -> Result<()> {
    copy_bidirectional_with_sizes(&mut one, &mut other, BUFFER_LEN, BUFFER_LEN).await?;
    Ok(())
}
