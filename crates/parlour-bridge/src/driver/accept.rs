//! Connections that other bridges have dialled, until it is known what they are for.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::buffered::Buffered;
use super::event::Event;
use super::net::{self, SETUP_TIMEOUT};
use crate::files::tls;
use crate::wire::conversation::{Answer, BadPreamble, Preamble, Refusal};
use crate::wire::{CONTROL, CONVERSATION, FRAME_LEN_MAX};

/// The maximum number of connections whose beginning has not arrived. A further one takes the place of the oldest:
/// strangers who say nothing do not keep the hosts of the realm out, which say it at once.
const HALF_OPEN_MAX: usize = 128;

/// The time between two lines about refused connections, which anybody can cause.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// The pause after an error of accept(2), such as a full table of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn accept(
    listener: TcpListener,
    server: watch::Receiver<Arc<ServerConfig>>,
    lease: Duration,
    events: UnboundedSender<Event>,
    strangers: Arc<AtomicU64>,
    log: fn(&str),
) {
    let logged = Arc::new(Mutex::new(None::<Instant>));
    let mut half_open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((socket, peer)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // That of this moment.
        let (server, events, logged) = (Arc::clone(&server.borrow()), events.clone(), Arc::clone(&logged));
        half_open.retain(|beginning| !beginning.is_finished());
        if half_open.len() >= HALF_OPEN_MAX
            && let Some(oldest) = half_open.pop_front()
        {
            oldest.abort();
            strangers.fetch_add(1, Ordering::Relaxed);
            if is_due(&logged) {
                let closed = "the oldest one was closed for that of";
                log(&format!("{HALF_OPEN_MAX} connections have not begun; {closed} {peer}"));
            }
        }
        let strangers = Arc::clone(&strangers);
        let beginning = tokio::spawn(async move {
            let begun = tokio::time::timeout(SETUP_TIMEOUT, begin(socket, server, lease)).await;
            match begun.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(event) => drop(events.send(event)),
                Err(error) => {
                    strangers.fetch_add(1, Ordering::Relaxed);
                    if is_due(&logged) {
                        log(&format!("a connection from {peer} was refused: {error}"));
                    }
                }
            }
        });
        half_open.push_back(beginning.abort_handle());
    }
}

/// Returns true if the last refusal was logged long enough ago.
fn is_due(logged: &Mutex<Option<Instant>>) -> bool {
    let mut logged = logged.lock().unwrap_or_else(PoisonError::into_inner);
    let is_due = logged.is_none_or(|at| at.elapsed() >= LOG_EVERY);
    if is_due {
        *logged = Some(Instant::now());
    }
    is_due
}

async fn begin(socket: TcpStream, server: Arc<ServerConfig>, lease: Duration) -> io::Result<Event> {
    net::configure(&socket, lease)?;
    let mut remote = TlsStream::from(TlsAcceptor::from(server).accept(Buffered::new(socket)).await?);
    let host = tls::peer(remote.get_ref().1).map_err(io::Error::other)?;
    match remote.read_u8().await? {
        CONTROL => Ok(Event::LinkAccepted { host, remote: Box::new(remote) }),
        CONVERSATION => {
            let mut bytes = vec![CONVERSATION, 0, 0];
            remote.read_exact(bytes.get_mut(1..).unwrap_or_default()).await?;
            let body_len = bytes.get(1..).and_then(|len| len.try_into().ok()).map_or(0, u16::from_be_bytes);
            let len = 3 + usize::from(body_len);
            if len > FRAME_LEN_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            bytes.resize(len, 0);
            remote.read_exact(bytes.get_mut(3..).unwrap_or_default()).await?;
            match Preamble::parse(&bytes) {
                Ok(Some((preamble, _))) => Ok(Event::Preamble { host, preamble, remote: Box::new(remote) }),
                Err(BadPreamble::Version) => {
                    let answer = Answer::Refused(Refusal::Version, String::new());
                    remote.write_all(&answer.encode()).await?;
                    remote.shutdown().await?;
                    Err(io::ErrorKind::InvalidData.into())
                }
                Ok(None) | Err(BadPreamble::Malformed) => Err(io::ErrorKind::InvalidData.into()),
            }
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
