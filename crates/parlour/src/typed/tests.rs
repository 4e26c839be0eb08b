//! Tests of the codecs. Each promise is checked for both formats.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::thread;

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::bounded::{ELEMENTS_BEYOND_BYTES, LEVELS_MAX};
use super::codec::Codec::{self, Json, Postcard};
use super::undecodable::Undecodable;

const BOTH: [Codec; 2] = [Postcard, Json];

/// Encodes as any other program does.
fn encode_as<T: Serialize>(codec: Codec, value: &T) -> Vec<u8> {
    match codec {
        Postcard => encode(value),
        Json => serde_json::to_vec(value).unwrap(),
    }
}

fn decode<T: DeserializeOwned>(message: &[u8]) -> Result<T, Undecodable> {
    Postcard.decode(message)
}

fn decode_json<T: DeserializeOwned>(message: impl AsRef<[u8]>) -> Result<T, Undecodable> {
    Json.decode(message.as_ref())
}

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
    for codec in BOTH {
        assert_eq!(codec.decode::<Vec<u8>>(&encode_as(codec, &many)), Ok(many.clone()), "{codec:?}");
    }
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
    for surplus in ["1 2", "1,", "1]", "{} {}", "1\0", "null\u{feff}", "1\u{a0}"] {
        let reason = decode_json::<serde_json::Value>(surplus).unwrap_err().to_string();
        assert!(reason.ends_with("trailing characters"), "{surplus}: {reason}");
    }
    assert_eq!(decode_json::<u8>(" \t\r\n1 \n"), Ok(1), "white space is not a part of the value");
    assert!(decode_json::<u8>("").is_err());
}

