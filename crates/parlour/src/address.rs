//! Names and addresses: `wc`, `fifo:wc`, `unix:/srv/rooms/wc`.

use std::fmt;
use std::path::{Component, Path};
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::transport::Transport;

/// The maximum length of a name, in bytes.
pub const NAME_LEN_MAX: usize = 64;

/// The address of a server: `[transport:]name` or `[transport:]/absolute/base/name`.
///
/// A *name* consists of 1 to 64 of the characters `A-Z a-z 0-9 . _ -` and does not begin with a dot. It is never a
/// path. For a bare name, the base directories that [`inspect::bases`](crate::inspect::bases) lists are searched. In an
/// address with a path, the directory before the last component is the only base.
///
/// # Examples
/// ```
/// use parlour::{Address, Transport};
///
/// let address = Address::parse("fifo:/srv/rooms/wc")?;
/// assert_eq!(address.transport(), Some(Transport::Fifo));
/// assert_eq!(address.name(), "wc");
/// assert_eq!(address.base(), Some(std::path::Path::new("/srv/rooms")));
///
/// let error = Address::parse("word count").unwrap_err();
/// assert!(error.to_string().contains("' ' at byte 4"), "{error}");
/// # Ok::<(), parlour::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    text: String,
    transport: Option<Transport>,
    /// The offset in `text` of the part after `transport:`, and that of the name.
    place_at: usize,
    name_at: usize,
}

impl Address {
    /// Parses an address. Does not access the file system.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidName`]: the address is malformed. The error quotes the character that is not permitted or
    ///   the transport that is unknown.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |detail: String| {
            Error::new(ErrorKind::InvalidName, Operation::ParseAddress, format!("{text:?}"), detail)
                .next("an address is [transport:]name or [transport:]/absolute/directory/name")
        };
        let (transport, place_at) = match text.split_once(':') {
            Some((prefix, _)) if !prefix.contains('/') => {
                let transport = prefix.parse().map_err(|_| {
                    let known: Vec<_> = Transport::ALL.iter().map(ToString::to_string).collect();
                    invalid(format!("{prefix:?} is not a transport (known: {})", known.join(", ")))
                })?;
                (Some(transport), prefix.len() + 1)
            }
            _ => (None, 0),
        };
        let place = &text[place_at..];
        let name_at = match place.rfind('/') {
            Some(slash) => {
                check_base(&place[..slash]).map_err(invalid)?;
                place_at + slash + 1
            }
            None => place_at,
        };
        check_name(&text[name_at..], name_at).map_err(invalid)?;
        Ok(Self { text: text.to_owned(), transport, place_at, name_at })
    }

    /// Returns the transport, if the address demands one.
    #[must_use]
    pub fn transport(&self) -> Option<Transport> {
        self.transport
    }

    /// Returns the name, without transport and base.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.text[self.name_at..]
    }

    /// Returns the base directory, if the address contains one. It is an absolute path.
    #[must_use]
    pub fn base(&self) -> Option<&Path> {
        if self.name_at == self.place_at {
            return None;
        }
        match &self.text[self.place_at..self.name_at - 1] {
            "" => Some(Path::new("/")),
            base => Some(Path::new(base)),
        }
    }
}

/// Returns the reason why a path cannot be a base directory.
fn check_base(base: &str) -> Result<(), String> {
    if !base.is_empty() && !base.starts_with('/') {
        return Err("a base directory must be an absolute path".to_owned());
    }
    if base.contains('\0') {
        return Err("a path must not contain a NUL byte".to_owned());
    }
    if Path::new(base).components().any(|part| part == Component::ParentDir) {
        return Err("a base directory must not contain '..'".to_owned());
    }
    Ok(())
}

/// Returns the reason why `name`, at byte `offset` of the user's input, is not a name.
fn check_name(name: &str, offset: usize) -> Result<(), String> {
    if name.is_empty() {
        return Err("the name is empty".to_owned());
    }
    let bad = |(at, c): (usize, char)| match c {
        'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '-' => false,
        '.' => at == 0,
        _ => true,
    };
    if let Some((at, c)) = name.char_indices().find(|&found| bad(found)) {
        return Err(match c {
            '.' => "a name must not begin with '.'".to_owned(),
            _ => {
                format!("a name must not contain {c:?} at byte {} (allowed: letters, digits and . _ -)", offset + at)
            }
        });
    }
    if name.len() > NAME_LEN_MAX {
        return Err(format!("the name has {} bytes and may have at most {NAME_LEN_MAX}", name.len()));
    }
    Ok(())
}

/// Returns true if `name` is a valid name, for listings of directories that may contain other files.
pub(crate) fn is_name(name: &str) -> bool {
    check_name(name, 0).is_ok()
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl AsRef<str> for Address {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bare_name_has_neither_transport_nor_base() {
        let address = Address::parse("server1.example.com").unwrap();
        assert_eq!((address.transport(), address.base()), (None, None));
        assert_eq!(address.name(), "server1.example.com");
    }

    #[test]
    fn the_root_directory_can_be_a_base() {
        let address = Address::parse("unix:/wc").unwrap();
        assert_eq!(address.base(), Some(Path::new("/")));
        assert_eq!(address.name(), "wc");
    }

    #[test]
    fn sixty_four_bytes_are_a_name_and_one_more_is_not() {
        assert!(Address::parse(&"n".repeat(64)).is_ok());
        let error = Address::parse(&"n".repeat(65)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName);
        assert!(error.to_string().contains("65 bytes"), "{error}");
    }

    #[test]
    fn each_bad_address_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "empty"),
            ("unix:", "empty"),
            ("/srv/rooms/", "empty"),
            (".hidden", "begin with '.'"),
            ("..", "begin with '.'"),
            ("a b", "' ' at byte 1"),
            ("unix:a*", "'*' at byte 6"),
            ("caf\u{e9}", "'\u{e9}' at byte 3"),
            ("a\0b", "'\\0' at byte 1"),
            ("rooms/wc", "absolute"),
            ("/srv/../wc", "'..'"),
            ("/a\0b/wc", "NUL"),
            ("carrier-pigeon:wc", "not a transport"),
            (":wc", "not a transport"),
        ] {
            let error = Address::parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::InvalidName, "{text:?}");
            assert!(error.to_string().contains(reason), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_a_parsed_name_is_never_a_path(text in ".{0,80}") {
            if let Ok(address) = Address::parse(&text) {
                prop_assert!(!address.name().contains('/'));
                prop_assert_eq!(address.to_string(), text);
            }
        }
    }
}
