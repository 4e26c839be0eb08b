//! `parlour man`: prints one manual page for the program and all its commands, which is generated from the definition
//! of the command line.

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::exit;
use crate::{args, output};

pub(super) fn run() -> anyhow::Result<()> {
    output::bytes(&page()?)
}

fn page() -> std::io::Result<Vec<u8>> {
    let definition = args::definition();
    let commands: Vec<_> = definition.get_subcommands().cloned().collect();
    let synopsis = synopsis("SH", &definition);
    let main = Man::new(definition).source(format!("parlour {}", env!("CARGO_PKG_VERSION")));

    let mut page = Vec::new();
    main.render_title(&mut page)?;
    main.render_name_section(&mut page)?;
    synopsis.to_writer(&mut page)?;
    main.render_description_section(&mut page)?;
    main.render_options_section(&mut page)?;
    for command in commands {
        page.extend(section(command)?);
    }
    exit_codes().to_writer(&mut page)?;
    environment().to_writer(&mut page)?;
    Ok(page)
}

/// Renders one command as a section, with its own sections one level below.
fn section(command: clap::Command) -> std::io::Result<Vec<u8>> {
    let mut section = Vec::new();
    let title = format!("parlour {}", command.get_name()).to_uppercase();
    Roff::new().control("SH", [title.as_str()]).to_writer(&mut section)?;
    synopsis("SS", &command).to_writer(&mut section)?;

    let man = Man::new(command);
    let mut rest = Vec::new();
    man.render_description_section(&mut rest)?;
    man.render_options_section(&mut rest)?;
    section.extend(String::from_utf8_lossy(&rest).replace(".SH ", ".SS ").into_bytes());
    Ok(section)
}

/// Renders the usage of a command, as `--help` prints it.
fn synopsis(heading: &str, command: &clap::Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let mut roff = Roff::new();
    roff.control(heading, ["SYNOPSIS"]);
    for line in usage.trim_start_matches("Usage:").lines() {
        roff.text([roman(line.trim())]).control("br", []);
    }
    roff
}

fn exit_codes() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in exit::MEANINGS {
        roff.control("TP", ["6"]).text([bold(code.to_string())]).text([roman(meaning)]);
    }
    roff
}

fn environment() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["ENVIRONMENT"]);
    for (variable, meaning) in args::ENVIRONMENT {
        roff.control("TP", []).text([bold(variable)]).text([roman(meaning)]);
    }
    roff
}
