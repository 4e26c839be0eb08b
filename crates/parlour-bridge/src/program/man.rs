//! `parlour-bridge man` and `parlour-bridge completions`: print the manual page and the completion scripts, which are
//! generated from the definition of the command line.

use std::io;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{Done, failed, print};

const EXIT_CODES: [(&str, &str); 3] = [
    ("0", "success; of run, an end by SIGTERM or SIGINT"),
    ("1", "a mistake, or an error; a line on stderr states the place, the problem and the remedy"),
    ("2", "the command line is invalid"),
];

const ENVIRONMENT: [(&str, &str); 1] =
    [("PARLOUR_DIR", "the only directory that holds names, instead of the default ones (see parlour(1))")];

const FILES: [(&str, &str); 3] = [
    ("/etc/parlour/bridge.toml", "the configuration, unless --config names another one"),
    (
        "ca.pem, HOST.pem, HOST.key",
        "the certificate of the authority, and the certificate and the key of this host, which the configuration names",
    ),
    ("ca.key", "the key of the authority, which stays where the certificates are created"),
];

const EXAMPLES: [(&str, &str); 5] = [
    ("parlour-bridge demo", "shows three hosts on this machine"),
    ("parlour-bridge cert init --dir realm", "creates the authority of a realm"),
    ("parlour-bridge cert host a.example --dir realm", "creates the certificate and the key of a host"),
    ("parlour-bridge check --config realm/bridge.toml", "finds the mistakes of a configuration"),
    ("parlour-bridge status --openmetrics", "prints the figures of the bridge that runs here for Prometheus"),
];

const SEE_ALSO: &str = "parlour(1), systemd.service(5)";

/// Prints the manual page.
pub(crate) fn man(definition: Command) -> Done {
    let page = page(definition).map_err(|error| failed("man", error, "report this error"))?;
    print(&String::from_utf8_lossy(&page))
}

/// Prints the completion script for a shell.
pub(crate) fn completions(shell: Shell, definition: Command) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut without_hidden(definition), "parlour-bridge", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Returns the definition without the commands that are for the program itself.
fn without_hidden(mut definition: Command) -> Command {
    definition.build();
    let is_shown = |command: &&Command| !command.is_hide_set() && command.get_name() != "help";
    let shown: Vec<_> = definition.get_subcommands().filter(is_shown).cloned().collect();
    let about = definition.get_about().cloned().unwrap_or_default();
    Command::new("parlour-bridge").version(env!("CARGO_PKG_VERSION")).about(about).subcommands(shown)
}

fn page(definition: Command) -> io::Result<Vec<u8>> {
    let mut definition = without_hidden(definition);
    definition.build();
    let commands: Vec<_> = definition.get_subcommands().filter(|is| is.get_name() != "help").cloned().collect();
    let main = Man::new(definition.clone()).source(format!("parlour {}", env!("CARGO_PKG_VERSION")));

    let mut page = Vec::new();
    main.render_title(&mut page)?;
    main.render_name_section(&mut page)?;
    synopsis("SH", &definition).to_writer(&mut page)?;
    main.render_description_section(&mut page)?;
    for command in commands {
        let groups: Vec<_> = command.get_subcommands().filter(|is| is.get_name() != "help").cloned().collect();
        match groups.is_empty() {
            true => section(command, &mut page)?,
            false => groups.into_iter().try_for_each(|command| section(command, &mut page))?,
        }
    }
    let sections: [(&str, &[(&str, &str)]); 4] =
        [("EXIT STATUS", &EXIT_CODES), ("ENVIRONMENT", &ENVIRONMENT), ("FILES", &FILES), ("EXAMPLES", &EXAMPLES)];
    for (heading, terms) in sections {
        described(heading, terms).to_writer(&mut page)?;
    }
    Roff::new().control("SH", ["SEE ALSO"]).text([roman(SEE_ALSO)]).to_writer(&mut page)?;
    Ok(page)
}

/// Renders one command as a section, with its own sections one level below.
fn section(command: Command, page: &mut Vec<u8>) -> io::Result<()> {
    let title = command.get_bin_name().unwrap_or(command.get_name()).to_uppercase();
    Roff::new().control("SH", [title.as_str()]).to_writer(page)?;
    synopsis("SS", &command).to_writer(page)?;
    let man = Man::new(command);
    let mut rest = Vec::new();
    man.render_description_section(&mut rest)?;
    man.render_options_section(&mut rest)?;
    page.extend(String::from_utf8_lossy(&rest).replace(".SH ", ".SS ").into_bytes());
    Ok(())
}

/// Renders the usage of a command, as `--help` prints it.
fn synopsis(heading: &str, command: &Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let mut roff = Roff::new();
    roff.control(heading, ["SYNOPSIS"]).text([roman(usage.trim_start_matches("Usage:").trim())]);
    roff
}

/// Renders a section of terms with their meanings.
fn described(heading: &str, terms: &[(&str, &str)]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    for (term, meaning) in terms {
        roff.control("TP", []).text([bold(*term)]).text([roman(*meaning)]);
    }
    roff
}
