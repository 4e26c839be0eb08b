//! The values of options, and their parsers.

use std::time::Duration;

use parlour::Transport;

use crate::sys;

/// A list of transports, given as one argument.
#[derive(Clone, Debug)]
pub(crate) struct Transports(pub(crate) Vec<Transport>);

/// A limit on the time without a message, or `None` for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Idle(pub(crate) Option<Duration>);

/// Parses a list of transports such as `unix,fifo`, or `all`.
pub(super) fn transports(text: &str) -> Result<Transports, String> {
    if text == "all" {
        return Ok(Transports(Transport::ALL.to_vec()));
    }
    let parse = |name: &str| name.parse().map_err(|error: parlour::ParseTransportError| error.to_string());
    text.split(',').map(parse).collect::<Result<_, _>>().map(Transports)
}

/// Parses a duration such as `500ms` or `1m 30s`, or a number of seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string());
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; use a form such as 500ms, 10s or 1m"))
}

/// Parses the time between two readings.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time < Duration::from_millis(100) => Err("a reading takes place every 100ms at most".to_owned()),
        time => Ok(time),
    }
}

/// Parses a duration of more than zero, or `never`.
pub(super) fn idle(text: &str) -> Result<Idle, String> {
    match text {
        "never" => Ok(Idle(None)),
        _ => match duration(text)? {
            Duration::ZERO => Err("a time of zero would disconnect every client; use never for no limit".to_owned()),
            limit => Ok(Idle(Some(limit))),
        },
    }
}

/// Parses an octal file mode.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        // Connecting to a socket takes the right to write.
        Ok(mode) if mode <= 0o777 && [mode >> 3 & 6, mode & 6].iter().any(|bits| !matches!(bits, 0 | 6)) => {
            Err("other users need both read and write (6) to connect, or neither (0), such as 0660 or 0666".to_owned())
        }
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("not an octal file mode of at most 0777, such as 0660".to_owned()),
    }
}

/// Parses a number of at least 1.
pub(super) fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("not a whole number of at least 1".to_owned()),
    }
}

/// Parses a number of bytes, such as `65536`, `64K`, `16M` or `1G` (powers of 1024).
pub(super) fn bytes(text: &str) -> Result<usize, String> {
    let (number, factor) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(number) if text.ends_with('K') => (number, 1 << 10),
        Some(number) if text.ends_with('M') => (number, 1 << 20),
        Some(number) => (number, 1 << 30),
        None => (text, 1),
    };
    number
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| "not a number of bytes, such as 65536, 64K or 16M".to_owned())
}

/// Parses the number of a group, or its name in the databases of the system.
pub(super) fn group(text: &str) -> Result<u32, String> {
    match text.parse() {
        // chown(2) takes this number, (gid_t) -1, for "leave the group unchanged".
        Ok(u32::MAX) => Err("this number is not a group".to_owned()),
        Ok(gid) => Ok(gid),
        Err(_) => match sys::group_id(text) {
            Ok(Some(gid)) => Ok(gid),
            Ok(None) => Err("no such group; `getent group` lists the groups of this machine".to_owned()),
            Err(error) => Err(format!("looking up the group: {error}; use its number")),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn values_with_units_are_parsed() {
        assert_eq!(bytes("65536"), Ok(65536));
        assert_eq!(bytes("64K"), Ok(65536));
        assert_eq!(bytes("16M"), Ok(16 << 20));
        assert!(bytes("K").is_err() && bytes("-1").is_err() && bytes("99999999999999G").is_err());
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert!(duration("soon").is_err() && duration("-1").is_err());
        assert_eq!(mode("0660"), Ok(0o660));
        assert!(mode("rw").is_err() && mode("1777").is_err());
        assert_eq!((group("0"), group("root")), (Ok(0), Ok(0)));
        assert!(group("4294967295").is_err() && group("4294967296").is_err() && group("no such group").is_err());
        assert_eq!((idle("never"), idle("1m")), (Ok(Idle(None)), Ok(Idle(Some(Duration::from_secs(60))))));
        assert!(idle("0s").is_err() && idle("soon").is_err());
        assert_eq!(interval("0.1"), Ok(Duration::from_millis(100)));
        assert!(interval("99ms").is_err() && interval("soon").is_err());
        assert_eq!(transports("unix,fifo").unwrap().0, [Transport::Unix, Transport::Fifo]);
        assert_eq!(transports("all").unwrap().0, Transport::ALL);
        assert!(transports("unix,pigeon").is_err() && transports("").is_err());
    }
}
