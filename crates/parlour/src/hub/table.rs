//! The table of a hub's clients: constant-time lookup by slot, and little memory for many clients.

use super::event::Client;
use super::member::Member;

/// The number of clients per block of memory.
const BLOCK: usize = 64;

/// A table of clients. Slots are reused; numbers are not.
///
/// The table is allocated in blocks. One allocation per client would cost more than one for many clients. A single
/// array would need twice the memory while it grows, and afterwards.
#[derive(Default)]
pub(super) struct Table {
    blocks: Vec<Vec<Option<Member>>>,
    free: Vec<u32>,
    last_number: u64,
}

impl Table {
    /// Inserts the client that `make` creates for its number, and returns its handle.
    pub(super) fn insert(&mut self, make: impl FnOnce(u64) -> Member) -> Client {
        self.last_number += 1;
        let member = make(self.last_number);
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(free) = self.slot_mut(slot) {
                    *free = Some(member);
                }
                slot
            }
            None => self.append(member),
        };
        Client { number: self.last_number, slot }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    fn append(&mut self, member: Member) -> u32 {
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let full = (self.blocks.len() - 1) * BLOCK;
        let Some(block) = self.blocks.last_mut() else { return 0 };
        block.push(Some(member));
        (full + block.len() - 1) as u32
    }

    pub(super) fn remove(&mut self, client: Client) -> Option<Member> {
        let member = self.slot_mut(client.slot)?.take_if(|member| member.number == client.number)?;
        self.free.push(client.slot);
        Some(member)
    }

    pub(super) fn get(&self, client: Client) -> Option<&Member> {
        self.at(client.slot).filter(|member| member.number == client.number)
    }

    pub(super) fn get_mut(&mut self, client: Client) -> Option<&mut Member> {
        self.slot_mut(client.slot)?.as_mut().filter(|member| member.number == client.number)
    }

    /// Returns the client that occupies a slot.
    pub(super) fn client_in(&self, slot: u32) -> Option<Client> {
        self.at(slot).map(|member| Client { number: member.number, slot })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Client, &Member)> {
        let slots = self.blocks.iter().flatten().zip(0..);
        slots
            .filter_map(|(member, slot)| member.as_ref().map(|member| (Client { number: member.number, slot }, member)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.blocks.iter_mut().flatten().flatten()
    }

    fn at(&self, slot: u32) -> Option<&Member> {
        let slot = slot as usize;
        self.blocks.get(slot / BLOCK)?.get(slot % BLOCK)?.as_ref()
    }

    fn slot_mut(&mut self, slot: u32) -> Option<&mut Option<Member>> {
        let slot = slot as usize;
        self.blocks.get_mut(slot / BLOCK)?.get_mut(slot % BLOCK)
    }
}
