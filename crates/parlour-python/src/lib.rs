//! The native module of the Python package `parlour`. `python/parlour` has the part that is written in Python.

mod batch;
mod buffer;
mod call_server;
mod call_steps;
mod caller;
mod capabilities;
mod child;
mod connect;
mod connection;
mod connector;
mod ending;
mod error;
mod fork;
mod frame;
mod frame_pool;
mod frame_reader;
mod hub;
mod inspect;
mod json;
mod lock;
mod log;
mod loss;
mod message;
mod name_stats;
mod options;
mod owner;
mod payload;
mod peer;
mod refusal;
mod resolution;
mod server;
mod session;
mod session_steps;
mod shared;
mod spare;
mod stats;
mod tap;
mod wait;
mod watch;

use parlour::{ErrorKind, NAME_LEN_MAX, Transport};
use pyo3::prelude::*;

/// The native part of the package. Programs import `parlour`.
#[pymodule(gil_used = false)]
mod _parlour {
    use super::*;

    #[pymodule_export]
    use super::call_server::{_end_call_servers, Answers, Call, CallServer};
    #[pymodule_export]
    use super::call_steps::CallSteps;
    #[pymodule_export]
    use super::caller::{Attempts, CallStream, Caller};
    #[pymodule_export]
    use super::capabilities::Capabilities;
    #[pymodule_export]
    use super::child::{ChildEnd, child_end};
    #[pymodule_export]
    use super::connect::{Pending, begin, connect, from_env, pair};
    #[pymodule_export]
    use super::connection::Connection;
    #[pymodule_export]
    use super::connector::Connector;
    #[pymodule_export]
    use super::frame::{Frame, ReceivedFrame};
    #[pymodule_export]
    use super::frame_pool::{AdmittedReader, FramePool};
    #[pymodule_export]
    use super::frame_reader::FrameReader;
    #[pymodule_export]
    use super::hub::{_end_hubs, Client, Event, Hub};
    #[pymodule_export]
    use super::inspect::{NameStatus, clean, names};
    #[pymodule_export]
    use super::loss::Loss;
    #[pymodule_export]
    use super::message::Message;
    #[pymodule_export]
    use super::name_stats::{ClientStats, Flow, NameStats, Waiting, name_stats};
    #[pymodule_export]
    use super::owner::Owner;
    #[pymodule_export]
    use super::peer::{Origin, Peer};
    #[pymodule_export]
    use super::refusal::Refusal;
    #[pymodule_export]
    use super::resolution::{Base, Candidate, Resolution, bases, resolve};
    #[pymodule_export]
    use super::server::{_release_names, Server};
    #[pymodule_export]
    use super::session::Session;
    #[pymodule_export]
    use super::session_steps::SessionSteps;
    #[pymodule_export]
    use super::shared::SharedBytes;
    #[pymodule_export]
    use super::stats::ServerStats;
    #[pymodule_export]
    use super::tap::{Tap, TapMessage, tap};
    #[pymodule_export]
    use super::watch::{Watch, Watches, watch};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        fork::install()?;
        let kinds: Vec<_> = ErrorKind::ALL.iter().map(|kind| format!("{kind:?}")).collect();
        module.add("ERROR_KINDS", kinds)?;
        let transports: Vec<_> = Transport::ALL.iter().map(Transport::to_string).collect();
        module.add("TRANSPORTS", transports)?;
        let atexit = module.py().import("atexit")?;
        for name in ["_release_names", "_end_hubs", "_end_call_servers"] {
            atexit.call_method1("register", (module.getattr(name)?,))?;
        }
        module.add("NAME_LEN_MAX", NAME_LEN_MAX)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
