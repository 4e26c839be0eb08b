//! The clients of a hub, found by their number at once and small when there are many.

use super::event::Client;
use super::member::Member;

/// Places are used again, numbers never are.
#[derive(Default)]
pub(super) struct Table {
    // One by one on the heap: a table that grew with them inside would need twice the memory while it grows, and after.
    places: Vec<Option<Box<Member>>>,
    free: Vec<u32>,
    last_number: u64,
}

impl Table {
    /// Takes a place for a client that is made for its name in this hub.
    pub(super) fn insert(&mut self, make: impl FnOnce(Client) -> Member) -> Client {
        self.last_number += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            (self.places.len() - 1) as u32
        });
        let client = Client { number: self.last_number, place };
        if let Some(free) = self.places.get_mut(place as usize) {
            *free = Some(Box::new(make(client)));
        }
        client
    }

    pub(super) fn remove(&mut self, client: Client) -> Option<Box<Member>> {
        let place = self.places.get_mut(client.place as usize)?;
        let member = place.take_if(|member| member.client == client)?;
        self.free.push(client.place);
        Some(member)
    }

    pub(super) fn get(&self, client: Client) -> Option<&Member> {
        self.at(client.place).filter(|member| member.client == client)
    }

    pub(super) fn get_mut(&mut self, client: Client) -> Option<&mut Member> {
        let member = self.places.get_mut(client.place as usize)?.as_deref_mut()?;
        (member.client == client).then_some(member)
    }

    /// Whoever is there.
    pub(super) fn at(&self, place: u32) -> Option<&Member> {
        self.places.get(place as usize)?.as_deref()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.places.iter().flatten().map(AsRef::as_ref)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.places.iter_mut().flatten().map(AsMut::as_mut)
    }
}
