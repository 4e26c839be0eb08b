//! Messages whose content tells which they are.

use std::sync::OnceLock;

/// The longest message that [`message`] gives.
pub const LEN_MAX: usize = 16 * 1024 * 1024 + 1;

/// Different seeds begin at different places of the same bytes, this many apart at most.
const OFFSETS: usize = 65_521;

/// The message of this length and seed. It is a slice of a table, so that making and comparing one costs no more than
/// memcmp(3), also in a debug build.
pub fn message(seed: usize, length: usize) -> &'static [u8] {
    assert!(length <= LEN_MAX, "messages of up to {LEN_MAX} bytes can be had");
    let start = seed.wrapping_mul(7919) % OFFSETS;
    &table(start + length)[start..start + length]
}

/// Fails unless `bytes` are exactly [`message`] of this seed and length.
#[track_caller]
pub fn check(bytes: &[u8], seed: usize, length: usize) {
    let expected = message(seed, length);
    if bytes != expected {
        let place = bytes.iter().zip(expected).position(|(one, other)| one != other);
        panic!(
            "message {seed} has {} bytes of {length}, the first wrong one at {place:?}: {:02x?}",
            bytes.len(),
            &bytes[..bytes.len().min(16)],
        );
    }
}

/// What the roles say of a message that they received: `message LENGTH CRC`.
pub fn said(bytes: &[u8]) -> String {
    format!("message {} {:08x}", bytes.len(), crc32fast::hash(bytes))
}

/// Bytes without a period that a shift, a repetition or a hole could hide in. Most tests need few of them.
fn table(needed: usize) -> &'static [u8] {
    static SMALL: OnceLock<Vec<u8>> = OnceLock::new();
    static LARGE: OnceLock<Vec<u8>> = OnceLock::new();
    const SMALL_LEN: usize = OFFSETS + 128 * 1024;
    match needed <= SMALL_LEN {
        true => SMALL.get_or_init(|| random(SMALL_LEN)),
        false => LARGE.get_or_init(|| random(OFFSETS + LEN_MAX)),
    }
}

/// xorshift64*, eight bytes a step.
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
