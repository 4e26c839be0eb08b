//! The origin of a client that a bridge connects for another host: the file that shows it, and its text.
//!
//! ```text
//! parlour1 origin
//! host a.example
//! uid 1000
//! pid 4711
//! program wc
//! end
//! ```

use std::fmt::{self, Write};

use crate::escape::is_printable;

/// The first line of the text.
const HEAD: &str = "parlour1 origin";

/// The maximum length of the text, in bytes. A reader reads no more.
pub(crate) const TEXT_LEN_MAX: usize = 512;

/// The maximum length of a host name, in bytes, as in the DNS.
const HOST_LEN_MAX: usize = 253;

/// The maximum length of the name of a program, in bytes.
const PROGRAM_LEN_MAX: usize = 64;

/// The other host that a client comes from, if the process that has connected is a bridge.
///
/// A bridge is a program that connects to servers of this host for clients of other hosts. It sets the origin of each
/// client with [`ConnectOptions::origin`](crate::ConnectOptions::origin), and the server finds it in
/// [`Peer::origin`](crate::Peer::origin).
///
/// The server's side believes an origin only from a process of its own user or of root. That process vouches for the
/// [host](Self::host): it has authenticated it, for example by a certificate. The user, the process and the program are
/// what the other host states. They are claims, for people, and never a reason to admit a client.
///
/// # Examples
///
/// ```
/// use parlour::Origin;
///
/// let origin = Origin::new("a.example").with_uid(1000).with_pid(4711).with_program("wc");
/// assert_eq!(origin.to_string(), "host a.example (claims uid 1000, pid 4711, program wc)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Origin {
    host: Box<str>,
    uid: Option<u32>,
    pid: Option<u32>,
    program: Option<Box<str>>,
}

impl Origin {
    /// Creates an origin: the name of a host, of 1 to 253 characters of `A-Z a-z 0-9 . _ - :`. Connecting with another
    /// name fails with [`InvalidOption`](crate::ErrorKind::InvalidOption).
    #[must_use]
    pub fn new(host: impl Into<String>) -> Self {
        Self { host: host.into().into_boxed_str(), uid: None, pid: None, program: None }
    }

    /// Adds the user id that the client claims to have on its host.
    #[must_use]
    pub fn with_uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// Adds the process id that the client claims to have on its host.
    #[must_use]
    pub fn with_pid(mut self, pid: u32) -> Self {
        self.pid = Some(pid);
        self
    }

    /// Adds the name of the program that the client claims to be. U+FFFD replaces characters that are not printable.
    /// The name is cut to 64 bytes, and an empty one counts as none.
    #[must_use]
    pub fn with_program(mut self, program: impl AsRef<str>) -> Self {
        let mut name = String::new();
        for c in program.as_ref().chars() {
            let c = if is_printable(c) { c } else { char::REPLACEMENT_CHARACTER };
            if name.len() + c.len_utf8() > PROGRAM_LEN_MAX {
                break;
            }
            name.push(c);
        }
        self.program = (!name.is_empty()).then(|| name.into_boxed_str());
        self
    }

