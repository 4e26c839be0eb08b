//! The page in which processes ask a server to record its messages: the layout, and the choice of a place in it.
//! docs/stats.md specifies it.
//!
//! Every process of the server's user can write to the page. Nothing in it can do more than ask for a tap.

use super::tap::{WORD, word};

/// The length of the page in bytes.
pub(crate) const PAGE_LEN: usize = 4096;

/// The number of processes that can tap a server at one time.
pub(crate) const PLACES: usize = 128;

/// The offset of the word that changes with each request. A server looks at the others when it has changed.
pub(crate) const BELL: usize = 0;

/// The time for which a request holds, in nanoseconds. A process that goes on renews it before.
pub(crate) const HOLDS: u64 = 2_000_000_000;

/// The longest time for which a request may hold. One that states more is ignored.
const HOLDS_MAX: u64 = 10_000_000_000;

const FIRST: usize = 64;
const PLACE_LEN: usize = 2 * WORD;

/// A request to tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The time up to which it holds, in nanoseconds since the boot.
    pub(crate) until: u64,
    /// The process id that the process states, in the lower 32 bits, and a number that distinguishes its taps.
    pub(crate) pid: u64,
}

impl Request {
    /// Returns the offset of a place.
    pub(crate) const fn offset(place: usize) -> usize {
        FIRST + place % PLACES * PLACE_LEN
    }

    /// Returns the bytes of a place.
    pub(crate) fn encode(self) -> [u8; PLACE_LEN] {
        let mut bytes = [0; PLACE_LEN];
        bytes[..WORD].copy_from_slice(&self.until.to_ne_bytes());
        bytes[WORD..].copy_from_slice(&self.pid.to_ne_bytes());
        bytes
    }

    /// Returns true if the request holds at this time.
    pub(crate) fn holds(self, now: u64) -> bool {
        self.until > now && self.until - now <= HOLDS_MAX
    }
}

/// Returns the requests of a page, in the order of their places.
pub(crate) fn requests(page: &[u8]) -> impl Iterator<Item = Request> + '_ {
    (0..PLACES).map(|place| request_at(page, place))
}

/// Returns the request at a place.
pub(crate) fn request_at(page: &[u8], place: usize) -> Request {
    let at = Request::offset(place);
    Request { until: word(page, at), pid: word(page, at + WORD) }
}

/// Returns the first place from `first` on, around the end, at which no request holds.
pub(crate) fn free_place(page: &[u8], now: u64, first: usize) -> Option<usize> {
    let places = (0..PLACES).map(|place| (first % PLACES + place) % PLACES);
    places.into_iter().find(|place| !request_at(page, *place).holds(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_holds_for_a_time_and_one_that_states_more_is_ignored() {
        let request = |until| Request { until, pid: 1 };
        assert!(request(1000 + HOLDS).holds(1000) && !request(1000).holds(1000) && !request(0).holds(1000));
        assert!(!request(u64::MAX).holds(1000) && !request(1001 + HOLDS_MAX).holds(1000));
    }

    #[test]
    fn the_place_that_is_chosen_is_free() {
        let mut page = vec![0; PAGE_LEN];
        for place in 0..PLACES {
            assert_eq!(free_place(&page, 1000, 0), Some(place));
            let at = Request::offset(place);
            assert_eq!(free_place(&page, 1000, PLACES - 1), Some(PLACES - 1).filter(|last| place <= *last));
            page[at..at + PLACE_LEN].copy_from_slice(&Request { until: 2000, pid: place as u64 }.encode());
        }
        assert_eq!(free_place(&page, 1000, 7), None);
        assert_eq!(free_place(&page, 2000, PLACES + 5), Some(5), "the requests have ended");
        assert!(Request::offset(PLACES - 1) + PLACE_LEN <= PAGE_LEN && Request::offset(0) > BELL);
    }

    proptest! {
        #[test]
        fn any_page_is_read(page in proptest::collection::vec(any::<u8>(), 0..PAGE_LEN + 9), now: u64) {
            prop_assert_eq!(requests(&page).count(), PLACES);
            let _ = free_place(&page, now, now as usize);
        }
    }
}
