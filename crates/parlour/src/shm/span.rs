//! The part of a ring that is in use, and its growth. docs/shm.md, "Growth", specifies both.
//!
//! A byte is stored at its position modulo the size in use. The writer changes from a size *o* to a larger one *n* at
//! the *turn*, a multiple of *n*. From the turn on, bytes are stored modulo *n*. The *o* bytes behind the turn have the
//! same place in both sizes. The writer uses the space of *n* only behind them, so no unread byte ever moves.

/// The exponents of the sizes of a ring: of the first one, and of the whole ring. They are equal if it does not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) first: u32,
    pub(crate) full: u32,
}

/// Each size is four times the one before, except that the last one may be twice.
const STEP: u32 = 2;

impl Sizes {
    /// Returns true if the ring begins with less than its full size.
    pub(crate) fn can_grow(self) -> bool {
        self.first < self.full
    }

    /// Returns the size that follows this one, or `None` after the full one.
    fn next(self, log2: u32) -> Option<u32> {
        (log2 < self.full).then(|| (log2 + STEP).min(self.full))
    }

    /// Returns the size before this one, and the first one for itself.
    pub(super) fn previous(self, log2: u32) -> u32 {
        self.first + (log2.saturating_sub(self.first + 1) & !(STEP - 1))
    }

    /// Returns true if the ring takes this size as it grows.
    fn contains(self, log2: u32) -> bool {
        log2 == self.full || (self.first..self.full).contains(&log2) && (log2 - self.first) % STEP == 0
    }

    /// Returns the number of bytes of the first size. One copy has at most as many.
    pub(super) fn first_len(self) -> usize {
        1 << self.first
    }
}

/// The content of the word `Span`: the size in use, the size whose memory exists, and the turn.
///
/// ```text
///   63                            12 11       6 5        0
///   +-------------------------------+----------+----------+
///   | turn / size in use            | offered  | used     |    exponents of two
///   +-------------------------------+----------+----------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    sizes: Sizes,
    /// The exponent of the size in use from the turn on.
    pub(super) used: u32,
    /// The exponent of the size whose memory the writer has allocated: `used`, or the one after it.
    pub(super) offered: u32,
    /// The turn, divided by the size in use.
    turn: u64,
}

const EXPONENT_BITS: u32 = 6;
const EXPONENT: u64 = (1 << EXPONENT_BITS) - 1;
const TURN_SHIFT: u32 = 2 * EXPONENT_BITS;

impl Span {
    /// Returns the span of a ring that does not grow.
    pub(super) fn of_whole(sizes: Sizes) -> Self {
        Self { sizes, used: sizes.full, offered: sizes.full, turn: 0 }
    }

    /// Parses the word. Returns `None` if these are no sizes that follow each other.
    #[inline]
    pub(super) fn parse(word: u64, sizes: Sizes) -> Option<Self> {
        if word == 0 {
            // The initial value.
            return Some(Self { sizes, used: sizes.first, offered: sizes.first, turn: 0 });
        }
        let exponent = |at: u32| ((word >> at) & EXPONENT) as u32;
        let (used, offered) = (exponent(0), exponent(EXPONENT_BITS));
        let follow = sizes.contains(used) && (offered == used || sizes.next(used) == Some(offered));
        follow.then_some(Self { sizes, used, offered, turn: word >> TURN_SHIFT })
    }

    pub(super) fn word(self) -> u64 {
        self.turn << TURN_SHIFT | u64::from(self.offered) << EXPONENT_BITS | u64::from(self.used)
    }

    /// Returns true if the position is at the turn or behind it, by less than 2^63.
    ///
    /// A ring of less than 4 KiB, which only tests have, loses the highest bits of its turn. Positions are then
    /// compared without these bits.
    pub(super) fn is_turned(&self, position: u64) -> bool {
        let distance = position.wrapping_sub(self.turn << self.used);
        self.used == self.sizes.first || ((distance << TURN_SHIFT.saturating_sub(self.used)) as i64) >= 0
    }

