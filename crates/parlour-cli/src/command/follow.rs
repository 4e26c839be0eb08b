//! A tap that follows a name from server to server.
//!
//! After a hand-over, connections may stay with the server that has handed the name over, so both servers are tapped.

use std::time::{Duration, Instant};

use parlour::inspect::{self, Owner, Tap, TapMessage};
use parlour::{ConnectOptions, ErrorKind};

use super::holder::{self, Wanted};
use crate::output;

/// The time after which signals are looked for.
const TURN: Duration = Duration::from_millis(100);

/// The time to wait for the messages of one of several servers.
const TURN_OF_SEVERAL: Duration = Duration::from_millis(20);

/// The time between two looks at the holder of the name.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The clients of each further server are numbered from a multiple of this number on.
const NUMBERS: u64 = 1_000_000;

/// The taps of the servers that have, or had, a name.
pub(super) struct Follow<'a> {
    wanted: Wanted<'a>,
    options: ConnectOptions,
    /// Each tap, with what is added to the numbers of its clients.
    taps: Vec<(u64, Tap)>,
    /// The last server that was seen.
    last: Owner,
    looked: Instant,
    /// The largest number of a client so far.
    client_max: u64,
}

/// The result of a turn.
pub(super) enum Turn {
    Message(TapMessage),
    /// No message came for a moment.
    Nothing,
    /// The server has ended, and no other one has the name.
    Ended,
}

impl<'a> Follow<'a> {
    /// Taps the server that holds the name.
    pub(super) fn begin(wanted: Wanted<'a>) -> parlour::Result<Self> {
        let options = holder::options(wanted.server_uid);
        let tap = inspect::tap_with(wanted.address, &options)?;
        let last = tap.owner().clone();
        Ok(Self { wanted, options, taps: vec![(0, tap)], last, looked: Instant::now(), client_max: 0 })
    }

    /// Waits for a message, for a moment.
    pub(super) fn turn(&mut self) -> parlour::Result<Turn> {
        if self.looked.elapsed() >= LOOK_EVERY {
            self.look();
        }
        // Of several servers, each is looked at first, so that the messages of one do not wait for those of another.
        let looks = if self.taps.len() > 1 { self.taps.len() } else { 0 };
        for look in 0..=looks {
            let Some((offset, tap)) = self.taps.first_mut() else { break };
            let timeout = match look {
                _ if looks == 0 => TURN,
                last if last == looks => TURN_OF_SEVERAL,
                _ => Duration::ZERO,
            };
            match tap.recv_timeout(timeout) {
                Ok(Some(mut message)) => {
                    // 0 is a client without a number.
                    if message.client > 0 {
                        message.client = message.client.saturating_add(*offset);
                    }
                    self.client_max = self.client_max.max(message.client);
                    return Ok(Turn::Message(message));
                }
                Ok(None) => self.taps.rotate_left(1),
                Err(error) if error.kind() == ErrorKind::NoServer => drop(self.taps.remove(0)),
                Err(error) => return Err(error),
            }
        }
        if self.taps.is_empty() {
            self.look();
        }
        Ok(if self.taps.is_empty() { Turn::Ended } else { Turn::Nothing })
    }

    /// Taps the server that holds the name now, if it is another one than before.
    fn look(&mut self) {
        self.looked = Instant::now();
        let identity = |owner: &Owner| (owner.pid, owner.since);
        let Some(owner) = holder::of(self.wanted).filter(|owner| identity(owner) != identity(&self.last)) else {
            return;
        };
        match inspect::tap_with(self.wanted.address, &self.options) {
            // Yet another server may have taken the name meanwhile.
            Ok(tap) if identity(tap.owner()) == identity(&self.last) => {}
            Ok(tap) => {
                self.last = tap.owner().clone();
                let shown = output::cell(&self.last);
                output::note(format_args!("the name was taken over by {shown}; the tap goes on with this server, too"));
                self.taps.push(((self.client_max / NUMBERS + 1) * NUMBERS, tap));
            }
            Err(error) => {
                output::note(format_args!("the name was taken over by {}, but: {error}", output::cell(&owner)));
                self.last = owner;
            }
        }
    }
}
