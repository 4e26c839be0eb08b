//! Blocks of memory that one process, the owner, lends to others: who holds which, and their return. docs/shm.md
//! specifies the orderings. This file has no I/O; `frames/` has it.
//!
//! A holder returns a block by counting: for each block it has a word, which it alone writes and the owner reads. The
//! owner compares the word for equality with its own, private count of how often it sent the block to this holder. So
//! a block that was sent twice and returned once is still held, and a holder that counts wrongly is only mistaken about
//! the blocks that were sent to it. An owner that waits for a block asks for a doorbell first, by a word of its own. A
//! holder that returns a block rings once for each request that it sees.

use std::sync::atomic::Ordering;

use super::atomic::{AtomicU32, fence};

/// The words that the owner writes and the holders read.
pub(crate) trait OwnerWords {
    /// Loads the number of requests for a doorbell (relaxed).
    fn asked(&self) -> u32;

    /// Increments the number of requests (release).
    fn ask(&self);

    /// Stores the generation of a block (relaxed).
    fn set_generation(&self, block: usize, generation: u32);
}

/// The words that one holder writes and the owner reads: how often it has returned each block.
pub(crate) trait Counts {
    /// Loads a count (relaxed).
    fn count(&self, block: usize) -> u32;

    /// Increments a count (release).
    fn increment(&self, block: usize);
}

/// Requests a doorbell for the next returns. The owner looks for a free block once more before it sleeps, and requests
/// anew before every sleep.
pub(crate) fn ask(words: &impl OwnerWords) {
    words.ask();
    // Pairs with the fence in `give_back`: the owner sees the count, or the holder sees the request.
    fence(Ordering::SeqCst);
}

/// The request for which a holder has rung last.
#[derive(Debug)]
pub(crate) struct Told(AtomicU32);

impl Told {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Returns a block. True: the owner has asked for a doorbell, and no thread of this holder has rung it.
    pub(crate) fn give_back(&self, counts: &impl Counts, block: usize, words: &impl OwnerWords) -> bool {
        counts.increment(block);
        // Pairs with the fence in `ask`.
        fence(Ordering::SeqCst);
        let asked = words.asked();
        self.0.swap(asked, Ordering::AcqRel) != asked
    }
}

/// The number of a holder in a [`Ledger`].
pub(crate) type Slot = usize;

/// The owner's account of its blocks. Private to the owner, and used by one thread at a time.
#[derive(Debug)]
pub(crate) struct Ledger<C> {
    holders: Vec<Option<Holder<C>>>,
    blocks: Vec<Block>,
    /// The block at which the next search begins: behind the one that was taken last, so that blocks are taken in
    /// turn and a late reader finds its frame intact as long as possible.
    next: usize,
}

#[derive(Clone, Debug, Default)]
struct Block {
    /// The holder that the last search found. The next one begins with it.
    blocker: Slot,
    generation: u32,
}

#[derive(Debug)]
struct Holder<C> {
    counts: C,
    lent: Vec<Lent>,
    /// The number of blocks that are out.
    held: usize,
    /// The maximum of `held`.
    share: usize,
}

/// One block and one holder.
#[derive(Clone, Debug, Default)]
struct Lent {
    /// The number of times that the block was sent to the holder.
    sent: u32,
    /// True until the count of the holder was seen equal to `sent`. The count is then not looked at again before the
    /// next send, because a hostile holder may change it at any time.
    is_out: bool,
}

impl<C: Counts> Holder<C> {
    /// Returns true if the holder has the block. Looks at the count if it had it before.
    fn holds(&mut self, block: usize) -> bool {
        let Self { counts, lent, held, .. } = self;
        let Some(lent) = lent.get_mut(block).filter(|lent| lent.is_out) else { return false };
        if counts.count(block) == lent.sent {
            lent.is_out = false;
            *held = held.saturating_sub(1);
        }
        lent.is_out
    }
}

impl<C: Counts> Ledger<C> {
    /// Creates the account of this number of blocks, which nobody holds.
    pub(crate) fn new(blocks: usize) -> Self {
        Self { holders: Vec::new(), blocks: vec![Block::default(); blocks], next: 0 }
    }

