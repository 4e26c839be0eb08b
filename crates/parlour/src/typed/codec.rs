//! Encoding and decoding of values with [postcard](https://postcard.jamesmunns.com/wire-format), and the errors of
//! both.
//!
//! This module does not depend on how the bytes are sent, so every API over a connection can use it.

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bounded::Budget;
use crate::endpoint::Common;
use crate::error::{Error, ErrorKind, Operation, Result};

/// An encoder of values. All messages use the same buffer, which grows to the length of the longest one; after that
/// nothing is allocated.
pub(crate) struct Encoder<S: ?Sized> {
    buffer: Vec<u8>,
    _sent: PhantomData<fn(&S)>,
}

impl<S: ?Sized> Default for Encoder<S> {
    fn default() -> Self {
        Self { buffer: Vec::new(), _sent: PhantomData }
    }
}

impl<S: Serialize + ?Sized> Encoder<S> {
    /// Returns the message for `value`, of at most `message_max` bytes.
    pub(crate) fn encode(&mut self, value: &S, message_max: usize, common: &Common) -> Result<&[u8]> {
        self.buffer.clear();
        let storage = Limited { buffer: &mut self.buffer, max: message_max };
        match postcard::serialize_with_flavor(value, storage) {
            Ok(()) => Ok(&self.buffer),
            Err(postcard::Error::SerializeBufferFull) => {
                let detail = format!("the encoded value exceeds the limit of {message_max} bytes");
                Err(cannot_encode::<S>(ErrorKind::MessageTooLong, detail, common)
                    .next("send it in parts, or raise message_max on both sides"))
            }
            Err(reason) => Err(cannot_encode::<S>(ErrorKind::Encoding, reason.to_string(), common)
                .next("nothing was sent; check the type's implementation of Serialize")),
        }
    }
}

fn cannot_encode<S: ?Sized>(kind: ErrorKind, reason: String, common: &Common) -> Error {
    common.error(kind, Operation::Encode, format!("value of type {}: {reason}", type_name::<S>()))
}

/// A reused buffer that does not grow beyond the maximum length of a message.
struct Limited<'a> {
    buffer: &'a mut Vec<u8>,
    max: usize,
}

impl Flavor for Limited<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if bytes.len() > self.max - self.buffer.len() {
            return Err(postcard::Error::SerializeBufferFull);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// A decoder of values. It counts the messages, for error texts.
pub(crate) struct Decoder<R> {
    number: u64,
    _received: PhantomData<fn() -> R>,
}

impl<R> Default for Decoder<R> {
    fn default() -> Self {
        Self { number: 0, _received: PhantomData }
    }
}

impl<R: DeserializeOwned> Decoder<R> {
    /// Returns the value of the next message.
    pub(crate) fn decode(&mut self, message: &[u8], common: &Common) -> Result<R> {
        self.number += 1;
        decode(message).map_err(|reason| {
            let (number, length, wanted) = (self.number, message.len(), type_name::<R>());
            let detail = format!("message {number} ({length} bytes) is not a valid {wanted}: {reason}");
            common
                .error(ErrorKind::Encoding, Operation::Decode, detail)
                .next("receive the next message, and check that both sides use the same types")
        })
    }
}

/// The reason why a message is not a valid value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Undecodable {
    Postcard(postcard::Error),
    /// The value exceeds a limit of [`Budget`].
    TooMuch(&'static str),
    /// The value ends before the message does.
    Surplus {
        bytes: usize,
    },
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postcard(reason) => reason.fmt(f),
            Self::TooMuch(what) => f.write_str(what),
            Self::Surplus { bytes } => write!(f, "{bytes} bytes follow the end of the value"),
        }
    }
}

/// Encodes a value as a message of the connection that `common` belongs to.
pub(crate) fn encode<'a, S: Serialize + ?Sized>(
    encoder: &'a mut Encoder<S>,
    value: &S,
    common: &Common,
) -> Result<&'a [u8]> {
    encoder.encode(value, common.message_max, common)
}

/// Returns an iterator that calls a receiving function. It ends after `None` or after an error that ends the
/// connection.
pub(super) fn values<R>(mut next: impl FnMut() -> Option<Result<R>>) -> impl Iterator<Item = Result<R>> {
    let mut ended = false;
    std::iter::from_fn(move || {
        let item = if ended { None } else { next() };
        ended = match &item {
            Some(Err(error)) => error.kind() != ErrorKind::Encoding,
            Some(Ok(_)) => false,
            None => true,
        };
        item
    })
}

