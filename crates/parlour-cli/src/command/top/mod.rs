//! `parlour top`: a live view of names, and of the clients of one.

mod draw;
#[cfg(test)]
mod draw_tests;
mod history;
mod keys;
mod live;
mod look;
mod model;
#[cfg(test)]
mod model_tests;
mod page;
#[cfg(test)]
mod picture;
mod process;
mod reading;
mod rows;
#[cfg(test)]
mod samples;
mod screen;

use std::io::{self, IsTerminal};
use std::time::Instant;

use anyhow::Context;

use self::look::look;
use self::model::{Model, OF_CLIENTS, OF_NAMES, View};
use self::page::Tone;
use crate::args::Top;
use crate::exit::{self, Failure};
use crate::output;
use crate::signals::Stop;

pub(super) fn run(args: &Top) -> anyhow::Result<()> {
    let (view, orders) = match &args.address {
        Some(address) => (View::Clients(address.clone()), OF_CLIENTS),
        None => (View::Names, OF_NAMES),
    };
    if let Some(order) = args.sort
        && !orders.contains(&order)
    {
        let of = if view == View::Names { "names" } else { "clients" };
        let why = format!("{of} cannot be sorted in this order; `parlour help top` lists the orders");
        return Err(Failure::new(exit::USAGE, why).into());
    }
    let mut model = Model::new(view, args.sort, args.filter.clone().unwrap_or_default());
    let began = Instant::now();
    // Without a server, or without its counters, there is nothing to look at.
    look(&mut model, args, began, usize::MAX)?;
    if args.once {
        return once(&mut model, args, began);
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let why = "`parlour top` needs a terminal for its input and output; use --once for a text";
        return Err(Failure::new(exit::USAGE, why).into());
    }
    live::run(model, args, began)
}

/// Prints the rows after one interval as a text.
fn once(model: &mut Model, args: &Top, began: Instant) -> anyhow::Result<()> {
    let stop = Stop::on_interrupt_or_hangup().context("catching signals")?;
    stop.wait(args.interval)?;
    look(model, args, began, usize::MAX)?;
    let mut text = String::new();
    for line in page::head(model).iter().filter(|line| !line.text.is_empty() && line.tone != Tone::Graph) {
        text += &format!("{}\n", line.text.trim_end());
    }
    output::bytes(text.as_bytes())?;
    let rows = page::rows(model, true);
    if rows.is_empty() {
        return Ok(());
    }
    let columns = page::columns(model);
    // One interval makes no graph.
    let kept: Vec<usize> = (0..columns.len()).filter(|index| columns[*index].title != page::GRAPH).collect();
    let header: Vec<_> = kept.iter().map(|index| columns[*index].title).collect();
    let numbers: Vec<_> = columns.iter().filter(|column| column.is_number).map(|column| column.title).collect();
    let cells = rows.into_iter().map(|row| kept.iter().map(|index| row.cells[*index].clone()).collect()).collect();
    output::table(&header, &numbers, cells)
}
