//! Sockets between simulated processes: UNIX sockets within a host, and TLS over TCP between hosts.

use std::collections::VecDeque;
use std::time::Duration;

use super::random::Random;

/// The number of bytes that a direction holds before its writer must wait.
const CAPACITY: usize = 200_000;

/// The time without an acknowledgement after which TCP gives up (TCP_USER_TIMEOUT).
pub(crate) const USER_TIMEOUT: Duration = Duration::from_secs(1);

/// One end of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndId {
    pub(crate) socket: usize,
    side: usize,
}

impl EndId {
    fn peer(self) -> Self {
        Self { side: 1 - self.side, ..self }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Bytes(Vec<u8>),
    /// `close_notify` of TLS.
    Notify,
    End,
}

/// The result of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Nothing,
    Bytes(Vec<u8>),
    Notify,
    End,
    Reset,
}

#[derive(Debug)]
struct Flight {
    sent: Duration,
    arrives: Duration,
    item: Item,
}

#[derive(Debug, Default)]
struct End {
    /// On the way to this end, in order.
    flight: VecDeque<Flight>,
    inbox: VecDeque<Item>,
    /// The process has closed it, or has died.
    is_closed: bool,
    has_shut: bool,
    /// A reset has arrived, or the kernel has given the connection up.
    is_reset: bool,
    reset_arrives: Option<Duration>,
}

impl End {
    fn unread(&self) -> usize {
        let len = |item: &Item| if let Item::Bytes(bytes) = item { bytes.len() } else { 0 };
        self.inbox.iter().map(len).sum::<usize>() + self.flight.iter().map(|flight| len(&flight.item)).sum::<usize>()
    }
}

#[derive(Debug)]
struct Socket {
    ends: [End; 2],
    /// The hosts of a connection between hosts.
    hosts: Option<[usize; 2]>,
    delay_ms: u64,
    /// The client on whose behalf the socket exists.
    tag: usize,
    /// The bridge at one of the ends was killed.
    lost_its_bridge: bool,
}

/// All sockets.
pub(crate) struct Sockets {
    list: Vec<Socket>,
    random: Random,
    /// Pairs of hosts that cannot reach each other, from one time until another one.
    cuts: Vec<(usize, usize, Duration, Duration)>,
    /// A reset destroys what was not read yet. That of Linux does not.
    pub(crate) resets_destroy: bool,
    pub(crate) now: Duration,
}

impl Sockets {
    pub(crate) fn new(random: Random, resets_destroy: bool) -> Self {
        Self { list: Vec::new(), random, cuts: Vec::new(), resets_destroy, now: Duration::ZERO }
    }

    fn add(&mut self, hosts: Option<[usize; 2]>, tag: usize) -> (EndId, EndId) {
        let delay_ms = if hosts.is_some() { self.random.below(60) } else { 0 };
        self.list.push(Socket { ends: Default::default(), hosts, delay_ms, tag, lost_its_bridge: false });
        let socket = self.list.len() - 1;
        (EndId { socket, side: 0 }, EndId { socket, side: 1 })
    }

    /// Returns both ends of a new UNIX socket.
    pub(crate) fn pair(&mut self, tag: usize) -> (EndId, EndId) {
        self.add(None, tag)
    }

    /// Returns both ends of a new connection between hosts, that of the first host first, or `None` if one cannot reach
    /// the other.
    pub(crate) fn dial(&mut self, from: usize, to: usize, tag: usize) -> Option<(EndId, EndId)> {
        if self.is_cut(from, to).is_some() {
            return None;
        }
        Some(self.add(Some([from, to]), tag))
    }

    pub(crate) fn tag(&self, id: EndId) -> usize {
        self.list[id.socket].tag
    }

    pub(crate) fn lost_its_bridge(&self, id: EndId) -> bool {
        self.list[id.socket].lost_its_bridge
    }

    pub(crate) fn cut(&mut self, a: usize, b: usize, until: Duration) {
        self.cuts.push((a, b, self.now, until));
    }

    fn is_cut(&self, a: usize, b: usize) -> Option<(Duration, Duration)> {
        let covers = |&&(x, y, from, until): &&(usize, usize, Duration, Duration)| {
            ((x, y) == (a, b) || (x, y) == (b, a)) && from <= self.now && self.now < until
        };
        self.cuts.iter().find(covers).map(|&(_, _, from, until)| (from, until))
    }

    fn end(&self, id: EndId) -> &End {
        &self.list[id.socket].ends[id.side]
    }

    fn end_mut(&mut self, id: EndId) -> &mut End {
        &mut self.list[id.socket].ends[id.side]
    }

    fn is_local(&self, id: EndId) -> bool {
        self.list[id.socket].hosts.is_none()
    }

    fn put(&mut self, to: EndId, item: Item) {
        let delay = self.list[to.socket].delay_ms;
        let jitter = if self.is_local(to) { 0 } else { self.random.below(10) };
        let now = self.now;
        let behind = self.end(to).flight.back().map_or(Duration::ZERO, |flight| flight.arrives);
        let arrives = behind.max(now + Duration::from_millis(delay + jitter));
        if self.is_local(to) {
            self.end_mut(to).inbox.push_back(item);
        } else {
            self.end_mut(to).flight.push_back(Flight { sent: now, arrives, item });
        }
    }

