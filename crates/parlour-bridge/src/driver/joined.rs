//! The task of a conversation: it moves the bytes as the state says.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::net::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::local::Local;
use super::net::Remote;
use crate::conversation::{Conversation, LINGER_MAX, Status, Step};
use crate::traffic::Traffic;

/// Runs a conversation until it is over. `lost` reports that its link is lost. `counts` has the traffic of its host and
/// of its name.
pub(super) async fn run(local: Local, remote: Box<Remote>, lost: Arc<Notify>, counts: [Arc<Traffic>; 2]) {
    let conversation = Conversation::new();
    let mut joined = Joined { conversation, local, remote: Some(remote), needs_flush: true, counts };
    let mut is_lost = false;
    while joined.conversation.status() != Status::Over {
        let is_lingering = joined.conversation.status() == Status::Lingering;
        tokio::select! {
            () = std::future::poll_fn(|cx| joined.poll(cx)) => {}
            () = lost.notified(), if !is_lost => {
                is_lost = true;
                joined.conversation.remote_broke();
                // A local side that reads nothing does not hold it, too.
                joined.remote = None;
            }
            () = tokio::time::sleep(LINGER_MAX), if is_lingering => joined.conversation.lingered(),
        }
    }
    // A local side that reads slowly does not hold the other host.
    joined.remote = None;
    joined.local.close().await;
}

struct Joined {
    conversation: Conversation,
    local: Local,
    /// `None` after the loss of the link.
    remote: Option<Box<Remote>>,
    /// The TLS connection may have bytes that the socket has not taken.
    needs_flush: bool,
    counts: [Arc<Traffic>; 2],
}

impl Joined {
    /// Moves bytes until neither side can go on, and counts them. Completes when the status has changed.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let moved = self.poll_move(cx);
        let (received, sent) = self.conversation.take_passed();
        self.local.count(received, sent);
        self.counts.iter().for_each(|traffic| traffic.add(received, sent));
        moved
    }

    fn poll_move(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let before = self.conversation.status();
        for _ in 0..32 {
            let moved = [self.read_local(cx), self.write_remote(cx), self.read_remote(cx), self.write_local(cx)];
            if self.conversation.status() != before {
                return Poll::Ready(());
            }
            if !moved.contains(&true) {
                self.conversation.release_buffers();
                return Poll::Pending;
            }
        }
        // Other tasks have their turns.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn read_local(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(space) = self.conversation.local_space() else { return false };
        let mut buffer = ReadBuf::new(space);
        match Pin::new(&mut self.local.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) => match buffer.filled().len() {
                0 => self.conversation.local_ended(),
                count => self.conversation.local_filled(count),
            },
            Poll::Ready(Err(_)) => self.conversation.local_broke(),
        }
        true
    }

    fn write_local(&mut self, cx: &mut Context<'_>) -> bool {
        let local = Pin::new(&mut self.local.stream);
        match self.conversation.local_step() {
            Step::Write(bytes) => match local.poll_write(cx, bytes) {
                Poll::Pending => return false,
                Poll::Ready(Ok(count)) => self.conversation.local_written(count),
                Poll::Ready(Err(_)) => self.conversation.local_refused(),
            },
            Step::End => match local.poll_shutdown(cx) {
                Poll::Pending => return false,
                Poll::Ready(_) => self.conversation.local_done(),
            },
            Step::Close => self.conversation.local_done(),
            Step::Wait | Step::Cut => return false,
        }
        true
    }

    /// Reads what has arrived. A read returns one record of TLS at most, which has 16 KiB, and fewer and longer writes
    /// to the local side wake its reader less often.
    fn read_remote(&mut self, cx: &mut Context<'_>) -> bool {
        let mut has_read = false;
        while let (Some(space), Some(remote)) = (self.conversation.remote_space(), self.remote.as_deref_mut()) {
            let mut buffer = ReadBuf::new(space);
            match Pin::new(remote).poll_read(cx, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) => match buffer.filled().len() {
                    0 => self.conversation.remote_ended(),
                    count => self.conversation.remote_filled(count),
                },
                // Also an end of file without `close_notify`.
                Poll::Ready(Err(_)) => self.conversation.remote_broke(),
            }
            has_read = true;
            // There is always space for these, and a peer may send them as fast as they are read.
            if self.conversation.discards_remote() {
                break;
            }
        }
        has_read
    }

    fn write_remote(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(remote) = self.remote.as_deref_mut() else { return false };
        match self.conversation.remote_step() {
            Step::Write(bytes) => match Pin::new(remote).poll_write(cx, bytes) {
                Poll::Pending => return false,
                Poll::Ready(Ok(count)) => {
                    self.needs_flush = true;
                    self.conversation.remote_written(count);
                }
                Poll::Ready(Err(_)) => self.conversation.remote_refused(),
            },
            Step::End => match Pin::new(remote).poll_shutdown(cx) {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) => self.conversation.remote_done(),
                Poll::Ready(Err(_)) => self.conversation.remote_refused(),
            },
            Step::Cut => match Pin::new(&mut *remote).poll_flush(cx) {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) if cut(remote).is_ok() => self.conversation.remote_done(),
                Poll::Ready(_) => self.conversation.remote_refused(),
            },
            Step::Wait | Step::Close => {
                if !self.needs_flush {
                    return false;
                }
                match Pin::new(remote).poll_flush(cx) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(())) => self.needs_flush = false,
                    Poll::Ready(Err(_)) => {
                        self.needs_flush = false;
                        self.conversation.remote_refused();
                    }
                }
                return false;
            }
        }
        true
    }
}

/// Ends the connection for writing, without `close_notify`.
fn cut(remote: &Remote) -> io::Result<()> {
    Ok(rustix::net::shutdown(remote.get_ref().0.socket(), Shutdown::Write)?)
}

#[cfg(test)]
mod tests {
    use parlour::Transport;
    use parlour::tokio::Connection;
    use tokio::io::AsyncWriteExt;

    use super::super::desk::tests::{remote, runtime, tls};
    use super::super::local;
    use super::*;

    #[test]
    fn bytes_that_the_local_side_does_not_take_are_read_in_pieces() {
        runtime().block_on(async {
            let (here, mut there) = remote(&tls()).await;
            let (client, _peer) = Connection::pair(Transport::Unix).unwrap();
            let mut joined = Joined {
                conversation: Conversation::new(),
                local: local::local(client).unwrap(),
                remote: Some(Box::new(here)),
                needs_flush: false,
                counts: [Arc::default(), Arc::default()],
            };
            joined.conversation.local_refused();
            // It fits into the buffers of the sockets.
            there.write_all(&[0; 1000]).await.unwrap();
            there.shutdown().await.unwrap();
            let mut reads = 0;
            std::future::poll_fn(|cx| {
                while joined.read_remote(cx) {
                    reads += 1;
                }
                if joined.conversation.remote_space().is_none() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            // The bytes, and the end. Otherwise a peer that sends for ever would keep this task from all others.
            assert!(reads > 1, "one call has read everything");
        });
    }
}
