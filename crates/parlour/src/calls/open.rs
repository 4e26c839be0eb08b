//! The open calls of a caller, by their ids.
//!
//! The caller chooses the ids, one after the other, so a call has its place in a table at the lowest bits of its id. An
//! id whose place is taken by a call that stays open is skipped. The table grows before it is half full, so few are.

/// The number of places of the first table.
const PLACES_MIN: usize = 8;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct OpenCalls<T> {
    /// The number is a power of two, or 0.
    places: Vec<Option<(u32, T)>>,
    count: usize,
    last_id: u32,
}

impl<T> Default for OpenCalls<T> {
    fn default() -> Self {
        Self { places: Vec::new(), count: 0, last_id: 0 }
    }
}

impl<T> OpenCalls<T> {
    /// Adds a call and returns its id, which is not 0. Almost all other ids are used before one is used again.
    pub(crate) fn add(&mut self, call: T) -> u32 {
        if self.count >= self.places.len() / 2 {
            self.grow();
        }
        // At least half of the places are free.
        for _ in 0..=self.places.len() {
            self.last_id = self.last_id.wrapping_add(1);
            let id = self.last_id;
            if let Some(place @ None) = self.place(id).filter(|_| id != 0) {
                *place = Some((id, call));
                self.count += 1;
                break;
            }
        }
        self.last_id
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        match self.place(id)? {
            Some((taken, call)) if *taken == id => Some(call),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let place = self.place(id)?;
        let (_, call) = place.take_if(|(taken, _)| *taken == id)?;
        self.count -= 1;
        Some(call)
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().flatten().map(|(_, call)| call)
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten().map(|(_, call)| call)
    }

    fn place(&mut self, id: u32) -> Option<&mut Option<(u32, T)>> {
        let mask = self.places.len().wrapping_sub(1);
        self.places.get_mut(id as usize & mask)
    }

    /// Doubles the table. Two calls with different places have different places in a longer table, too.
    #[cold]
    fn grow(&mut self) {
        let length = (2 * self.places.len()).max(PLACES_MIN);
        let before = std::mem::take(&mut self.places);
        self.places.resize_with(length, || None);
        for (id, call) in before.into_iter().flatten() {
            if let Some(place) = self.place(id) {
                *place = Some((id, call));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_follow_each_other_and_skip_0_and_those_of_open_calls() {
        let mut calls = OpenCalls::default();
        assert_eq!([calls.add("a"), calls.add("b")], [1, 2]);
        assert_eq!(calls.remove(1), Some("a"));
        calls.last_id = u32::MAX;
        assert_eq!(calls.add("c"), 1, "0 is no id");
        calls.last_id = u32::MAX;
        assert_eq!(calls.add("d"), 3, "1 and 2 are open");
        assert_eq!(calls.get_mut(2), Some(&mut "b"));
        assert_eq!(calls.get_mut(10), None);
        assert_eq!(calls.len(), 3);
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_map(steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..300)) {
            let (mut calls, mut map) = (OpenCalls::default(), BTreeMap::new());
            for (number, (adds, which)) in steps.into_iter().enumerate() {
                if adds || map.is_empty() {
                    let id = calls.add(number);
                    prop_assert!(id != 0 && map.insert(id, number).is_none());
                } else {
                    let id = *map.keys().nth(which.index(map.len())).unwrap();
                    prop_assert_eq!(calls.get_mut(id).copied(), map.get(&id).copied());
                    prop_assert_eq!(calls.remove(id), map.remove(&id));
                    prop_assert_eq!(calls.remove(id), None);
                }
                prop_assert_eq!(calls.len(), map.len());
                let mut values: Vec<usize> = calls.values().copied().collect();
                values.sort_unstable();
                let mut expected: Vec<usize> = map.values().copied().collect();
                expected.sort_unstable();
                prop_assert_eq!(values, expected);
            }
        }
    }
}