    /// Adds a holder that may hold `share` blocks, and returns its number, which may have belonged to another one.
    pub(crate) fn add(&mut self, counts: C, share: usize) -> Slot {
        let holder = Holder { counts, lent: vec![Lent::default(); self.blocks.len()], held: 0, share };
        match self.holders.iter().position(Option::is_none) {
            Some(slot) => {
                self.holders[slot] = Some(holder);
                slot
            }
            None => {
                self.holders.push(Some(holder));
                self.holders.len() - 1
            }
        }
    }

    /// Takes everything back from a holder that has ended, and forgets it.
    pub(crate) fn remove(&mut self, slot: Slot) {
        if let Some(holder) = self.holders.get_mut(slot) {
            *holder = None;
        }
    }

    /// Takes the next block in turn that nobody holds, and marks it as changed: a copy of its former content that is
    /// made from here on fails. Returns its number and its generation.
    pub(crate) fn take(&mut self, words: &impl OwnerWords) -> Option<(usize, u32)> {
        let (count, next) = (self.blocks.len(), self.next);
        let block = (0..count).map(|step| (next + step) % count).find(|&block| self.is_free(block))?;
        // Pairs with the increments of the holders: what they read of the block, they read before this side writes.
        fence(Ordering::Acquire);
        self.next = (block + 1) % count;
        let generation = self.blocks[block].generation.wrapping_add(1);
        self.blocks[block].generation = generation;
        words.set_generation(block, generation);
        // The new generation is seen by everyone who sees a byte that is written from here on.
        fence(Ordering::Release);
        Some((block, generation))
    }

    fn is_free(&mut self, block: usize) -> bool {
        let Self { holders, blocks, .. } = self;
        let count = holders.len();
        let mut holds = |slot: Slot| {
            let holder = holders.get_mut(slot).and_then(Option::as_mut);
            holder.is_some_and(|holder| holder.holds(block))
        };
        if holds(blocks[block].blocker) {
            return false;
        }
        match (0..count).find(|&slot| holds(slot)) {
            Some(slot) => {
                blocks[block].blocker = slot;
                false
            }
            None => true,
        }
    }

    /// Returns true if the holder may get this block: it has it already, or has not used up its share. Looks at its
    /// counts if it seems to have.
    pub(crate) fn may_send(&mut self, slot: Slot, block: usize) -> bool {
        let Some(holder) = self.holders.get_mut(slot).and_then(Option::as_mut) else { return false };
        if holder.lent.get(block).is_some_and(|lent| lent.is_out) || holder.held < holder.share {
            return true;
        }
        (0..holder.lent.len()).any(|block| !holder.holds(block) && holder.held < holder.share)
    }

    /// Notes that a block is about to be sent to a holder. Returns the means to undo that, if nothing was sent.
    pub(crate) fn send(&mut self, slot: Slot, block: usize) -> Sent {
        let mut sent = Sent { slot, block, was_out: true };
        if let Some(holder) = self.holders.get_mut(slot).and_then(Option::as_mut) {
            if let Some(lent) = holder.lent.get_mut(block) {
                sent.was_out = lent.is_out;
                lent.sent = lent.sent.wrapping_add(1);
                lent.is_out = true;
                holder.held += usize::from(!sent.was_out);
            }
        }
        sent
    }

    /// Undoes a send of which the holder cannot have seen anything.
    pub(crate) fn undo(&mut self, Sent { slot, block, was_out }: Sent) {
        if let Some(holder) = self.holders.get_mut(slot).and_then(Option::as_mut) {
            if let Some(lent) = holder.lent.get_mut(block) {
                lent.sent = lent.sent.wrapping_sub(1);
                lent.is_out = was_out;
                holder.held = holder.held.saturating_sub(usize::from(!was_out));
            }
        }
    }

    /// Returns the number of blocks that a holder has.
    pub(crate) fn held(&mut self, slot: Slot) -> usize {
        let Some(holder) = self.holders.get_mut(slot).and_then(Option::as_mut) else { return 0 };
        (0..holder.lent.len()).filter(|&block| holder.holds(block)).count()
    }
}

