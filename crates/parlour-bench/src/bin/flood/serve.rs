//! The flooded server: a hub that sends every message back.

use std::time::Duration;

use anyhow::Result;
use parlour::ServerOptions;
use parlour::hub::{Event, HubOptions};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::args::{Limits, Serve};

/// The limit on open descriptors of a process on most systems. A flood without limits exhausts it.
const DESCRIPTORS: u64 = 1024;

pub(crate) fn run(args: &Serve) -> Result<()> {
    let hard = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(DESCRIPTORS), ..hard })?;
    let options = ServerOptions::new().mode(if args.address.starts_with("fifo:") { 0o600 } else { 0o666 });
    let options = match args.limits {
        Limits::On => options.connections_per_uid_max(100),
        Limits::Off => options
            .connections_per_uid_max(1_000_000)
            .connections_max(1_000_000)
            .half_open_max(65_536)
            .handshake_timeout(Duration::from_secs(3600)),
    };
    let mut hub = HubOptions::from(options).bind(&args.address)?;
    println!("ready");
    loop {
        match hub.next_event()? {
            // A client that does not take its answers only harms itself.
            Event::Message(client, message) => drop(hub.send(client, &message)),
            Event::Finished(client) => drop(hub.finish(client)),
            _ => {}
        }
    }
}
