//! The entries of a registry of names: the keys, and the values.
//!
//! ```text
//! names.REALM.NAME.HOST      a dot in NAME and HOST is written as a slash, which neither can contain
//! 1 INSTANCE ENDPOINT        the version of the form, 32 hexadecimal digits, and host:port
//! ```

use std::fmt;
use std::sync::Arc;

use super::control::Endpoint;
use crate::identity::{Host, Instance, Name};

/// The maximum length of a value, in bytes: the version, the run, and the longest endpoint.
pub const VALUE_LEN_MAX: usize = 2 + 33 + super::control::ENDPOINT_LEN_MAX;

/// The maximum length of the name of a realm, in bytes.
const REALM_LEN_MAX: usize = 64;

/// The version of the form of a value.
const VERSION: &str = "1";

/// The name of a realm in a registry: 1 to 64 of the characters `A-Z a-z 0-9 _ -`. Realms that share a registry do not
/// meet in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realm(Arc<str>);

impl Realm {
    /// Parses the name of a realm.
    ///
    /// # Errors
    ///
    /// The reason as a lower-case fragment.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if (1..=REALM_LEN_MAX).contains(&text.len()) && text.chars().all(is_part) {
            Ok(Self(text.into()))
        } else {
            Err(format!("{text:?} is no name of a realm: it has 1 to {REALM_LEN_MAX} of A-Z, a-z, 0-9, _ and -"))
        }
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the key of a name at a host.
    #[must_use]
    pub fn key(&self, name: &Name, host: &Host) -> String {
        format!("names.{}.{}.{}", self.0, token(name.as_str()), token(host.as_str()))
    }

    /// Returns the pattern of the keys of a name at all hosts.
    #[must_use]
    pub fn pattern(&self, name: &Name) -> String {
        format!("names.{}.{}.*", self.0, token(name.as_str()))
    }

    /// Parses a key of this realm. Returns `None` for anything else, also for another spelling.
    #[must_use]
    pub fn parse_key(&self, key: &str) -> Option<(Name, Host)> {
        let rest = key.strip_prefix("names.")?.strip_prefix(self.as_str())?.strip_prefix('.')?;
        let (name, host) = rest.split_once('.')?;
        if host.contains('.') {
            return None;
        }
        Some((Name::parse(&name.replace('/', ".")).ok()?, Host::parse(&host.replace('/', ".")).ok()?))
    }
}

/// Writes a name as one token of a key.
fn token(text: &str) -> String {
    text.replace('.', "/")
}

/// The value of an entry: the bridge that exports the name. Whoever writes it claims it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The run of the bridge.
    pub instance: Instance,
    /// The address at which it can be dialled.
    pub endpoint: Endpoint,
}

/// The reason for which bytes are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadEntry {
    /// It has more than [`VALUE_LEN_MAX`] bytes.
    TooLong,
    /// It is of another version.
    Version,
    /// It is malformed.
    Malformed,
}

impl fmt::Display for BadEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "it has more than {VALUE_LEN_MAX} bytes"),
            Self::Version => write!(f, "it is not of version {VERSION}"),
            Self::Malformed => f.write_str("it is malformed"),
        }
    }
}

impl Entry {
    /// Returns the value.
    #[must_use]
    pub fn encode(&self) -> String {
        format!("{VERSION} {} {}", self.instance, self.endpoint.as_str())
    }