    /// Returns the name of the host, for which the process that has connected vouches.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the user id that the client claims to have on its host.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        self.uid
    }

    /// Returns the process id that the client claims to have on its host.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Returns the name of the program that the client claims to be, in printable characters.
    #[must_use]
    pub fn program(&self) -> Option<&str> {
        self.program.as_deref()
    }

    /// Returns true if the name of the host is one.
    pub(crate) fn is_valid(&self) -> bool {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        (1..=HOST_LEN_MAX).contains(&self.host.len()) && self.host.bytes().all(is_allowed)
    }

    /// Returns the text of the file.
    pub(crate) fn encode(&self) -> String {
        let mut text = format!("{HEAD}\nhost {}\n", self.host);
        let mut line = |key: &str, value: Option<&dyn fmt::Display>| {
            if let Some(value) = value {
                // Writing to a string does not fail.
                let _ = writeln!(text, "{key} {value}");
            }
        };
        line("uid", self.uid.as_ref().map(|uid| uid as _));
        line("pid", self.pid.as_ref().map(|pid| pid as _));
        line("program", self.program.as_ref().map(|program| program as _));
        text.push_str("end\n");
        text
    }

    /// Parses the text of a file. Each origin has one spelling: a text that parses is equal to the one that
    /// [`encode`](Self::encode) returns.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= TEXT_LEN_MAX)?;
        let mut lines = text.strip_prefix(HEAD)?.strip_prefix('\n')?.strip_suffix("end\n")?.lines().peekable();
        let mut value = |key: &str| {
            let rest = lines.peek()?.strip_prefix(key)?.strip_prefix(' ')?;
            lines.next();
            Some(rest)
        };
        let mut origin = Self::new(value("host")?);
        origin.uid = value("uid").map(str::parse).transpose().ok()?;
        origin.pid = value("pid").map(str::parse).transpose().ok()?;
        if let Some(program) = value("program") {
            origin = origin.with_program(program);
        }
        (origin.is_valid() && origin.encode() == text).then_some(origin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {}", self.host.escape_debug())?;
        let mut before = " (claims ";
        let mut claim = |what: &str, value: Option<&dyn fmt::Display>| match value {
            Some(value) => write!(f, "{}{what} {value}", std::mem::replace(&mut before, ", ")),
            None => Ok(()),
        };
        claim("uid", self.uid.as_ref().map(|uid| uid as _))?;
        claim("pid", self.pid.as_ref().map(|pid| pid as _))?;
        claim("program", self.program.as_ref().map(|program| program as _))?;
        if before == ", " { f.write_str(")") } else { Ok(()) }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_origin_has_the_text_of_the_specification() {
        let origin = Origin::new("a.example").with_uid(1000).with_pid(4711).with_program("wc");
        assert_eq!(origin.encode(), "parlour1 origin\nhost a.example\nuid 1000\npid 4711\nprogram wc\nend\n");
        let bare = Origin::new("a");
        assert_eq!(bare.encode(), "parlour1 origin\nhost a\nend\n");
        assert_eq!((bare.to_string(), bare.uid(), bare.program()), ("host a".to_owned(), None, None));
    }

    #[test]
    fn the_longest_origin_fits() {
        let longest = Origin::new("h".repeat(HOST_LEN_MAX)).with_uid(u32::MAX).with_pid(u32::MAX);
        let longest = longest.with_program("p".repeat(1000));
        assert_eq!(longest.program().map(str::len), Some(PROGRAM_LEN_MAX));
        assert!(longest.encode().len() <= TEXT_LEN_MAX);
        assert_eq!(Origin::parse(longest.encode().as_bytes()), Some(longest));
        assert!(!Origin::new("h".repeat(HOST_LEN_MAX + 1)).is_valid());
    }

    #[test]
    fn text_in_another_form_is_no_origin() {
        let whole = Origin::new("a").with_uid(1).with_pid(2).with_program("p q").encode();
        assert!(Origin::parse(whole.as_bytes()).is_some());
        for length in 0..whole.len() {
            assert_eq!(Origin::parse(&whole.as_bytes()[..length]), None, "{length} bytes");
        }
        for (from, to) in [
            ("uid 1", "uid 01"),
            ("uid 1", "uid +1"),
            ("uid 1", "uid 4294967296"),
            ("uid 1\npid 2", "pid 2\nuid 1"),
            ("host a", "host a b"),
            ("host a", "host "),
            ("host a\n", ""),
            ("host a", "host a\u{1b}"),
            ("host a\n", "host a\nhost b\n"),
            ("program p q", "program \u{1b}[2J"),
            ("program p q", "program "),
            ("program p q\n", "program p\nmore 1\n"),
            ("end", "end\nend"),
            ("\n", "\r\n"),
            ("parlour1", "parlour2"),
        ] {
            assert_eq!(Origin::parse(whole.replacen(from, to, 1).as_bytes()), None, "{to:?}");
        }
        assert_eq!(Origin::parse(&[whole.as_bytes(), b"\xff"].concat()), None);
        assert_eq!(Origin::parse(&[b'a'; TEXT_LEN_MAX + 1]), None);
    }

    #[test]
    fn claims_that_are_not_printable_are_replaced() {
        let origin = Origin::new("a").with_program("x\u{1b}[2J\ny\u{202e}");
        assert_eq!(origin.program(), Some("x\u{fffd}[2J\u{fffd}y\u{fffd}"));
        assert_eq!(Origin::parse(origin.encode().as_bytes()), Some(origin));
        assert_eq!(Origin::new("a").with_program("").program(), None);
        assert!(!Origin::new("a\u{1b}\n").to_string().contains(['\u{1b}', '\n']));
    }

    proptest! {
        #[test]
        fn an_origin_reads_back(
            host in "[A-Za-z0-9._:-]{1,20}", uid: Option<u32>, pid: Option<u32>, program: Option<String>
        ) {
            let mut origin = Origin::new(host);
            (origin.uid, origin.pid) = (uid, pid);
            if let Some(program) = program {
                origin = origin.with_program(program);
            }
            let text = origin.encode();
            prop_assert!(text.len() <= TEXT_LEN_MAX);
            prop_assert_eq!(Origin::parse(text.as_bytes()), Some(origin));
        }

        #[test]
        fn any_text_has_one_spelling_or_is_no_origin(
            text in "(parlour1 origin\n)?((host|uid|pid|program) [a-z0-9 .\u{0}-\u{ff}]{0,9}\n){0,5}(end\n)?"
        ) {
            if let Some(origin) = Origin::parse(text.as_bytes()) {
                prop_assert_eq!(origin.encode(), text);
            }
        }
    }
}
