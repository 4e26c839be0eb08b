//! Names of the files that a client creates while it connects: `<pid>-<nonce>.<kind>`.

use super::nonce::Nonce;

/// The stem of a client's file names: the client's process id, for human readers, and its nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientId {
    pub(crate) pid: u32,
    pub(crate) nonce: Nonce,
}

/// The kind of a client's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientFile {
    /// The FIFO from the server to the client.
    ServerToClient,
    /// The FIFO from the client to the server.
    ClientToServer,
    /// The client's bound socket.
    Socket,
    /// The text that states the origin of a client of a bridge.
    Origin,
}

impl ClientFile {
    fn extension(self) -> &'static str {
        match self {
            Self::ServerToClient => "s2c",
            Self::ClientToServer => "c2s",
            Self::Socket => "sock",
            Self::Origin => "via",
        }
    }
}

impl ClientId {
    /// Returns the name of one of this client's files, without a directory.
    pub(crate) fn file_name(&self, file: ClientFile) -> String {
        format!("{}-{}.{}", self.pid, self.nonce, file.extension())
    }

    /// Parses a name that [`file_name`](Self::file_name) returned. Each name has exactly one spelling: a name that
    /// parses is equal to the one that [`file_name`](Self::file_name) returns.
    pub(crate) fn parse(file_name: &str) -> Option<(Self, ClientFile)> {
        let (stem, extension) = file_name.split_once('.')?;
        let file = [ClientFile::ServerToClient, ClientFile::ClientToServer, ClientFile::Socket, ClientFile::Origin]
            .into_iter()
            .find(|file| file.extension() == extension)?;
        let (pid, nonce) = stem.split_once('-')?;
        let id = Self { pid: parse_pid(pid.as_bytes())?, nonce: Nonce::parse(nonce.as_bytes())? };
        Some((id, file))
    }
}

/// Parses a process id in its only decimal spelling: no sign, no leading zero, and in the range that a kernel assigns.
pub(crate) fn parse_pid(text: &[u8]) -> Option<u32> {
    match text {
        [b'1'..=b'9', rest @ ..] if rest.len() < 10 && rest.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(text).ok()?.parse().ok().filter(|&pid| pid <= i32::MAX as u32)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_carry_the_pid_for_people() {
        let id = ClientId { pid: 4711, nonce: Nonce::from_bytes([0xa5; 16]) };
        let name = id.file_name(ClientFile::ServerToClient);
        assert_eq!(name, format!("4711-{}.s2c", "a5".repeat(16)));
        assert_eq!(ClientId::parse(&name), Some((id, ClientFile::ServerToClient)));
    }

    #[test]
    fn other_names_are_not_client_files() {
        let nonce = "a5".repeat(16);
        for name in [
            String::new(),
            "lock".to_owned(),
            format!("1-{nonce}"),
            format!("1-{nonce}.sock.sock"),
            format!("1-{nonce}.SOCK"),
            format!("01-{nonce}.sock"),
            format!("0-{nonce}.sock"),
            format!("+1-{nonce}.sock"),
            format!("-1-{nonce}.sock"),
            format!("2147483648-{nonce}.sock"),
            format!("99999999999-{nonce}.sock"),
            format!("1-{nonce}0.sock"),
            format!("../1-{nonce}.sock"),
        ] {
            assert_eq!(ClientId::parse(&name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_name_that_parses_has_that_spelling(name in "[0-9]{1,4}-[0-9a-f]{32}\\.(s2c|c2s|sock|via)|.{0,60}") {
            if let Some((id, file)) = ClientId::parse(&name) {
                prop_assert_eq!(id.file_name(file), name);
            }
        }
    }
}
