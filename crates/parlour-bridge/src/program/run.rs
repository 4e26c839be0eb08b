//! `run` and `check`: the bridge, and the check of its configuration.

use std::path::{Path, PathBuf};

use parlour_bridge::driver::{self, Bridge, Handle};
use parlour_bridge::files::config::Config;
use parlour_bridge::files::finding::{Finding, Severity};
use parlour_bridge::files::tls::Tls;
use parlour_bridge::files::{check, host};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::SIGHUP;

use super::signals::Signals;
use super::{Done, failed, note, print};

/// Prints warnings. Mistakes are the error.
pub(crate) fn check(path: &Path) -> Done {
    let config = load(path)?;
    host::resolve_peers(&config).iter().for_each(note);
    print(&format!("{}: no mistake was found\n", path.display()))
}

fn load(path: &Path) -> Result<Config, Vec<Finding>> {
    let config = Config::read(path)?;
    let mut findings = check::check(&config, path);
    findings.extend(host::check(&config));
    findings.extend(driver::check(&config));
    let (mistakes, warnings): (Vec<_>, Vec<_>) =
        findings.into_iter().partition(|finding| finding.severity == Severity::Mistake);
    warnings.iter().for_each(note);
    if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
}

fn read(path: &Path) -> Result<(Config, Tls), Vec<Finding>> {
    let config = load(path)?;
    let tls = Tls::read(&config.tls).map_err(|finding| vec![finding])?;
    Ok((config, tls))
}

/// Reads the configuration and the certificates again at each signal. A mistake changes nothing.
async fn configure_at(mut signals: Signals, path: PathBuf, mut current: Config, bridge: Handle) {
    while signals.next().await {
        let configured = read(&path).and_then(|(config, tls)| {
            current.check_change(&config)?;
            bridge.configure(config.clone(), tls).map_err(|finding| vec![finding])?;
            Ok(config)
        });
        match configured {
            Ok(config) => {
                current = config;
            }
            Err(findings) => {
                findings.iter().for_each(note);
                note("the former configuration and certificates stay, because of these mistakes");
            }
        }
    }
}

/// Raises the limit on open descriptors to the hard one: a conversation takes two.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    // A sandbox may forbid it. The check compares with the hard limit, which is then the one that was set.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Runs the bridge until a signal.
pub(crate) fn run(path: &Path) -> Done {
    until(path, std::future::pending())
}

/// Runs the bridge until a signal to end, or until `end` completes.
pub(crate) fn until(path: &Path, end: impl Future<Output = ()>) -> Done {
    let (config, tls) = read(path)?;
    raise_limit();
    let bridge = Bridge::bind(config.clone(), tls).map_err(|finding| vec![finding])?;
    let limits = |error| failed("run", error, "raise the limits of this process");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(limits)?;
    let done = runtime.block_on(async {
        let mut signals = Signals::to_end()?;
        let hang_ups = Signals::catch(&[SIGHUP])?;
        tokio::spawn(configure_at(hang_ups, path.to_owned(), config, bridge.handle()));
        let end = async {
            tokio::select! {
                _ = signals.next() => {}
                () = end => {}
            }
        };
        bridge.run(|line| note(line), end).await
    });
    // A read of stdin, which cannot be interrupted, does not hold the end up.
    runtime.shutdown_background();
    done.map_err(limits)
}
