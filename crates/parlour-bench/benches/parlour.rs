//! The bench target of `cargo bench -p parlour-bench`: parlour against the bare system calls.

use std::process::ExitCode;

fn main() -> ExitCode {
    parlour_bench::main(parlour_bench::contenders())
}