    /// Parses a value. Each entry has one spelling.
    ///
    /// # Errors
    ///
    /// The bytes are no entry.
    pub fn parse(value: &[u8]) -> Result<Self, BadEntry> {
        if value.len() > VALUE_LEN_MAX {
            return Err(BadEntry::TooLong);
        }
        let text = std::str::from_utf8(value).map_err(|_| BadEntry::Malformed)?;
        let (version, rest) = text.split_once(' ').ok_or(BadEntry::Malformed)?;
        if version != VERSION {
            return Err(BadEntry::Version);
        }
        let (instance, endpoint) = rest.split_once(' ').ok_or(BadEntry::Malformed)?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_instance = instance.len() == 32 && instance.bytes().all(is_digit);
        let instance = u128::from_str_radix(instance, 16).ok().filter(|_| is_instance).ok_or(BadEntry::Malformed)?;
        let endpoint = Endpoint::parse_address(endpoint).ok_or(BadEntry::Malformed)?;
        Ok(Self { instance: Instance(instance.to_be_bytes()), endpoint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn realm() -> Realm {
        Realm::parse("main").unwrap()
    }

    #[test]
    fn a_realm_is_one_token() {
        for bad in ["", "a.b", "a b", "*", ">", "a/b", &"x".repeat(65)] {
            assert!(Realm::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_spelled_as_the_specification_shows() {
        let (name, host) = (Name::parse("word.count").unwrap(), Host::parse("a.example").unwrap());
        assert_eq!(realm().key(&name, &host), "names.main.word/count.a/example");
        assert_eq!(realm().pattern(&name), "names.main.word/count.*");
        let entry =
            Entry { instance: Instance([0xab; 16]), endpoint: Endpoint::parse_address("a.example:7477").unwrap() };
        assert_eq!(entry.encode(), "1 abababababababababababababababab a.example:7477");
    }

    #[test]
    fn junk_is_no_key_and_no_entry() {
        for bad in [
            "",
            "names",
            "names.main",
            "names.main.wc",
            "names.main.wc.a.b",
            "names.other.wc.a",
            "names.main..a",
            "names.main./wc.a",
            "names.main.wc.A",
            "names.main.w*.a",
            "names.mainwc.a",
            "x.main.wc.a",
        ] {
            assert_eq!(realm().parse_key(bad), None, "{bad}");
        }
        let run = "00".repeat(16);
        for (bad, why) in [
            (String::new(), BadEntry::Malformed),
            ("2 hello".to_owned(), BadEntry::Version),
            (format!("1 {run}"), BadEntry::Malformed),
            (format!("1 {run} a"), BadEntry::Malformed),
            (format!("1 {run} a:0"), BadEntry::Malformed),
            (format!("1 {run} a:7477 "), BadEntry::Malformed),
            (format!("1 {run} a b:7477"), BadEntry::Malformed),
            (format!("1 {} a:7477", "0G".repeat(16)), BadEntry::Malformed),
            (format!("1 {} a:7477", "AB".repeat(16)), BadEntry::Malformed),
            (format!("1 +{} a:7477", &run[1..]), BadEntry::Malformed),
            ("x".repeat(300), BadEntry::TooLong),
        ] {
            assert_eq!(Entry::parse(bad.as_bytes()), Err(why), "{bad}");
        }
        assert_eq!(Entry::parse(b"1 \xff"), Err(BadEntry::Malformed));
    }

    proptest! {
        #[test]
        fn each_name_at_each_host_has_a_key_of_its_own(
            name in "[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", host in "[a-z0-9]{1,20}(\\.[a-z0-9]{1,20}){0,3}\\.x",
        ) {
            let (name, host) = (Name::parse(&name).unwrap(), Host::parse(&host).unwrap());
            let key = realm().key(&name, &host);
            prop_assert_eq!(key.split('.').count(), 4);
            prop_assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-/_=.".contains(&byte)));
            prop_assert_eq!(realm().parse_key(&key), Some((name, host)));
        }

        #[test]
        fn what_is_parsed_has_one_spelling(value in prop::collection::vec(any::<u8>(), 0..300), instance: [u8; 16],
            port in 1..=u16::MAX)
        {
            if let Ok(entry) = Entry::parse(&value) {
                prop_assert_eq!(entry.encode().into_bytes(), value);
            }
            let endpoint = Endpoint::parse_address(&format!("[::1]:{port}")).unwrap();
            let entry = Entry { instance: Instance(instance), endpoint };
            prop_assert!(entry.encode().len() <= VALUE_LEN_MAX);
            prop_assert_eq!(Entry::parse(entry.encode().as_bytes()), Ok(entry));
        }
    }
}
