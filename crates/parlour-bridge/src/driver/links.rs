//! The task of a link.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::Instant;

use super::event::Event;
use crate::identity::{LinkId, Name};
use crate::link::{Action, Link, Role};
use crate::wire::CONTROL;

/// The time for sending the rest of a link that is closed.
const FINISH_TIMEOUT: Duration = Duration::from_millis(500);

/// The maximum number of events of one link that were reported, and that the desk has not dropped. A few keep the desk
/// busy, and others wait for it no longer than these take.
const EVENTS_IN_FLIGHT_MAX: usize = 16;

/// A wish of the desk.
#[derive(Debug)]
pub(super) enum Wish {
    Export(Name),
    Withdraw(Name),
    Quit,
}

/// A link with its connection.
pub(super) struct LinkTask<S> {
    pub(super) id: LinkId,
    pub(super) link: Link,
    pub(super) remote: S,
    pub(super) role: Role,
    /// The origin of the times of the link.
    pub(super) start: Instant,
    /// When the desk drops the other end, the link is closed, after everything was sent.
    pub(super) wishes: UnboundedReceiver<Wish>,
    pub(super) events: UnboundedSender<Event>,
}

/// Runs a link until it is down. `first` are the actions with which it begins.
///
/// A peer can cause more work than it has itself. So the link reads nothing while the desk has not heard what it has
/// read before.
pub(super) async fn run<S: AsyncRead + AsyncWrite>(task: LinkTask<S>, first: Vec<Action>) {
    let LinkTask { id, mut link, remote, role, start, mut wishes, events } = task;
    let (mut reader, mut writer) = tokio::io::split(remote);
    let mut out = if role == Role::Importer { vec![CONTROL] } else { Vec::new() };
    let (mut buffer, mut needs_flush, mut actions) = (vec![0; 4096], false, first);
    let (places, mut unheard) = (Arc::new(Semaphore::new(EVENTS_IN_FLIGHT_MAX)), VecDeque::new());
    loop {
        for action in std::mem::take(&mut actions) {
            match action {
                Action::Send(frame) => frame.encode(&mut out),
                action => match Arc::clone(&places).try_acquire_owned() {
                    Ok(place) if unheard.is_empty() => drop(events.send(Event::Link { id, action, place })),
                    _ => unheard.push_back(action),
                },
            }
        }
        let Some(deadline) = link.deadline() else { break };
        let now = || start.elapsed();
        let is_heard = unheard.is_empty();
        tokio::select! {
            place = Arc::clone(&places).acquire_owned(), if !is_heard => {
                if let (Some(action), Ok(place)) = (unheard.pop_front(), place) {
                    let _ = events.send(Event::Link { id, action, place });
                }
                // The peer may have sent more meanwhile, which was not read.
                link.was_held_up(now());
            }
            read = reader.read(&mut buffer), if is_heard => actions = match read {
                Ok(count @ 1..) => link.receive(buffer.get(..count).unwrap_or_default(), now()),
                Ok(0) | Err(_) => link.end(),
            },
            written = write(&mut writer, &out), if !out.is_empty() || needs_flush => match written {
                Ok(count) => {
                    needs_flush = !out.is_empty();
                    out.drain(..count);
                }
                Err(_) => actions = link.end(),
            },
            wish = wishes.recv() => actions = match wish {
                Some(Wish::Export(name)) => link.export(name, now()),
                Some(Wish::Withdraw(name)) => link.withdraw(name, now()),
                Some(Wish::Quit) => link.quit(now()),
                None => return finish(writer, &out).await,
            },
            () = tokio::time::sleep_until(start + deadline) => {
                if !is_heard {
                    link.was_held_up(now());
                }
                actions = link.tick(now());
            }
        }
    }
    // The peer does not wait for the desk.
    drop((reader, writer));
    while let Some(action) = unheard.pop_front() {
        tokio::select! {
            place = Arc::clone(&places).acquire_owned() => {
                let Ok(place) = place else { return };
                let _ = events.send(Event::Link { id, action, place });
            }
            () = dropped(&mut wishes) => return,
        }
    }
}

/// Returns when the desk has dropped the link.
async fn dropped(wishes: &mut UnboundedReceiver<Wish>) {
    while wishes.recv().await.is_some() {}
}

/// Sends the rest, and closes the connection. A peer that takes nothing does not hold this up.
async fn finish<S: AsyncRead + AsyncWrite>(mut writer: WriteHalf<S>, rest: &[u8]) {
    let finishing = async {
        if writer.write_all(rest).await.is_ok() {
            let _ = writer.shutdown().await;
        }
    };
    let _ = tokio::time::timeout(FINISH_TIMEOUT, finishing).await;
}

/// Writes some of the bytes, or flushes what was written if there are none.
async fn write<S: AsyncRead + AsyncWrite>(writer: &mut WriteHalf<S>, bytes: &[u8]) -> io::Result<usize> {
    match bytes {
        [] => writer.flush().await.map(|()| 0),
        _ => writer.write(bytes).await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::identity::{Host, Instance};
    use crate::link::Myself;
    use crate::wire::control::{Endpoint, Frame, Hello};

    /// Far more pairs than one read returns.
    const PAIRS: usize = 5000;

    /// Hears the next event, and drops it.
    async fn hear(mailbox: &mut UnboundedReceiver<Event>) -> Action {
        let event = mailbox.recv().await;
        assert!(mailbox.len() < EVENTS_IN_FLIGHT_MAX);
        match event {
            Some(Event::Link { action, .. }) => action,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_peer_that_sends_more_than_the_desk_can_hear_has_to_wait_and_nothing_is_lost() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let host = |text| Host::parse(text).unwrap();
        let lease = crate::link::LEASE_MAX;
        let (id, endpoint) = (LinkId(1), Endpoint::default());
        runtime.block_on(async {
            let myself = Myself { host: host("me"), instance: Instance([1; 16]), endpoint: endpoint.clone(), lease };
            let (link, first) = Link::new(Role::Importer, myself, host("peer"), Default::default(), Duration::ZERO);
            let (remote, peer) = tokio::io::duplex(4096);
            let (wish, wishes) = unbounded_channel();
            let (events, mut mailbox) = unbounded_channel();
            let task = LinkTask { id, link, remote, role: Role::Importer, start: Instant::now(), wishes, events };
            let task = tokio::spawn(run(task, first));
            let mut bytes = Vec::new();
            let hello = Hello { instance: Instance([2; 16]), host: host("peer"), endpoint, lease };
            Frame::Hello(hello).encode(&mut bytes);
            for _ in 0..PAIRS {
                bytes.extend_from_slice(b"+\0\x02wc-\0\x02wc");
            }
            let (_reader, mut writer) = tokio::io::split(peer);
            let sending = tokio::spawn(async move {
                writer.write_all(&bytes).await.unwrap();
                writer.shutdown().await.unwrap();
            });
            // Every task that can go on does so.
            for _ in 0..10 * PAIRS {
                tokio::task::yield_now().await;
            }
            assert_eq!(mailbox.len(), EVENTS_IN_FLIGHT_MAX);
            assert!(!sending.is_finished(), "everything was read");
            assert!(matches!(hear(&mut mailbox).await, Action::Up(_)));
            for _ in 0..PAIRS {
                assert!(matches!(hear(&mut mailbox).await, Action::Exported(_)));
                assert!(matches!(hear(&mut mailbox).await, Action::Withdrawn(_)));
            }
            assert!(matches!(hear(&mut mailbox).await, Action::Down(_)));
            drop(wish);
            task.await.unwrap();
        });
    }
}
