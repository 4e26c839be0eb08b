//! Messages whose content identifies them.

use std::sync::OnceLock;

/// The longest message that [`message`] returns.
pub const LEN_MAX: usize = 16 * 1024 * 1024 + 1;

/// The start of a message in the table is below this offset and depends on the seed.
const OFFSETS: usize = 65_521;

/// Returns the message of this seed and length. It is a slice of a table, so creating and comparing messages costs no
/// more than memcmp(3), also in a debug build.
pub fn message(seed: usize, length: usize) -> &'static [u8] {
    assert!(length <= LEN_MAX, "the longest message has {LEN_MAX} bytes");
    let start = seed.wrapping_mul(7919) % OFFSETS;
    &table(start + length)[start..start + length]
}

/// Panics unless `bytes` equals [`message`] of this seed and length.
#[track_caller]
pub fn check(bytes: &[u8], seed: usize, length: usize) {
    let expected = message(seed, length);
    if bytes != expected {
        let place = bytes.iter().zip(expected).position(|(one, other)| one != other);
        panic!(
            "message {seed} has {} of {length} bytes, the first difference is at {place:?}: {:02x?}",
            bytes.len(),
            &bytes[..bytes.len().min(16)],
        );
    }
}

/// Returns the line that the roles print for a received message: `message LENGTH CRC`.
pub fn said(bytes: &[u8]) -> String {
    format!("message {} {:08x}", bytes.len(), crc32fast::hash(bytes))
}

/// Returns random bytes, which have no period that could hide a shift, a repetition or a hole. Most tests need few.
fn table(needed: usize) -> &'static [u8] {
    static SMALL: OnceLock<Vec<u8>> = OnceLock::new();
    static LARGE: OnceLock<Vec<u8>> = OnceLock::new();
    const SMALL_LEN: usize = OFFSETS + 128 * 1024;
    match needed <= SMALL_LEN {
        true => SMALL.get_or_init(|| random(SMALL_LEN)),
        false => LARGE.get_or_init(|| random(OFFSETS + LEN_MAX)),
    }
}

/// Generates bytes by xorshift64*, eight at a time.
fn random(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
