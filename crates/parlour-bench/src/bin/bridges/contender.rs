//! The contenders for the benchmark in turns.

use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use parlour_bench::{Client, Contender, Ready, Work};

use crate::client::BareClient;
use crate::kind::Kind;
use crate::server;
use crate::stage::Stage;

/// The server's process of a turn has the server, and starts the processes between it and the client.
pub(crate) struct Bridged {
    kind: Kind,
    version: String,
}

impl Bridged {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, version: kind.version() }
    }
}

impl Contender for Bridged {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn version(&self) -> String {
        self.version.clone()
    }

    fn advice(&self) -> &str {
        self.kind.advice()
    }

    fn supports(&self, work: Work) -> bool {
        matches!(work, Work::RoundTrip { .. } | Work::Stream { .. } | Work::Connect { .. })
    }

    fn serve(&self, place: &Path, work: Work, ready: Ready) -> Result<()> {
        let stage = Stage::prepare(place)?;
        let directory = stage.server_directory();
        let serving = thread::spawn(move || server::serve(&directory, work, || (), |_| ()));
        let _stage = stage.start(self.kind, None)?;
        ready.tell();
        serving.join().ok().context("the server has panicked")?
    }

    fn connect(&self, place: &Path, _work: Work) -> Result<Box<dyn Client>> {
        Ok(Box::new(BareClient::connect(&Stage::client_path(place, self.kind))?))
    }
}
