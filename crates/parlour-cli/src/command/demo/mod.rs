//! `parlour demo`: runs servers and clients as real processes over every transport, and checks the results.

mod crash;
mod event;
mod process;
mod report;
mod scene;
mod stats;
mod text;
mod traffic;
pub(super) mod worker;

use std::time::Instant;

use parlour::Transport;

use crate::args::Demo;
use crate::exit::{self, Failure};
use report::Report;
use scene::Scene;
use text::Text;

pub(super) fn run(args: &Demo) -> anyhow::Result<()> {
    let started = Instant::now();
    let text = Text::load(args.input.as_deref())?;
    let scene = Scene::set(&text)?;
    let mut report = Report::new(args.json, &text);

    for &transport in Transport::ALL {
        traffic::run(&scene, transport, &text, &mut report)?;
    }
    report.print_rows()?;
    for &transport in Transport::ALL {
        crash::run(&scene, transport, &text, &mut report)?;
    }
    scene.clear(&mut report)?;

    let held = report.held();
    report.print_end(started.elapsed())?;
    if held { Ok(()) } else { Err(Failure::new(exit::OTHER, "at least one check failed").into()) }
}
