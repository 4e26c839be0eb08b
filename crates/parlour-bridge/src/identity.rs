//! The things that a bridge gives names to: hosts, servers, runs of a bridge, links and conversations.

use std::fmt;
use std::sync::Arc;

use parlour::Address;

/// The maximum length of the name of a host, in bytes. With it, every hello fits into a control frame.
pub const HOST_LEN_MAX: usize = 200;

/// The name of a server, by the rules of [`Address`]: 1 to 64 of the characters `A-Z a-z 0-9 . _ -`, and no dot at the
/// beginning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Parses a bare name, without a transport and without a base directory.
    ///
    /// # Errors
    ///
    /// The reason as a lower-case fragment.
    pub fn parse(text: &str) -> Result<Self, String> {
        let address = Address::parse(text).map_err(|error| error.to_string())?;
        if address.transport().is_some() || address.base().is_some() {
            return Err(format!("{text:?} has a transport or a directory: write the name alone"));
        }
        Ok(Self(address.name().into()))
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a host: a DNS name in lower case, of at most [`HOST_LEN_MAX`] bytes. The certificate of the host has it
/// as a subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(Arc<str>);

impl Host {
    /// Parses the name of a host.
    ///
    /// # Errors
    ///
    /// The reason as a lower-case fragment.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > HOST_LEN_MAX {
            return Err(format!("the name of a host has 1 to {HOST_LEN_MAX} bytes, and not {}", text.len()));
        }
        for label in text.split('.') {
            let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if label.is_empty() || label.len() > 63 || label.starts_with('-') || label.ends_with('-') {
                return Err(format!(
                    "{label:?} is no label of a DNS name: it has 1 to 63 characters, and no - at an end"
                ));
            }
            if let Some(c) = label.chars().find(|&c| !is_part(c)) {
                return Err(format!("the name of a host must not contain {c:?} (allowed: a-z, 0-9, - and .)"));
            }
        }
        // Otherwise an address of IPv4 would pass for a name, which certificates do not accept.
        if text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(format!("{text:?} is an address or a number: a host needs a name"));
        }
        Ok(Self(text.into()))
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One run of a bridge: 16 random bytes that the bridge chooses when it starts. A restarted bridge has another one, and
/// knows nothing of the conversations of the run before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance(pub [u8; 16]);

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A control connection, by the number that the driver gives it. A number is never used twice in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// A conversation at one bridge, by the number that the driver gives it. A number is never used twice in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_bare() {
        assert_eq!(Name::parse("wc").unwrap().as_str(), "wc");
        for bad in ["", ".wc", "fifo:wc", "/srv/rooms/wc", "word count", &"x".repeat(65)] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_is_a_dns_name_in_lower_case() {
        for good in ["a", "host-1.example.org", "10.example", &vec!["x".repeat(49); 4].join(".")] {
            assert_eq!(Host::parse(good).unwrap().as_str(), good);
        }
        let long = vec!["x".repeat(50); 4].join(".");
        for bad in
            ["", "A", "a b", "-a", "a-", "a..b", ".a", "a.", "10.0.0.1", "a.7", "*.example", &long, &"x".repeat(64)]
        {
            assert!(Host::parse(bad).is_err(), "{bad}");
        }
    }
}
