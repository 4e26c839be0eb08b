//! The framing of the programs that `parlour serve` runs.

use crate::args::Serve;
use crate::lines::Framing;

/// Gives the framing that cuts the streams of a program into messages.
pub(super) fn framing(args: &Serve) -> Framing {
    if args.raw { Framing::Raw } else { Framing::Lines }
}
