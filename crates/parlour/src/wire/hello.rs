//! The second part of the FIFO handshake: the server's answer and the client's acknowledgement.
//!
//! Each is one line that contains the nonce, so that a line of another handshake cannot be mistaken for it:
//! `parlour1 hello <nonce>\n`, `parlour1 refused <nonce> <reason>\n`, `parlour1 ack <nonce>\n`.

use super::nonce::Nonce;
use super::request::MAGIC;

/// The maximum length of an answer. Its reason is a variant of [`Reason`].
pub(crate) const ANSWER_LEN_MAX: usize = 96;

/// Length of an acknowledgement in bytes, including the newline. It is constant, so that the server reads exactly these
/// bytes and the first message stays in the FIFO.
pub(crate) const ACK_LEN: usize = MAGIC.len() + "ack ".len() + Nonce::TEXT_LEN + 1;

/// A server's answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Hello,
    Refused(Reason),
}

/// The reason for which a server rejects a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// The server's policy does not admit this client.
    Denied,
    /// A limit on connections or handshakes is reached.
    Busy,
    /// An operation that the server needs to admit the client failed. The client is not the cause.
    Failed,
}

impl Reason {
    pub(crate) const ALL: [Self; 3] = [Self::Denied, Self::Busy, Self::Failed];

    /// Returns the number of this reason in a refusal on a socket. It is never 0.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Denied => 1,
            Self::Busy => 2,
            Self::Failed => 3,
        }
    }

    /// Returns the reason with this number.
    pub(crate) fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.number() == number)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Busy => "busy",
            Self::Failed => "failed",
        }
    }
}

/// Returns the server's answer to the request with this nonce.
pub(crate) fn encode_answer(answer: Answer, nonce: &Nonce) -> Vec<u8> {
    match answer {
        Answer::Hello => format!("{MAGIC}hello {nonce}\n"),
        Answer::Refused(reason) => format!("{MAGIC}refused {nonce} {}\n", reason.word()),
    }
    .into_bytes()
}

/// Parses an answer without its newline. Returns `None` if the line is not an answer to this nonce.
pub(crate) fn parse_answer(line: &[u8], nonce: &Nonce) -> Option<Answer> {
    let line = std::str::from_utf8(line).ok()?.strip_prefix(MAGIC)?;
    let (verb, rest) = line.split_once(' ')?;
    let (text, reason) = match rest.split_once(' ') {
        Some((text, reason)) => (text, Some(reason)),
        None => (rest, None),
    };
    if Nonce::parse(text.as_bytes())? != *nonce {
        return None;
    }
    match (verb, reason) {
        ("hello", None) => Some(Answer::Hello),
        ("refused", Some(word)) => {
            let reason = Reason::ALL.into_iter().find(|reason| reason.word() == word)?;
            Some(Answer::Refused(reason))
        }
        _ => None,
    }
}

/// Returns the client's acknowledgement.
pub(crate) fn encode_ack(nonce: &Nonce) -> Vec<u8> {
    format!("{MAGIC}ack {nonce}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONCE: [u8; 16] = [0x3c; 16];

    #[test]
    fn each_answer_reads_back() {
        let nonce = Nonce::from_bytes(NONCE);
        let refusals = Reason::ALL.map(Answer::Refused);
        for answer in [Answer::Hello].into_iter().chain(refusals) {
            let line = encode_answer(answer, &nonce);
            assert!(line.len() <= ANSWER_LEN_MAX);
            assert_eq!(parse_answer(&line[..line.len() - 1], &nonce), Some(answer));
        }
    }

    #[test]
    fn an_answer_to_another_nonce_is_rejected() {
        let line = encode_answer(Answer::Hello, &Nonce::from_bytes([1; 16]));
        assert_eq!(parse_answer(&line[..line.len() - 1], &Nonce::from_bytes([2; 16])), None);
    }

    #[test]
    fn an_acknowledgement_has_one_length() {
        let line = encode_ack(&Nonce::from_bytes(NONCE));
        assert_eq!(line.len(), ACK_LEN);
        assert_eq!(line, format!("parlour1 ack {}\n", "3c".repeat(16)).into_bytes());
    }

    proptest! {
        #[test]
        fn hostile_answers_never_panic(line in prop::collection::vec(any::<u8>(), 0..120)) {
            prop_assert_eq!(parse_answer(&line, &Nonce::from_bytes(NONCE)), None);
        }
    }
}
