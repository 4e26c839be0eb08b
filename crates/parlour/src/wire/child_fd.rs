//! The environment variables by which a parent process announces a connection to its child: the number of a descriptor
//! in `PARLOUR_FD`, the inode of its socket in `PARLOUR_FD_INODE`, and the transport in `PARLOUR_FD_TRANSPORT`.

use std::ffi::OsStr;

use crate::transport::Transport;

/// The variable with the number of the descriptor, in decimal digits.
pub(crate) const NUMBER: &str = "PARLOUR_FD";

/// The variable with the inode of the socket. It is optional. It tells a descriptor that the parent passed from another
/// one that has the same number by now: environments outlive descriptors.
pub(crate) const INODE: &str = "PARLOUR_FD_INODE";

/// The variable with the transport: `unix`, `packet` or `shm`. It is optional for the first two.
pub(crate) const TRANSPORT: &str = "PARLOUR_FD_TRANSPORT";

/// A descriptor that the environment announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) number: i32,
    pub(crate) inode: Option<u64>,
    pub(crate) transport: Option<Transport>,
}

/// The reason for which the environment announces no descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAnnounced {
    /// `PARLOUR_FD` is not set, or empty.
    NotSet,
    /// The variable of this name is not a number in its range.
    Malformed(&'static str),
    /// `PARLOUR_FD_TRANSPORT` is not the word of a transport that can be inherited.
    UnknownTransport,
}

/// Returns true if a child can inherit a connection over this transport: one socket is all that it needs.
pub(crate) fn can_be_inherited(transport: Transport) -> bool {
    matches!(transport, Transport::Unix | Transport::Packet | Transport::Shm)
}

/// Parses the variables.
pub(crate) fn parse(
    number: Option<&OsStr>,
    inode: Option<&OsStr>,
    transport: Option<&OsStr>,
) -> Result<Announced, NotAnnounced> {
    let number = number.filter(|text| !text.is_empty()).ok_or(NotAnnounced::NotSet)?;
    let number = digits(number).and_then(|number| i32::try_from(number).ok());
    let number = number.ok_or(NotAnnounced::Malformed(NUMBER))?;
    let inode = match inode {
        Some(text) => Some(digits(text).ok_or(NotAnnounced::Malformed(INODE))?),
        None => None,
    };
    let transport = match transport {
        Some(text) => Some(transport_of(text).ok_or(NotAnnounced::UnknownTransport)?),
        None => None,
    };
    Ok(Announced { number, inode, transport })
}

fn transport_of(text: &OsStr) -> Option<Transport> {
    let transport = text.to_str()?.parse().ok()?;
    can_be_inherited(transport).then_some(transport)
}

/// Parses decimal digits. The parser of the standard library also takes a sign.
fn digits(text: &OsStr) -> Option<u64> {
    let text = text.to_str()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(number: &str, inode: Option<&str>) -> Result<Announced, NotAnnounced> {
        parse(Some(OsStr::new(number)), inode.map(OsStr::new), None)
    }

    #[test]
    fn a_number_is_digits_alone() {
        assert_eq!(parsed("3", None), Ok(Announced { number: 3, inode: None, transport: None }));
        assert_eq!(
            parsed("2147483647", Some("7")),
            Ok(Announced { number: i32::MAX, inode: Some(7), transport: None })
        );
        for bad in ["-1", "+3", " 3", "3 ", "3:7", "x", "2147483648", "99999999999999999999999"] {
            assert_eq!(parsed(bad, None), Err(NotAnnounced::Malformed(NUMBER)), "{bad}");
            assert_eq!(parsed("3", Some(bad)).is_ok(), bad == "2147483648", "{bad}");
        }
        assert_eq!(parsed("3", Some("")), Err(NotAnnounced::Malformed(INODE)));
        assert_eq!(parsed("", None), Err(NotAnnounced::NotSet));
        assert_eq!(parse(None, Some(OsStr::new("7")), None), Err(NotAnnounced::NotSet));
    }

    #[test]
    fn a_transport_is_the_word_of_one_that_can_be_inherited() {
        let parsed =
            |word: &str| parse(Some(OsStr::new("3")), None, Some(OsStr::new(word))).map(|found| found.transport);
        for transport in [Transport::Unix, Transport::Packet, Transport::Shm] {
            assert_eq!(parsed(&transport.to_string()), Ok(Some(transport)));
        }
        for bad in ["fifo", "", "SHM", "shm ", "tcp"] {
            assert_eq!(parsed(bad), Err(NotAnnounced::UnknownTransport), "{bad}");
        }
    }
}
