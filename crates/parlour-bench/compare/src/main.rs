//! The benchmark program with contenders for other libraries in addition to those of parlour.
//!
//! `cargo run --release --manifest-path crates/parlour-bench/compare/Cargo.toml -- --quick`

mod iceoryx2;
mod iceoryx2_loaned;
mod interprocess;
mod ipc_channel;
mod nng;
mod python;
mod tokio_codec;
mod tonic;
mod versions;
mod zbus;
mod zeromq;

use std::process::ExitCode;

use parlour_bench::{Contender, FrameWay};

fn main() -> ExitCode {
    let others: [Box<dyn Contender>; 11] = [
        Box::new(iceoryx2::Iceoryx2 { sleeps: false }),
        Box::new(iceoryx2::Iceoryx2 { sleeps: true }),
        Box::new(ipc_channel::IpcChannel),
        Box::new(interprocess::Interprocess),
        Box::new(tokio_codec::TokioCodec { many: false }),
        Box::new(tokio_codec::TokioCodec { many: true }),
        Box::new(zeromq::ZeroMq::default()),
        Box::new(nng::Nng),
        Box::new(python::Python),
        Box::new(tonic::Tonic),
        Box::new(zbus::Zbus),
    ];
    let ways: Vec<Box<dyn FrameWay>> = vec![Box::new(iceoryx2_loaned::Loaned)];
    parlour_bench::main_with_frames(parlour_bench::contenders().into_iter().chain(others).collect(), ways)
}