    fn size_if(&self, is_turned: bool) -> u64 {
        1 << if is_turned { self.used } else { self.sizes.previous(self.used) }
    }

    /// Returns the size by which the byte at this position is stored. It holds for all bytes of one copy, because they
    /// are no more than the [first size](Sizes::first_len) has.
    #[inline]
    pub(super) fn size_at(&self, position: u64) -> usize {
        if self.used == self.sizes.first {
            return 1 << self.used;
        }
        self.size_if(self.is_turned(position)) as usize
    }

    /// Returns the maximum number of unread bytes before this position of the writer.
    #[inline]
    pub(super) fn capacity(&self, head: u64) -> u64 {
        if self.used == self.sizes.first {
            return 1 << self.used;
        }
        self.size_if(self.is_turned(head.wrapping_sub(1 << self.sizes.previous(self.used))))
    }

    /// Returns true if there is memory that is not in use yet.
    pub(super) fn is_growing(&self) -> bool {
        self.used != self.offered
    }

    /// Returns the size that follows the one in use.
    pub(super) fn next(&self) -> Option<u32> {
        self.sizes.next(self.used)
    }

    pub(super) fn with_offer(self, offered: u32) -> Self {
        Self { offered, ..self }
    }

    /// Takes the offered size into use, as soon as possible for a writer at this position.
    pub(super) fn turned(self, head: u64) -> Self {
        let new = 1u64 << self.offered;
        let turn = head.wrapping_sub(1 << self.used).wrapping_add(new - 1) >> self.offered;
        let kept = turn & (u64::MAX >> TURN_SHIFT);
        Self { used: self.offered, turn: kept, ..self }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_ring_takes_these_sizes() {
        for (full, expected) in [(16, &[14, 16][..]), (17, &[14, 16, 17]), (20, &[14, 16, 18, 20]), (14, &[14])] {
            let sizes = Sizes { first: 14, full };
            let taken: Vec<u32> = std::iter::successors(Some(14), |&log2| sizes.next(log2)).collect();
            assert_eq!(taken, expected);
            assert!(taken.windows(2).all(|pair| sizes.previous(pair[1]) == pair[0]));
            assert_eq!((0..64).filter(|&log2| sizes.contains(log2)).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn no_unread_byte_has_the_place_of_another_one_while_a_ring_grows() {
        let sizes = Sizes { first: 2, full: 6 };
        for head in (0..200).chain(u64::MAX - 200..u64::MAX) {
            let old = Span { sizes, used: 2, offered: 4, turn: 0 };
            let new = old.turned(head);
            assert_eq!(Span::parse(new.word(), sizes), Some(new));
            assert_eq!(new.capacity(head), if new.is_turned(head.wrapping_sub(4)) { 16 } else { 4 });
            for head in (0..40).map(|by| head.wrapping_add(by)) {
                // No more than the old size was unread when the writer reached the end of the old size.
                let is_new = new.capacity(head) == 16;
                let before = (1..=new.capacity(head)).map(|by| head.wrapping_sub(by));
                let unread: Vec<u64> = before.take_while(|&at| !is_new || new.is_turned(at)).collect();
                assert!(unread.len() >= 4);
                let mut places: Vec<u64> = unread.iter().map(|&at| at % new.size_at(at) as u64).collect();
                places.sort_unstable();
                places.dedup();
                assert_eq!(places.len(), unread.len());
            }
            for before in (1..5).map(|by| head.wrapping_sub(by)) {
                assert_eq!(before % new.size_at(before) as u64, before % 4, "a byte moved");
            }
        }
    }

    #[test]
    fn a_word_of_other_sizes_is_refused() {
        let sizes = Sizes { first: 14, full: 20 };
        for (used, offered) in [(13, 14), (14, 20), (15, 16), (16, 14), (20, 22), (63, 63), (14, 0), (0, 14)] {
            assert_eq!(Span::parse(offered << 6 | used, sizes), None, "{used} and {offered}");
        }
    }
}
