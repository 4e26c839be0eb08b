//! The client that is expected to send the next message, because it sent the last ones.
//!
//! A client that waits for each reply sends its next request microseconds after the reply. While the hub spins, it
//! looks for that request in the connection itself, and not through epoll(7). Over `shm`, the favourite need not wake
//! the hub then: its wake-up is requested only before the hub sleeps, which saves both sides the system calls of a
//! wake-up for each message.

use super::event::Client;

/// The number of messages in succession that make a client the favourite.
const STREAK: u8 = 2;

/// The number of looks between two calls of epoll_wait(2). It bounds the delay of all other clients.
const LOOKS_MAX: u8 = 16;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Favourite {
    last: Option<Client>,
    /// The number of messages in succession of `last`, up to `STREAK`.
    streak: u8,
    looks: u8,
    /// The client of which no wake-up is requested.
    unarmed: Option<Client>,
}

impl Favourite {
    /// Notes a message. Returns a client of which a wake-up is to be requested now, because the hub does not look at it
    /// any more.
    pub(super) fn note_message(&mut self, client: Client) -> Option<Client> {
        if self.last == Some(client) {
            self.streak = STREAK;
            return None;
        }
        (self.last, self.streak) = (Some(client), 1);
        self.unarmed.take()
    }

    /// Returns true if this client is the favourite. No wake-up of it need be requested when it has sent all.
    pub(super) fn is(&self, client: Client) -> bool {
        self.streak == STREAK && self.last == Some(client)
    }

    /// Notes that no wake-up of the favourite is requested. The hub calls [`take_unarmed`](Self::take_unarmed) before
    /// it sleeps.
    pub(super) fn note_unarmed(&mut self, client: Client) {
        self.unarmed = Some(client);
    }

    /// Returns the favourite if it is to be looked at now. Not often enough to starve the others.
    pub(super) fn look(&mut self) -> Option<Client> {
        if self.streak < STREAK || self.looks >= LOOKS_MAX {
            return None;
        }
        self.looks += 1;
        self.last
    }

    /// Notes a call of epoll_wait(2).
    pub(super) fn note_poll(&mut self) {
        self.looks = 0;
    }

    /// Returns the client of which a wake-up is to be requested before the hub sleeps. It is the favourite again after
    /// its next message.
    pub(super) fn take_unarmed(&mut self) -> Option<Client> {
        let unarmed = self.unarmed.take()?;
        self.streak = self.streak.min(STREAK - 1);
        Some(unarmed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u64) -> Client {
        Client { number, slot: number as u32 }
    }

    #[test]
    fn a_client_is_the_favourite_from_its_second_message_in_succession_on() {
        let mut favourite = Favourite::default();
        assert_eq!(favourite.look(), None);
        favourite.note_message(client(1));
        assert!(!favourite.is(client(1)));
        favourite.note_message(client(1));
        assert!(favourite.is(client(1)) && !favourite.is(client(2)));
        favourite.note_message(client(2));
        assert!(!favourite.is(client(1)) && !favourite.is(client(2)));
    }

    #[test]
    fn looks_are_limited_until_the_next_poll() {
        let mut favourite = Favourite::default();
        for _ in 0..2 {
            favourite.note_message(client(1));
        }
        assert_eq!((0..100).filter(|_| favourite.look().is_some()).count(), usize::from(LOOKS_MAX));
        favourite.note_poll();
        assert_eq!(favourite.look(), Some(client(1)));
    }

    #[test]
    fn a_wake_up_is_requested_before_the_hub_sleeps_or_hears_another_client() {
        let mut favourite = Favourite::default();
        for _ in 0..2 {
            favourite.note_message(client(1));
        }
        favourite.note_unarmed(client(1));
        assert_eq!(favourite.take_unarmed(), Some(client(1)));
        assert!(favourite.take_unarmed().is_none() && !favourite.is(client(1)), "it is requested at the next turn");
        favourite.note_message(client(1));
        assert!(favourite.is(client(1)));
        favourite.note_unarmed(client(1));
        assert_eq!(favourite.note_message(client(2)), Some(client(1)));
        assert_eq!(favourite.note_message(client(1)), None);
    }
}