    /// Writes bytes. Returns the number that was taken, or an error if nobody takes them.
    pub(crate) fn send(&mut self, id: EndId, bytes: &[u8]) -> Result<usize, ()> {
        let peer_is_gone = self.is_local(id) && self.end(id.peer()).is_closed;
        if self.end(id).is_reset || peer_is_gone || self.end(id).has_shut {
            return Err(());
        }
        let count = bytes.len().min(CAPACITY.saturating_sub(self.end(id.peer()).unread()));
        if count > 0 {
            self.put(id.peer(), Item::Bytes(bytes[..count].to_vec()));
        }
        Ok(count)
    }

    /// Reads up to this many bytes.
    pub(crate) fn recv(&mut self, id: EndId, max: usize) -> Got {
        let end = self.end_mut(id);
        match end.inbox.front_mut() {
            Some(Item::Bytes(bytes)) if bytes.len() > max => {
                let rest = bytes.split_off(max);
                Got::Bytes(std::mem::replace(bytes, rest))
            }
            // An end of file stays.
            Some(Item::End) => Got::End,
            Some(_) => match end.inbox.pop_front() {
                Some(Item::Bytes(bytes)) => Got::Bytes(bytes),
                _ => Got::Notify,
            },
            None if end.is_reset => Got::Reset,
            None => Got::Nothing,
        }
    }

    /// Sends `close_notify`.
    pub(crate) fn notify(&mut self, id: EndId) {
        if !self.end(id).has_shut && !self.end(id).is_reset {
            self.put(id.peer(), Item::Notify);
        }
    }

    /// Shuts the socket down for writing.
    pub(crate) fn shut(&mut self, id: EndId) {
        if !self.end(id).has_shut && !self.end(id).is_reset {
            self.put(id.peer(), Item::End);
            self.end_mut(id).has_shut = true;
        }
    }

    pub(crate) fn close(&mut self, id: EndId) {
        if self.end(id).is_closed {
            return;
        }
        let has_unread = self.end(id).inbox.iter().any(|item| *item != Item::End);
        match (has_unread, self.is_local(id)) {
            (false, _) => self.shut(id),
            (true, true) => self.end_mut(id.peer()).is_reset = true,
            (true, false) => self.reset(id),
        }
        self.end_mut(id).is_closed = true;
    }

    /// Sends a reset to the peer of this end. Data that it has sent before may overtake it or not.
    fn reset(&mut self, id: EndId) {
        let arrives = self.now + Duration::from_millis(self.list[id.socket].delay_ms);
        if self.random.once_in(2) {
            self.end_mut(id.peer()).flight.clear();
        }
        self.end_mut(id.peer()).reset_arrives.get_or_insert(arrives);
    }

    /// Closes an end because its process has died.
    pub(crate) fn die(&mut self, id: EndId, is_bridge: bool) {
        if is_bridge && !self.end(id).is_closed {
            self.list[id.socket].lost_its_bridge = true;
        }
        self.close(id);
    }

    /// Returns true if everything that was sent has arrived.
    pub(crate) fn is_acknowledged(&self, id: EndId) -> bool {
        self.end(id.peer()).flight.is_empty()
    }

    /// Returns true if the peer has closed a UNIX socket (EPOLLHUP).
    pub(crate) fn has_hung_up(&self, id: EndId) -> bool {
        self.end(id.peer()).is_closed
    }

    /// Lets the time go on until now.
    pub(crate) fn advance(&mut self) {
        for socket in 0..self.list.len() {
            let Some([a, b]) = self.list[socket].hosts else { continue };
            let cut = self.is_cut(a, b);
            for side in 0..2 {
                let id = EndId { socket, side };
                match cut {
                    Some((from, until)) => self.postpone(id, from, until),
                    None => self.arrive(id),
                }
                self.give_up(id.peer());
            }
        }
    }

    /// During a cut, everything on its way has to be sent again, some time after the cut. Resets are not repeated.
    fn postpone(&mut self, id: EndId, from: Duration, until: Duration) {
        let late = Duration::from_millis(self.random.below((until - from).as_millis() as u64));
        let now = self.now;
        let end = self.end_mut(id);
        let mut behind = Duration::ZERO;
        for flight in &mut end.flight {
            if flight.arrives <= now {
                flight.arrives = until + late;
            }
            flight.arrives = flight.arrives.max(behind);
            behind = flight.arrives;
        }
        if end.reset_arrives.is_some_and(|at| at <= now) {
            end.reset_arrives = None;
        }
    }

    fn arrive(&mut self, id: EndId) {
        let now = self.now;
        while self.end(id).flight.front().is_some_and(|flight| flight.arrives <= now) {
            let end = self.end_mut(id);
            let Some(flight) = end.flight.pop_front() else { return };
            if end.is_closed || end.is_reset {
                // The kernel does not know the connection any more.
                if flight.item != Item::End {
                    self.reset(id);
                }
            } else {
                end.inbox.push_back(flight.item);
            }
        }
        let destroys = self.resets_destroy && self.random.once_in(3);
        let end = self.end_mut(id);
        if end.reset_arrives.is_some_and(|at| at <= now) {
            (end.is_reset, end.reset_arrives) = (true, None);
            if destroys {
                end.inbox.clear();
            }
        }
    }

    /// The kernel of this end gives the connection up if nothing is acknowledged for too long.
    fn give_up(&mut self, id: EndId) {
        let now = self.now;
        let oldest = self.end(id.peer()).flight.front().map(|flight| flight.sent);
        if oldest.is_some_and(|sent| now > sent + USER_TIMEOUT + Duration::from_millis(500)) {
            self.end_mut(id.peer()).flight.clear();
            self.end_mut(id).is_reset = true;
        }
    }
}
