//! With a wall clock that is wrong or is set. A library that is loaded first (`LD_PRELOAD`) changes what a process
//! reads. The times of files come from the kernel and stay true.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use libtest_mimic::Trial;
use parlour::{Server, Transport};

use super::containers::talk;
use crate::conformance;
use crate::support::surroundings::{Surroundings, inside};
use crate::support::{Base, Child, alone, declare};

/// The environment variable that the library reads.
const CLOCK: &str = "PARLOUR_TEST_CLOCK";

const CLOCKS: [(&str, &str); 3] =
    [("a_day_ahead", "86400"), ("a_day_behind", "-86400"), ("with_a_clock_that_steps", "steps")];

/// The core of the contract, and the trials of [`each`], with each of the clocks.
pub fn trials() -> Vec<Trial> {
    // A process of a trial has the environment of the process that declared the trials first.
    let (library, cannot) = match alone::wanted() {
        Some(_) => (PathBuf::new(), None),
        None => match build() {
            Ok(library) => (library, None),
            Err(error) => (PathBuf::new(), Some(error)),
        },
    };
    let around = |(word, error): (&str, &str)| {
        let cannot = cannot.clone();
        Surroundings {
            environment: vec![("LD_PRELOAD", library.clone().into()), (CLOCK, error.into())],
            skip: Arc::new(move |_| cannot.clone()),
            ..Surroundings::named(word)
        }
    };
    let all = || [declare::all(conformance::CORE), each::trials()].into_iter().flatten().collect();
    CLOCKS.iter().flat_map(|&clock| inside(around(clock), all)).collect()
}

/// Compiles the library, once for each version of its source and of this executable.
fn build() -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/without/clock.c");
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("parlour-test-clock.so");
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    if changed(&library).is_some_and(|built| changed(&source).is_some_and(|source| source < built)) {
        return Ok(library);
    }
    // Several runs may build it at the same time.
    let new = library.with_extension(format!("{}.so", std::process::id()));
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&new).arg(&source).output();
    match compiled {
        Ok(output) if output.status.success() => {
            fs::rename(&new, &library).map_err(|error| error.to_string())?;
            Ok(library)
        }
        Ok(output) => Err(format!("cc cannot build the clock: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("cannot start cc: {error}")),
    }
}

mod each {
    use super::*;
    use crate::support::trials;

    trials! {
        the_clock_of_this_process_is_wrong,
        for_clients_and_servers_with_different_clocks_all_transports_work,
    }

    /// The trials prove nothing if the clock is right.
    fn the_clock_of_this_process_is_wrong() {
        let file = tempfile::tempfile().unwrap();
        let written = file.metadata().unwrap().modified().unwrap();
        let now = SystemTime::now();
        let error = now.duration_since(written).unwrap_or_else(|error| error.duration());
        assert!(error > Duration::from_secs(86_000), "{error:?}");
    }

    /// The clock of one process is right, and that of the other one is not.
    fn for_clients_and_servers_with_different_clocks_all_transports_work() {
        for &transport in Transport::ALL {
            for role in ["server", "client"] {
                let base = Base::new();
                let address = base.address(transport, "time");
                let start = |name: &str| {
                    let mut command = Child::command(name, std::slice::from_ref(&address));
                    if name == role {
                        command.env_remove(CLOCK);
                    }
                    Child::start(&mut command)
                };
                let mut server = start("server");
                server.expect("ready");
                talk(&mut server, &mut start("client"));
                drop(server);
                Server::bind(&address).unwrap().close().unwrap();
            }
        }
    }
}
