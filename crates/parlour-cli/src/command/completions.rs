//! `parlour completions`: prints a completion script, which is generated from the definition of the command line.

use crate::args::{self, Completions};
use crate::output;

pub(super) fn run(args: &Completions) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::definition(), "parlour", &mut script);
    output::bytes(&script)
}
