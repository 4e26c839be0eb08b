//! Clients and servers of this host over `fifo`, `packet` and `shm`.
//!
//! A conversation carries the bytes of `unix`. Such a connection is therefore joined with one end of a pair over
//! `unix`, message by message. Its ends, and its ends within a message, become those of the pair, and the other way
//! round.

use parlour::tokio::{Connection, Receiver, Sender};
use parlour::{ConnectOptions, Transport};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The task that moves the messages. Dropping it ends the connection at once.
#[derive(Debug)]
pub(super) struct Adapted {
    over: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Drop for Adapted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Adapted {
    /// Waits until the peer has got everything that the bridge has written, and its end. To be called when the bridge
    /// has closed its end of the pair.
    pub(super) async fn finish(mut self) {
        self.over.take();
        let _ = (&mut self.task).await;
    }
}

/// Returns a connection over `unix` in the place of one over another transport. If that is not possible, the peer gets
/// an error.
pub(super) fn adapt(connection: Connection) -> parlour::Result<(Connection, Adapted)> {
    let options = ConnectOptions::new().message_max(connection.capabilities().message_max);
    let (inner, outer) = match options.pair_tokio(Transport::Unix) {
        Ok(pair) => pair,
        Err(error) => {
            connection.abort();
            return Err(error);
        }
    };
    let (over, is_over) = oneshot::channel();
    let task = tokio::spawn(run(connection, inner, is_over));
    Ok((outer, Adapted { over: Some(over), task }))
}

async fn run(connection: Connection, inner: Connection, mut is_over: oneshot::Receiver<()>) {
    let (to_peer, from_peer) = connection.split();
    let (to_bridge, from_bridge) = inner.split();
    let mut to_peer = std::pin::pin!(copy(from_bridge, to_peer));
    let mut to_bridge = std::pin::pin!(copy(from_peer, to_bridge));
    // The halves of a direction that has ended are kept: dropping them would end the other one.
    let (mut told, mut heard, mut reads) = (None, None, true);
    while told.is_none() || (heard.is_none() && reads) {
        tokio::select! {
            halves = &mut to_peer, if told.is_none() => told = Some(halves),
            halves = &mut to_bridge, if heard.is_none() => heard = Some(halves),
            // The bridge has closed its end.
            _ = &mut is_over, if reads => reads = false,
        }
    }
}

/// Moves the messages of one direction, and its end. Returns the halves that the other direction may need.
///
/// If a side takes nothing any more, the receiver of the other side is dropped, so that this one is told, too. It would
/// wait for space otherwise.
async fn copy(mut from: Receiver, mut to: Sender) -> (Option<Receiver>, Option<Sender>) {
    loop {
        let sent = match from.recv().await {
            Ok(Some(message)) => to.send(&*message).await,
            Ok(None) => {
                // A peer that is gone needs no end.
                let _ = to.finish().await;
                return (Some(from), Some(to));
            }
            Err(_) => {
                to.abort();
                return (Some(from), None);
            }
        };
        if sent.is_err() {
            return (None, Some(to));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Far more than is usual, for loaded machines.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Sends until an error tells that the other side takes nothing any more.
    async fn send_until_refused(mut to: impl AsyncFnMut(&[u8]) -> parlour::Result<()>) {
        let message = vec![7; 100_000];
        let refused = async { while to(&message).await.is_ok() {} };
        tokio::time::timeout(PATIENCE, refused).await.expect("the sender waits for a receiver that is gone");
    }

    #[tokio::test]
    async fn a_side_that_stops_receiving_is_told_to_the_other_one_and_its_messages_still_arrive() {
        for transport in [Transport::Fifo, Transport::Packet, Transport::Shm] {
            let pair = || ConnectOptions::new().pair_tokio(transport).unwrap();
            // The client or server of this host stops.
            let (peer, connection) = pair();
            let (mut bridge, _adapted) = adapt(connection).unwrap();
            let (mut sender, receiver) = peer.split();
            drop(receiver);
            send_until_refused(async |message| bridge.send(message).await).await;
            sender.send(b"still here").await.unwrap();
            assert_eq!(bridge.recv().await.unwrap().unwrap(), b"still here", "{transport}");
            // The bridge stops.
            let (mut peer, connection) = pair();
            let (bridge, _adapted) = adapt(connection).unwrap();
            let (mut sender, receiver) = bridge.split();
            drop(receiver);
            send_until_refused(async |message| peer.send(message).await).await;
            sender.send(b"still here").await.unwrap();
            assert_eq!(peer.recv().await.unwrap().unwrap(), b"still here", "{transport}");
        }
    }
}