/// A send that can be undone.
#[derive(Debug)]
pub(crate) struct Sent {
    slot: Slot,
    block: usize,
    was_out: bool,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Default)]
    struct Words {
        asked: Cell<u32>,
        generations: RefCell<[u32; 8]>,
    }

    impl OwnerWords for Words {
        fn asked(&self) -> u32 {
            self.asked.get()
        }

        fn ask(&self) {
            self.asked.set(self.asked.get() + 1);
        }

        fn set_generation(&self, block: usize, generation: u32) {
            self.generations.borrow_mut()[block] = generation;
        }
    }

    #[derive(Clone, Debug, Default)]
    struct Memory(Rc<RefCell<[u32; 8]>>);

    impl Memory {
        fn set(&self, block: usize, count: u32) {
            self.0.borrow_mut()[block] = count;
        }
    }

    impl Counts for Memory {
        fn count(&self, block: usize) -> u32 {
            self.0.borrow()[block]
        }

        fn increment(&self, block: usize) {
            let mut counts = self.0.borrow_mut();
            counts[block] = counts[block].wrapping_add(1);
        }
    }

    /// Creates an account of this number of blocks and one holder.
    fn ledger(blocks: usize, share: usize) -> (Ledger<Memory>, Words, Memory, Slot) {
        let mut ledger = Ledger::new(blocks);
        let memory = Memory::default();
        let slot = ledger.add(memory.clone(), share);
        (ledger, Words::default(), memory, slot)
    }

    fn take(ledger: &mut Ledger<Memory>, words: &Words) -> Option<usize> {
        ledger.take(words).map(|(block, _)| block)
    }

    #[test]
    fn blocks_are_taken_in_turn_and_each_time_with_another_generation() {
        let (mut ledger, words, _, _) = ledger(2, 1);
        let taken: Vec<_> = (0..4).filter_map(|_| ledger.take(&words)).collect();
        assert_eq!(taken, [(0, 1), (1, 1), (0, 2), (1, 2)]);
        assert_eq!(words.generations.borrow()[..2], [2, 2]);
    }

    #[test]
    fn a_block_that_was_sent_twice_and_returned_once_is_still_held() {
        let (mut ledger, words, memory, slot) = ledger(1, 1);
        assert_eq!(take(&mut ledger, &words), Some(0));
        ledger.send(slot, 0);
        ledger.send(slot, 0);
        memory.increment(0);
        assert_eq!(take(&mut ledger, &words), None);
        memory.increment(0);
        assert_eq!(take(&mut ledger, &words), Some(0));
    }

    #[test]
    fn a_holder_gets_its_share_and_no_more_until_it_returns_a_block() {
        let (mut ledger, words, memory, slot) = ledger(3, 2);
        for _ in 0..2 {
            let block = take(&mut ledger, &words).unwrap();
            assert!(ledger.may_send(slot, block));
            ledger.send(slot, block);
        }
        let third = take(&mut ledger, &words).unwrap();
        assert!(!ledger.may_send(slot, third));
        assert!(ledger.may_send(slot, 0), "it has this block already");
        memory.increment(1);
        assert!(ledger.may_send(slot, third));
        assert_eq!(ledger.held(slot), 1);
    }

    #[test]
    fn the_end_of_a_holder_returns_everything() {
        let (mut ledger, words, _, slot) = ledger(2, 2);
        for block in 0..2 {
            ledger.send(slot, block);
        }
        assert_eq!(take(&mut ledger, &words), None);
        ledger.remove(slot);
        assert_eq!(take(&mut ledger, &words), Some(0));
        assert_eq!(ledger.add(Memory::default(), 1), slot, "the number is used again");
        assert_eq!(take(&mut ledger, &words), Some(1), "the new holder has nothing of the old one");
    }

    #[test]
    fn a_holder_that_counts_as_it_likes_returns_only_what_was_sent_to_it() {
        let (mut ledger, words, _, honest) = ledger(2, 2);
        let hostile = Memory::default();
        let slot = ledger.add(hostile.clone(), 1);
        ledger.send(honest, 0);
        for count in [0, 1, 2, 3, u32::MAX] {
            hostile.set(0, count);
            assert_eq!(take(&mut ledger, &words), Some(1), "block 0 is held by another");
        }
        ledger.send(slot, 1);
        hostile.set(1, u32::MAX);
        assert_eq!(take(&mut ledger, &words), None);
        hostile.set(1, 1);
        assert_eq!(ledger.held(slot), 0);
        // It was returned, whatever the count is from here on.
        hostile.set(1, 7);
        assert_eq!(take(&mut ledger, &words), Some(1));
        assert!(ledger.may_send(slot, 1));
    }

    #[test]
    fn one_ring_answers_one_request() {
        let (words, memory, told) = (Words::default(), Memory::default(), Told::new());
        assert!(!told.give_back(&memory, 0, &words), "nobody asked");
        ask(&words);
        assert!(told.give_back(&memory, 0, &words));
        assert!(!told.give_back(&memory, 0, &words), "it has rung");
        ask(&words);
        ask(&words);
        assert!(told.give_back(&memory, 0, &words));
        assert!(!told.give_back(&memory, 0, &words));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take,
        Send { holder: usize, block: usize },
        SendAndUndo { holder: usize, block: usize },
        Return { holder: usize, block: usize },
        Replace { holder: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        let place = || (0..3_usize, 0..4_usize);
        prop_oneof![
            Just(Step::Take),
            place().prop_map(|(holder, block)| Step::Send { holder, block }),
            place().prop_map(|(holder, block)| Step::SendAndUndo { holder, block }),
            place().prop_map(|(holder, block)| Step::Return { holder, block }),
            (0..3_usize).prop_map(|holder| Step::Replace { holder }),
        ]
    }

    proptest! {
        /// Honest holders, and counts that begin shortly before they wrap, against a plain table of handles.
        #[test]
        fn a_block_is_taken_exactly_when_nobody_has_a_handle_to_it(steps in prop::collection::vec(step(), 1..200)) {
            const SHARE: usize = 2;
            let words = Words::default();
            let mut ledger = Ledger::new(4);
            let mut memories: Vec<Memory> = Vec::new();
            let mut handles = [[0_u32; 4]; 3];
            let begin = |ledger: &mut Ledger<Memory>| {
                let memory = Memory::default();
                let slot = ledger.add(memory.clone(), SHARE);
                for block in 0..4 {
                    memory.set(block, u32::MAX);
                    ledger.holders[slot].as_mut().unwrap().lent[block].sent = u32::MAX;
                }
                memory
            };
            for _ in 0..3 {
                memories.push(begin(&mut ledger));
            }
            for step in steps {
                match step {
                    Step::Take => {
                        let is_free = |block: usize| handles.iter().all(|held| held[block] == 0);
                        let free = (0..4).filter(|&block| is_free(block)).count();
                        match take(&mut ledger, &words) {
                            Some(block) => prop_assert!(is_free(block)),
                            None => prop_assert_eq!(free, 0),
                        }
                    }
                    Step::Send { holder, block } => {
                        let held = handles[holder].iter().filter(|&&count| count > 0).count();
                        let may = handles[holder][block] > 0 || held < SHARE;
                        prop_assert_eq!(ledger.may_send(holder, block), may);
                        if may {
                            ledger.send(holder, block);
                            handles[holder][block] += 1;
                        }
                    }
                    Step::SendAndUndo { holder, block } => {
                        if ledger.may_send(holder, block) {
                            let sent = ledger.send(holder, block);
                            ledger.undo(sent);
                        }
                    }
                    Step::Return { holder, block } if handles[holder][block] > 0 => {
                        handles[holder][block] -= 1;
                        memories[holder].increment(block);
                    }
                    Step::Return { .. } => {}
                    Step::Replace { holder } => {
                        ledger.remove(holder);
                        handles[holder] = [0; 4];
                        memories[holder] = begin(&mut ledger);
                    }
                }
            }
        }
    }
}
