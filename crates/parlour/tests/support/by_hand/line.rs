//! The file names, handshake lines and frames of the wire protocol, written a second time, so that a test fails when
//! the library changes them.

/// The process id and the nonce in a client's file names and handshake lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id {
    pub pid: u32,
    pub nonce: String,
}

impl Id {
    /// Creates an id with a random nonce for this process.
    pub fn new() -> Self {
        Self::of(std::process::id())
    }

    /// Creates an id with a random nonce that claims another process id.
    pub fn of(pid: u32) -> Self {
        let mut bytes = [0; 16];
        let count = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).unwrap();
        assert_eq!(count, bytes.len());
        Self { pid, nonce: bytes.iter().map(|byte| format!("{byte:02x}")).collect() }
    }

    pub fn s2c(&self) -> String {
        format!("{}-{}.s2c", self.pid, self.nonce)
    }

    pub fn c2s(&self) -> String {
        format!("{}-{}.c2s", self.pid, self.nonce)
    }

    pub fn sock(&self) -> String {
        format!("{}-{}.sock", self.pid, self.nonce)
    }

    pub fn request(&self) -> Vec<u8> {
        let body = format!("parlour1 {} {}", self.pid, self.nonce);
        let checksum = crc32fast::hash(body.as_bytes());
        format!("{body} {checksum:08x}\n").into_bytes()
    }

    /// Parses a request line. Panics unless [`request`](Self::request) encodes the result to the same bytes.
    pub fn parse_request(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!((words.len(), words[0]), (4, "parlour1"), "{line:?}");
        let id = Self { pid: words[1].parse().unwrap(), nonce: words[2].to_owned() };
        assert_eq!(id.request(), format!("{line}\n").into_bytes());
        id
    }

    pub fn hello(&self) -> String {
        format!("parlour1 hello {}\n", self.nonce)
    }

    pub fn refused(&self, reason: &str) -> String {
        format!("parlour1 refused {} {reason}\n", self.nonce)
    }

    pub fn ack(&self) -> String {
        format!("parlour1 ack {}\n", self.nonce)
    }
}

/// Encodes a frame: the length as four bytes in big-endian order, then the message.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&length.to_be_bytes()[..], message].concat()
}