#[test]
fn json_that_nests_deeply_is_refused_wherever_it_stands() {
    let list = |levels| "[".repeat(levels) + &"]".repeat(levels);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct List(Vec<List>);
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum Loose {
        Number(u8),
        List(Vec<Loose>),
        Map(HashMap<String, Loose>),
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Only {
        wanted: u8,
    }
    let deepest = LEVELS_MAX / 2;
    // Decodes in a thread, whose stack is smaller than that of the main thread.
    thread::spawn(move || {
        assert!(decode_json::<List>(list(deepest)).is_ok());
        assert_eq!(
            decode_json::<List>(list(deepest + 1)),
            Err(Undecodable::TooMuch("the values are nested too deeply"))
        );
        for levels in [LEVELS_MAX, LEVELS_MAX + 1, 1 << 20] {
            for open in ["[", "{\"a\":", "[{\"b\":", "[[[1],"] {
                let text = open.repeat(levels);
                assert!(decode_json::<List>(&text).is_err(), "{levels} times {open}");
                assert!(decode_json::<Tree>(&text).is_err(), "{levels} times {open}");
                assert!(decode_json::<Loose>(&text).is_err(), "{levels} times {open}");
                assert!(decode_json::<serde_json::Value>(&text).is_err(), "{levels} times {open}");
            }
            let text = list(levels);
            assert!(decode_json::<Loose>(&text).is_err());
            assert!(decode_json::<serde_json::Value>(&text).is_err());
            let pairs = "{\"Pair\":[".repeat(levels);
            assert!(decode_json::<Tree>(&pairs).is_err());
            // A field that the type ignores takes neither stack nor memory.
            let ignored = format!("{{\"other\":{text},\"wanted\":7}}");
            assert_eq!(decode_json::<Only>(&ignored), Ok(Only { wanted: 7 }));
        }
        assert!(decode_json::<serde_json::Value>(list(127)).is_ok());
    })
    .join()
    .unwrap();
}

/// In JSON an option is `null` or its content. For a type that is an option of itself, any other value is an endless
/// content: serde_json alone exhausts the stack, whatever the message is.
#[test]
fn json_for_a_type_that_contains_nothing_but_itself_ends() {
    for text in ["7", "[]", "\"x\"", "{\"a\":1}"] {
        assert_eq!(decode_json::<Node>(text), Err(Undecodable::TooMuch("the values are nested too deeply")), "{text}");
    }
    assert_eq!(decode_json::<Node>("null"), Ok(Node(None)));
}

#[test]
fn json_that_is_not_utf_8_is_refused_wherever_it_stands() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Only {
        wanted: u8,
    }
    let message = b"{\"other\":\"\xff\",\"wanted\":7}";
    assert_eq!(decode_json::<Only>(message), Err(Undecodable::NotText { at: 10 }));
    assert!(serde_json::from_slice::<Only>(message).is_ok(), "serde_json checks these bytes by itself now");
    assert_eq!(decode_json::<String>(b"\"a\xc0\x80\""), Err(Undecodable::NotText { at: 2 }));
    assert_eq!(decode_json::<String>(b"\"\xf0\x9f\x92\""), Err(Undecodable::NotText { at: 1 }));
    assert!(decode_json::<String>(r#""\ud800""#).is_err(), "half of a pair of surrogates");
    assert_eq!(decode_json::<String>(r#""\ud83d\ude00""#).as_deref(), Ok("😀"));
}

#[test]
fn what_an_error_quotes_from_a_message_is_escaped_and_bounded() {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only its errors are read")]
    enum Color {
        Red,
    }
    let evil = format!("{}\u{1b}]0;title\u{7}\u{202e}", "x".repeat(4));
    let reason = decode_json::<Color>(serde_json::to_vec(&evil).unwrap()).unwrap_err().to_string();
    assert!(reason.starts_with("line 1, column "), "{reason}");
    assert!(reason.contains("unknown variant `xxxx\\x1b]0;title\\x07\\u{202e}`, expected `Red`"), "{reason}");
    let reason = decode_json::<u8>(serde_json::to_vec(&evil).unwrap()).unwrap_err().to_string();
    assert!(reason.chars().all(crate::escape::is_printable), "{reason}");
    let long = format!("\"{}\"", "x".repeat(1 << 20));
    let reason = decode_json::<Color>(&long).unwrap_err().to_string();
    assert!(reason.len() < 1200 && reason.ends_with("\\..."), "{}", reason.len());
}

#[test]
fn json_means_the_same_whatever_its_spelling() {
    assert_eq!(decode_json::<Tree>("\"Leaf\""), Ok(Tree::Leaf));
    assert_eq!(decode_json::<Tree>(" { \"Text\" : \"\\u0041\" } "), Ok(Tree::Text("A".into())));
    let named = Tree::Named { name: None, children: vec![Tree::Leaf] };
    assert_eq!(decode_json::<Tree>("{\"Named\":{\"children\":[\"Leaf\"],\"x\":[{}]}}"), Ok(named));
    for bad in [
        "{\"Named\":{}}",
        "{\"Leaf\":null,\"Text\":\"\"}",
        "{\"Text\":1}",
        "Leaf",
        "'Leaf'",
        "{\"Map\":{\"x\":\"Leaf\"}}",
    ] {
        assert!(matches!(decode_json::<Tree>(bad), Err(Undecodable::Json(_))), "{bad}");
    }
    for number in ["256", "-1", "1.5", "1e400", "\"1\"", "NaN", "0x1", "01"] {
        assert!(decode_json::<u8>(number).is_err(), "{number}");
    }
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
    for codec in BOTH {
        let message = encode_as(codec, &all);
        assert_eq!(codec.decode::<All>(&message), Ok(all.clone()), "{codec:?}");
        let failed = All { result: Err("no".into()), ..all.clone() };
        assert_eq!(codec.decode::<All>(&encode_as(codec, &failed)), Ok(failed), "{codec:?}");
        for length in 0..message.len() {
            assert!(codec.decode::<All>(&message[..length]).is_err(), "{codec:?}: {length} bytes");
        }
    }
}

proptest! {
    #[test]
    fn values_read_back(tree in trees()) {
        for codec in BOTH {
            prop_assert_eq!(codec.decode::<Tree>(&encode_as(codec, &tree)), Ok(tree.clone()));
        }
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

    #[test]
    fn floats_read_back_to_the_last_bit(bits in any::<u64>(), small in any::<u32>()) {
        let (float, single) = (f64::from_bits(bits), f32::from_bits(small));
        for codec in BOTH.into_iter().filter(|codec| *codec == Postcard || (float.is_finite() && single.is_finite())) {
            let (double, short) = codec.decode::<(f64, f32)>(&encode_as(codec, &(float, single))).unwrap();
            prop_assert_eq!((double.to_bits(), short.to_bits()), (bits, small), "{:?}", codec);
        }
    }

    #[test]
    fn hostile_json_never_panics(tree in trees(), at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        // One byte of a proper message is another one. Except for UTF-8 and the limits, the result is serde_json's own.
        let mut message = encode_as(Json, &tree);
        let at = at.index(message.len());
        message[at] = byte;
        match (decode_json::<Tree>(&message), serde_json::from_slice::<Tree>(&message)) {
            (Ok(tree), Ok(same)) => prop_assert_eq!(tree, same),
            (Err(Undecodable::Json(_)), Err(_)) | (Err(Undecodable::NotText { .. } | Undecodable::TooMuch(_)), _) => {}
            (ours, theirs) => prop_assert!(false, "parlour returned {ours:?}, and serde_json returned {theirs:?}"),
        }
    }
}
