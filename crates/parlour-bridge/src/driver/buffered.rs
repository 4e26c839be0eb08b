//! A TCP connection that is read in long pieces. rustls reads at most 4 KiB at a time, and a record has 16 KiB.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::spare;

/// A connection with a buffer for what has arrived. While nothing arrives, it has none.
#[derive(Debug)]
pub(super) struct Buffered {
    socket: TcpStream,
    /// The bytes `start..end` are to be read.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffered {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, buffer: Vec::new(), start: 0, end: 0 }
    }

    /// Returns the connection.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Fills the buffer, which is empty. Leaves it so at the end of the connection.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() {
            self.buffer = spare::take();
        }
        let mut space = ReadBuf::new(&mut self.buffer);
        let filled = Pin::new(&mut self.socket).poll_read(cx, &mut space);
        let count = space.filled().len();
        (self.start, self.end) = (0, if matches!(filled, Poll::Ready(Ok(()))) { count } else { 0 });
        if self.end == 0 {
            spare::give(std::mem::take(&mut self.buffer));
        }
        filled
    }
}

impl AsyncRead for Buffered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.start == this.end {
            std::task::ready!(this.poll_fill(cx))?;
        }
        let count = out.remaining().min(this.end - this.start);
        out.put_slice(this.buffer.get(this.start..this.start + count).unwrap_or_default());
        this.start += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Buffered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn everything_arrives_in_order_and_then_the_end_and_an_idle_connection_has_no_buffer() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut writer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let mut reader = Buffered::new(listener.accept().await.unwrap().0);
            let bytes: Vec<u8> = (0..200_000u32).map(|number| (number % 251) as u8).collect();
            let sent = bytes.clone();
            let (sender, mut done) = tokio::sync::oneshot::channel();
            let sending = tokio::spawn(async move {
                writer.write_all(&sent).await.unwrap();
                let _ = sender.send(());
                writer
            });
            let mut got = vec![0; bytes.len()];
            for piece in got.chunks_mut(4096) {
                reader.read_exact(piece).await.unwrap();
            }
            assert!(got == bytes && done.try_recv().is_ok());
            let mut byte = [0];
            tokio::select! {
                biased;
                _ = reader.read(&mut byte) => panic!("nothing was sent"),
                () = std::future::ready(()) => {}
            }
            assert!(reader.buffer.is_empty());
            drop(sending.await.unwrap());
            assert_eq!(reader.read(&mut byte).await.unwrap(), 0);
        });
    }
}
