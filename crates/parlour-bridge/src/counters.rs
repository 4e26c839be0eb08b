//! The counts since the start of a bridge. They change when conversations and links begin and end, and never on the
//! path of their bytes.

use crate::wire::conversation::{Answer, Refusal};

/// The counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The clients of this host that an exporter has accepted.
    pub imported: u64,
    /// The clients of this host that no exporter has taken.
    pub aborted: u64,
    /// The clients of other hosts that this one has accepted.
    pub exported: u64,
    /// The clients of other hosts that this one has refused, in the order of [`Refusal::ALL`].
    pub refused: [u64; Refusal::ALL.len()],
    /// The links that were up, and that have ended without an announcement.
    pub links_lost: u64,
}

impl Counters {
    /// This host answers a client of another one.
    pub fn answered(&mut self, answer: &Answer) {
        match answer {
            Answer::Accepted => self.exported += 1,
            Answer::Refused(refusal, _) => {
                let of_kind = Refusal::ALL.iter().zip(&mut self.refused).filter(|(kind, _)| *kind == refusal);
                of_kind.for_each(|(_, count)| *count += 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_counted_by_its_kind() {
        let mut counters = Counters::default();
        counters.answered(&Answer::Accepted);
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            (0..index).for_each(|_| counters.answered(&Answer::Refused(refusal, String::new())));
        }
        assert_eq!(counters, Counters { exported: 1, refused: [0, 1, 2, 3, 4, 5], ..Counters::default() });
    }
}
