//! The refusal on a socket without a handshake: on `unix` one byte, on `packet` one datagram.
//!
//! Both come where a peer that does not know them sees the end: the byte is sent out of band, and the datagram follows
//! an empty one. docs/wire.md has the details.

use super::hello::Reason;
use super::shm_hello::{Greeting, HELLO_LEN};

/// The length of a datagram that is a refusal.
pub(crate) const DATAGRAM_LEN: usize = HELLO_LEN + 1;

/// The last byte of a datagram that is a refusal. It is no marker, so no datagram of a message ends with it.
const NO_MARKER: u8 = 0xff;

/// The bit of the byte of a refusal that the first byte of a header never has.
const BIT: u8 = 0x80;

/// Returns the byte that refuses a client on a stream.
pub(crate) fn byte(reason: Reason) -> u8 {
    BIT | reason.number()
}

/// Returns the reason if a stream that begins and ends with this byte is a refusal.
pub(crate) fn parse_byte(byte: u8) -> Option<Reason> {
    Reason::of_number(byte.checked_sub(BIT)?)
}

/// Returns the datagram that refuses a client, after an empty one. It is the one that refuses a client of `shm`, and
/// one more byte.
pub(crate) fn datagram(reason: Reason) -> [u8; DATAGRAM_LEN] {
    let mut datagram = [NO_MARKER; DATAGRAM_LEN];
    datagram[..HELLO_LEN].copy_from_slice(&Greeting::Refused(reason).encode());
    datagram
}

/// Returns the reason if this datagram is a refusal.
pub(crate) fn parse_datagram(datagram: &[u8]) -> Option<Reason> {
    match Greeting::parse(datagram.strip_suffix(&[NO_MARKER])?) {
        Ok(Greeting::Refused(reason)) => Some(reason),
        Ok(Greeting::Hello { .. }) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame;
    use crate::wire::pieces::Marker;
    use proptest::prelude::*;

    #[test]
    fn each_refusal_reads_back() {
        for reason in Reason::ALL {
            assert_eq!(parse_byte(byte(reason)), Some(reason));
            assert_eq!(parse_datagram(&datagram(reason)), Some(reason));
        }
        assert_eq!(Reason::ALL.map(byte), [0x81, 0x82, 0x83]);
    }

    #[test]
    fn no_message_is_like_a_refusal() {
        let first = |length| frame::header(length).unwrap()[0];
        assert!([0, 1, frame::MESSAGE_MAX].map(first).into_iter().all(|byte| parse_byte(byte).is_none()));
        assert_eq!(Marker::parse(NO_MARKER), None);
        for reason in Reason::ALL {
            let refusal = datagram(reason);
            for marker in [Marker::Last, Marker::More, Marker::Pack] {
                // Messages with the bytes of a refusal, or with all of them except for the last.
                for message in [&refusal[..], &refusal[..HELLO_LEN], &refusal[..HELLO_LEN - 1]] {
                    assert_eq!(parse_datagram(&[message, marker.bytes()].concat()), None);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_no_refusal(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(parse_datagram(&bytes), None);
            if let [byte @ (0..=0x80 | 0x84..), ..] = bytes[..] {
                prop_assert_eq!(parse_byte(byte), None);
            }
        }
    }
}
