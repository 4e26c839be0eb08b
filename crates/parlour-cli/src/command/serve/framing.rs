//! The framing of the programs that `parlour serve` runs.

use crate::args::Serve;
use crate::lines::Framing;

/// Returns the framing that splits the streams of a program into messages.
pub(super) fn framing(args: &Serve) -> Framing {
    if args.raw { Framing::Raw } else { Framing::Lines }
}
