//! The sequence of measurements, each with its own processes.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, bail, ensure};
use parlour::Transport;
use rustix::process::geteuid;

use crate::args::{Args, Flood, Limits};
use crate::child::Child;
use crate::report::{self, Row};
use crate::user::{FLOODER, HONEST};

const ROUNDS: [(Flood, Limits); 5] = [
    (Flood::None, Limits::On),
    (Flood::Connects, Limits::On),
    (Flood::Connects, Limits::Off),
    (Flood::Junk, Limits::On),
    (Flood::Junk, Limits::Off),
];

pub(crate) fn all(args: &Args) -> Result<()> {
    let mut transports = args.transports.clone();
    if transports.is_empty() {
        transports = Transport::ALL.to_vec();
    }
    if !geteuid().is_root() {
        let (kept, skipped): (Vec<_>, Vec<_>) = transports.into_iter().partition(|&one| one == Transport::Fifo);
        for transport in skipped {
            eprintln!("skipped: {transport}: only root can start processes of two other users");
        }
        transports = kept;
    }
    let mut rows = Vec::new();
    for transport in transports {
        for (flood, limits) in ROUNDS {
            rows.push(one(transport, flood, limits, args.seconds).with_context(|| format!("{transport}, {flood:?}"))?);
        }
    }
    report::print(&rows);
    Ok(())
}

fn one(transport: Transport, flood: Flood, limits: Limits, seconds: u64) -> Result<Row> {
    let base = tempfile::Builder::new().prefix("parlour-flood-").tempdir()?;
    std::fs::set_permissions(base.path(), Permissions::from_mode(0o755))?;
    let address = format!("{transport}:{}", base.path().join("room").display());
    let own = geteuid().as_raw();
    let (honest_uid, flooder_uid) = if transport == Transport::Fifo { (own, own) } else { (HONEST, FLOODER) };
    let mut server = Child::spawn(&["serve", &address, if limits == Limits::On { "on" } else { "off" }])?;
    ensure!(server.line()? == "ready", "the server did not report readiness");
    let mut honest = Child::spawn(&["honest", &address, &honest_uid.to_string(), &seconds.to_string()])?;
    ensure!(honest.line()? == "connected", "the honest client did not connect");
    let kind = match flood {
        Flood::None => "none",
        Flood::Connects => "connects",
        Flood::Junk => "junk",
    };
    let mut flooder = Child::spawn(&["attack", &address, &transport.to_string(), &flooder_uid.to_string(), kind])?;
    ensure!(flooder.line()? == "ready", "the flooder did not report readiness");
    ensure!(flooder.ask("")? == "flooding", "the flooder did not begin");
    let told = honest.ask("")?;
    let tried: u64 = flooder.ask("")?.parse()?;
    let numbers = told.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    let [open_p99, open_calls, open_failed, new_p99, new_calls, new_failed] = numbers[..] else {
        bail!("unexpected report of the honest client: {told}")
    };
    honest.finish()?;
    flooder.finish()?;
    drop(server);
    Ok(Row {
        transport,
        flood: kind,
        limits: limits == Limits::On,
        tried_per_second: tried / seconds,
        open: report::Calls { p99: open_p99, calls: open_calls, failed: open_failed },
        new: report::Calls { p99: new_p99, calls: new_calls, failed: new_failed },
    })
}
