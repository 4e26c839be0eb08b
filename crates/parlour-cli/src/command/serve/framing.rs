//! The framing of the programs that `parlour serve` runs.

use crate::args::Serve;
use crate::lines::Framing;

/// Returns the framing that splits the streams of a program into messages.
pub(super) fn framing(args: &Serve) -> Framing {
    match (args.raw, args.frames) {
        (true, _) => Framing::Raw,
        (_, true) => Framing::Frames,
        _ => Framing::Lines,
    }
}