/// Returns the value that all of these bytes encode.
pub(crate) fn decode<T: DeserializeOwned>(message: &[u8]) -> Result<T, Undecodable> {
    let budget = Budget::for_message(message.len());
    let mut deserializer = postcard::Deserializer::from_bytes(message);
    let value = T::deserialize(budget.bound(&mut deserializer)).map_err(|reason| match budget.exceeded() {
        Some(what) => Undecodable::TooMuch(what),
        None => Undecodable::Postcard(reason),
    })?;
    match deserializer.finalize().map_err(Undecodable::Postcard)? {
        [] => Ok(value),
        rest => Err(Undecodable::Surplus { bytes: rest.len() }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::thread;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::super::bounded::{ELEMENTS_BEYOND_BYTES, LEVELS_MAX};
    use super::*;

    fn encode<T: Serialize>(value: &T) -> Vec<u8> {
        postcard::to_stdvec(value).unwrap()
    }

    /// Encodes a length prefix that no message can satisfy.
    fn claimed(length: u64) -> Vec<u8> {
        encode(&length)
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Tree {
        Leaf,
        Text(String),
        Pair(Box<Tree>, Box<Tree>),
        Named { name: Option<String>, children: Vec<Tree> },
        Map(BTreeMap<u32, Tree>),
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Node(Option<Box<Node>>);

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Nothing;

    #[test]
    fn an_impossible_length_is_refused_before_anything_is_allocated() {
        let no_end = Undecodable::Postcard(postcard::Error::DeserializeUnexpectedEnd);
        for length in [1 << 60, u64::MAX, 1 << 32] {
            let message = claimed(length);
            assert_eq!(decode::<Vec<u64>>(&message), Err(no_end.clone()));
            assert_eq!(decode::<Vec<[u64; 32]>>(&message), Err(no_end.clone()));
            assert_eq!(decode::<HashMap<u8, u8>>(&message), Err(no_end.clone()));
            assert_eq!(decode::<String>(&message), Err(no_end.clone()));
            assert_eq!(decode::<Greedy>(&message), Err(no_end.clone()));
        }
    }

    /// A type that reserves memory for as many elements as the size hint says.
    #[derive(Debug, PartialEq)]
    struct Greedy(Vec<(u8, u8)>);

    impl<'de> Deserialize<'de> for Greedy {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Entries;
            impl<'de> serde::de::Visitor<'de> for Entries {
                type Value = Greedy;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a map")
                }

                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Greedy, A::Error> {
                    let mut entries = Vec::with_capacity(map.size_hint().unwrap_or(0));
                    while let Some(entry) = map.next_entry()? {
                        entries.push(entry);
                    }
                    Ok(Greedy(entries))
                }
            }
            deserializer.deserialize_map(Entries)
        }
    }

    #[test]
    fn elements_without_bytes_are_bounded_over_the_whole_message() {
        for length in [1 << 60, u64::MAX] {
            // Without the limit, decoding would take years.
            let too_many = Undecodable::TooMuch("the message has too many elements for its length");
            assert_eq!(decode::<Vec<()>>(&claimed(length)), Err(too_many.clone()));
            assert_eq!(decode::<Vec<Nothing>>(&claimed(length)), Err(too_many.clone()));
            assert_eq!(decode::<BTreeMap<(), ()>>(&claimed(length)), Err(too_many));
        }
        let all = vec![(); ELEMENTS_BEYOND_BYTES];
        assert_eq!(decode::<Vec<()>>(&encode(&all)), Ok(all));
        let announced = (ELEMENTS_BEYOND_BYTES / 2) as u64;
        let halves: Vec<u8> = [encode(&3u8), claimed(announced), claimed(announced), claimed(announced)].concat();
        assert!(matches!(decode::<Vec<Vec<()>>>(&halves), Err(Undecodable::TooMuch(_))));
        assert!(decode::<(Vec<()>, Vec<()>)>(&halves[1..halves.len() - encode(&announced).len()]).is_ok());
    }

    #[test]
    fn many_elements_of_one_byte_are_not_too_many() {
        let many = vec![7u8; 3_000_000];
        assert_eq!(decode::<Vec<u8>>(&encode(&many)), Ok(many));
    }

    #[test]
    fn nesting_is_bounded_so_that_no_message_exhausts_the_stack() {
        let nest = |levels| (0..levels).fold(Node(None), |node, _| Node(Some(Box::new(node))));
        // A node takes two levels: the newtype, and the option in it.
        let deepest = LEVELS_MAX / 2 - 1;
        // The test decodes in a thread, whose stack is smaller than that of the main thread.
        let decoded = move |levels| thread::spawn(move || decode::<Node>(&encode(&nest(levels)))).join().unwrap();
        assert_eq!(decoded(deepest), Ok(nest(deepest)));
        assert_eq!(decoded(deepest + 1), Err(Undecodable::TooMuch("the values are nested too deeply")));
        assert_eq!(decode::<Node>(&[1; 1 << 20]), Err(Undecodable::TooMuch("the values are nested too deeply")));
        let named = [3, 0, 1].repeat(1 << 20);
        assert_eq!(decode::<Tree>(&named), Err(Undecodable::TooMuch("the values are nested too deeply")));
    }

    #[test]
    fn bytes_after_the_value_are_an_error() {
        assert_eq!(decode::<u8>(&[1, 2, 3]), Err(Undecodable::Surplus { bytes: 2 }));
        assert_eq!(decode::<()>(&[1]), Err(Undecodable::Surplus { bytes: 1 }));
        assert_eq!(decode::<()>(&[]), Ok(()));
    }

    fn trees() -> impl Strategy<Value = Tree> {
        let leaf = prop_oneof![Just(Tree::Leaf), ".{0,8}".prop_map(Tree::Text)];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                (inner.clone(), inner.clone()).prop_map(|(one, other)| Tree::Pair(one.into(), other.into())),
                (proptest::option::of(".{0,4}"), proptest::collection::vec(inner.clone(), 0..4))
                    .prop_map(|(name, children)| Tree::Named { name, children }),
                proptest::collection::btree_map(any::<u32>(), inner, 0..4).prop_map(Tree::Map),
            ]
        })
    }

    /// A struct with one value of every kind that serde has.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct All {
        bools: (bool, bool),
        small: (i8, u8, i16, u16),
        large: (i64, u64, i128, u128),
        float: (f32, f64),
        text: (char, String, Box<str>),
        unit: ((), std::marker::PhantomData<u8>),
        result: Result<Vec<u32>, String>,
        array: [u16; 3],
        duration: std::time::Duration,
        path: std::path::PathBuf,
        address: std::net::SocketAddr,
    }

    #[test]
    fn every_kind_of_value_reads_back() {
        let all = All {
            bools: (false, true),
            small: (-1, 2, -3, 4),
            large: (i64::MIN, u64::MAX, i128::MIN, u128::MAX),
            float: (1.5, -2.5e300),
            text: ('ß', "text".into(), "boxed".into()),
            unit: ((), std::marker::PhantomData),
            result: Ok(vec![1, 1 << 30]),
            array: [1, 2, 60_000],
            duration: std::time::Duration::from_millis(1234),
            path: "/a/b".into(),
            address: "[::1]:80".parse().unwrap(),
        };
        assert_eq!(decode::<All>(&encode(&all)), Ok(all.clone()));
        assert_eq!(
            decode::<All>(&encode(&All { result: Err("no".into()), ..all.clone() })).unwrap().result,
            Err("no".into())
        );
        for length in 0..encode(&all).len() {
            assert!(decode::<All>(&encode(&all)[..length]).is_err(), "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn values_read_back(tree in trees()) {
            prop_assert_eq!(decode::<Tree>(&encode(&tree)), Ok(tree));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            // Except for the limits, the result is the same as postcard's own.
            match (decode::<Tree>(&bytes), postcard::take_from_bytes::<Tree>(&bytes)) {
                (Ok(tree), Ok((same, rest))) => prop_assert!(tree == same && rest.is_empty()),
                (Err(Undecodable::Surplus { bytes }), Ok((_, rest))) => prop_assert_eq!(bytes, rest.len()),
                (Err(Undecodable::Postcard(reason)), Err(same)) => prop_assert_eq!(reason, same),
                (Err(Undecodable::TooMuch(_)), _) => {}
                (ours, theirs) => prop_assert!(false, "parlour returned {ours:?}, and postcard returned {theirs:?}"),
            }
        }
    }
}
