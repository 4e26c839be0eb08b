//! Takes readings for the model.

use std::time::Instant;

use super::super::holder;
use super::model::{Model, View};
use super::reading;
use crate::args::Top;

/// Takes up a reading of what is shown, and of up to `processes` processes that are not known yet.
pub(super) fn look(model: &mut Model, args: &Top, began: Instant, processes: usize) -> anyhow::Result<()> {
    let options = holder::options(args.server_uid);
    let now = || began.elapsed().as_secs_f64();
    match &model.view {
        View::Names => {
            let names = reading::names(&options)?;
            model.read_names(names, now());
        }
        View::Clients(place) => {
            let name = reading::name(place, &options)?;
            model.read_name(name, now());
            let wanted = model.wanted(processes);
            let found = model.opened().map(|name| reading::processes(&name.counters(), wanted.iter()));
            model.add_processes(found.unwrap_or_default());
        }
    }
    Ok(())
}
