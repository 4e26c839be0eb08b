//! The clients of a hub, found by their place at once, and small when there are many.

use super::event::Client;
use super::member::Member;

/// How many clients lie together in memory.
const BLOCK: usize = 64;

/// Places are used again, numbers never are.
///
/// In blocks: one allocation for each client would cost more than one for many, and a table in one piece would need twice
/// the memory while it grows, and after.
#[derive(Default)]
pub(super) struct Table {
    blocks: Vec<Vec<Option<Member>>>,
    free: Vec<u32>,
    last_number: u64,
}

impl Table {
    /// Keeps a client, which is made for its number.
    pub(super) fn insert(&mut self, make: impl FnOnce(u64) -> Member) -> Client {
        self.last_number += 1;
        let member = make(self.last_number);
        let place = match self.free.pop() {
            Some(place) => {
                if let Some(free) = self.place_mut(place) {
                    *free = Some(member);
                }
                place
            }
            None => self.append(member),
        };
        Client { number: self.last_number, place }
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
        let member = self.place_mut(client.place)?.take_if(|member| member.number == client.number)?;
        self.free.push(client.place);
        Some(member)
    }

    pub(super) fn get(&self, client: Client) -> Option<&Member> {
        self.at(client.place).filter(|member| member.number == client.number)
    }

    pub(super) fn get_mut(&mut self, client: Client) -> Option<&mut Member> {
        self.place_mut(client.place)?.as_mut().filter(|member| member.number == client.number)
    }

    /// Who is there now.
    pub(super) fn client_at(&self, place: u32) -> Option<Client> {
        self.at(place).map(|member| Client { number: member.number, place })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Client, &Member)> {
        let places = self.blocks.iter().flatten().zip(0..);
        places.filter_map(|(member, place)| {
            member.as_ref().map(|member| (Client { number: member.number, place }, member))
        })
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.blocks.iter_mut().flatten().flatten()
    }

    fn at(&self, place: u32) -> Option<&Member> {
        let place = place as usize;
        self.blocks.get(place / BLOCK)?.get(place % BLOCK)?.as_ref()
    }

    fn place_mut(&mut self, place: u32) -> Option<&mut Option<Member>> {
        let place = place as usize;
        self.blocks.get_mut(place / BLOCK)?.get_mut(place % BLOCK)
    }
}
