//! The benchmark with the contenders of other libraries beside those of parlour.
//!
//! `cargo run --release --manifest-path crates/parlour-bench/compare/Cargo.toml -- --quick`

mod interprocess;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut contenders = parlour_bench::contenders();
    contenders.push(Box::new(interprocess::Interprocess));
    parlour_bench::main(contenders)
}
