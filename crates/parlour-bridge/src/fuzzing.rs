//! The bodies of the fuzz targets: one function per target, which panics if a property does not hold. They are compiled
//! for tests as well, so that `cargo test` replays every committed seed.
#![allow(unreachable_pub, reason = "the module is public only for the fuzzers")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a failed check panics")]

use std::collections::BTreeSet;
use std::time::Duration;

use crate::identity::{Host, Instance};
use crate::link::{Action, Link, Myself, Role};
use crate::wire::FRAME_LEN_MAX;
use crate::wire::control::{Endpoint, FrameReader};
use crate::wire::conversation::{Answer, Preamble};

/// The bytes of a control connection, after the size of the pieces in which they arrive: the frames are the same in any
/// pieces, and each has one spelling. A link that hears them keeps to its rules.
pub fn bridge_control(data: &[u8]) {
    let Some((&piece, bytes)) = data.split_first() else { return };
    let piece = usize::from(piece).max(1);
    let read = |piece: usize| {
        let (mut reader, mut frames) = (FrameReader::default(), Vec::new());
        for part in bytes.chunks(piece) {
            reader.push(part);
            loop {
                match reader.next() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(bad) => {
                        assert_eq!(reader.next(), Err(bad.clone()), "an error is permanent");
                        return (frames, Some(bad));
                    }
                }
            }
        }
        (frames, None)
    };
    let found = read(piece);
    assert_eq!(found, read(bytes.len().max(1)), "the size of the pieces has no effect");
    for frame in found.0 {
        let mut spelled = Vec::new();
        frame.encode(&mut spelled);
        assert!(spelled.len() <= FRAME_LEN_MAX);
        assert!(bytes.windows(spelled.len()).any(|window| window == spelled), "{frame:?} has another spelling");
    }
    for role in [Role::Importer, Role::Exporter] {
        hear(role, bytes, piece);
    }
}

/// A link hears the bytes.
fn hear(role: Role, bytes: &[u8], piece: usize) {
    let host = |text: &str| Host::parse(text).expect("a valid host");
    let lease = Duration::from_secs(5);
    let myself = Myself { host: host("a"), instance: Instance([1; 16]), endpoint: Endpoint::default(), lease };
    let (mut link, _) = Link::new(role, myself, host("b"), BTreeSet::new(), Duration::ZERO);
    let (mut names, mut is_up, mut is_down) = (BTreeSet::new(), false, false);
    for (part, ms) in bytes.chunks(piece).zip(1..) {
        let now = Duration::from_millis(ms);
        for action in link.tick(now).into_iter().chain(link.receive(part, now)) {
            assert!(!is_down, "{action:?} after the end");
            match action {
                Action::Up(hello) => {
                    assert!(hello.host == host("b") && !std::mem::replace(&mut is_up, true));
                }
                Action::Exported(name) => assert!(role == Role::Importer && names.insert(name)),
                Action::Withdrawn(name) => assert!(role == Role::Importer && names.remove(&name)),
                Action::Send(frame) => assert!(is_up, "{frame:?} before the hello"),
                Action::Quits => assert!(is_up),
                Action::Down(_) => is_down = true,
            }
        }
    }
    assert_eq!(link.deadline().is_none(), is_down);
}

/// The first bytes of a conversation from either side: what is accepted has one spelling, and is complete or not in any
/// pieces.
pub fn bridge_preamble(data: &[u8]) {
    if let Ok(Some((preamble, len))) = Preamble::parse(data) {
        assert_eq!(preamble.encode(), data[..len]);
        assert!(len <= FRAME_LEN_MAX);
        for prefix in 0..len {
            assert_eq!(Preamble::parse(&data[..prefix]), Ok(None));
        }
    }
    if let Ok(Some((answer, len))) = Answer::parse(data) {
        assert_eq!(answer.encode(), data[..len]);
        for prefix in 0..len {
            assert_eq!(Answer::parse(&data[..prefix]), Ok(None));
        }
    }
    if data.len() >= FRAME_LEN_MAX {
        assert!(!matches!(Preamble::parse(data), Ok(None)), "an incomplete preamble is short");
        assert!(!matches!(Answer::parse(data), Ok(None)), "an incomplete answer is short");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    type Target = (&'static str, fn(&[u8]));

    const TARGETS: [Target; 2] = [("bridge_control", bridge_control), ("bridge_preamble", bridge_preamble)];

    fn home() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
    }

    #[test]
    fn every_seed_of_the_fuzzers_passes() {
        for (name, target) in TARGETS {
            let seeds: Vec<_> = fs::read_dir(home().join("seeds").join(name)).unwrap().collect();
            assert!(!seeds.is_empty(), "{name} has no seeds");
            for seed in seeds {
                let path = seed.unwrap().path();
                let data = fs::read(&path).unwrap();
                std::panic::catch_unwind(|| target(&data)).unwrap_or_else(|_| panic!("{}", path.display()));
            }
        }
    }

    #[test]
    fn each_target_has_its_program_and_its_seeds() {
        for directory in ["fuzz_targets", "seeds"] {
            let entries = fs::read_dir(home().join(directory)).unwrap();
            let names = entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
            let mut names: Vec<String> = names.filter(|name| name.starts_with("bridge_")).collect();
            names.sort();
            assert_eq!(names, TARGETS.map(|(name, _)| name));
        }
    }
}
