//! `parlour man`: prints one manual page for the program and all its commands, which is generated from the definition
//! of the command line.

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::exit;
use crate::{args, output};

/// The directories of names, in the order in which a client searches them.
const FILES: [(&str, &str); 5] = [
    ("$PARLOUR_DIR/NAME", "the directory of a name, if the variable is set; no other place is then searched"),
    ("$XDG_RUNTIME_DIR/parlour/NAME, /run/user/UID/parlour/NAME", "names of this user in a login session"),
    ("/tmp/parlour-UID/NAME", "names of this user where the system has no directory for login sessions"),
    ("/run/parlour/NAME", "names of root, for all users"),
    (
        "NAME/lock, NAME/unix, NAME/packet, NAME/shm, NAME/fifo, NAME/c/",
        "the lock that the server holds, the sockets and the FIFO that it listens on, and files of waiting clients; \
         nothing needs to be removed by hand",
    ),
];

const EXAMPLES: [(&str, &str); 9] = [
    ("parlour serve wc -- wc -w", "takes the name wc and runs one wc for each client"),
    ("parlour connect wc < README.md", "sends each line as a message and prints each reply as a line"),
    ("parlour call --wait 10s wc 'one two'", "waits for the server, sends one message and prints the reply"),
    ("parlour list", "lists the names and their servers"),
    ("parlour list --json | jq -r '.[].endpoints.unix // empty'", "prints the path of each socket"),
    ("parlour watch wc", "prints a line whenever a server of wc comes or goes"),
    ("parlour top wc", "shows the clients of wc, their traffic, and the ones that hold it up, until q is typed"),
    ("parlour path wc", "shows where a client and a server look for the name, and why"),
    ("parlour doctor", "checks directories, limits and the kernel, and tells how to fix a problem"),
];

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
    described("FILES", &FILES).to_writer(&mut page)?;
    described("EXAMPLES", &EXAMPLES).to_writer(&mut page)?;
    see_also().to_writer(&mut page)?;
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
    described("ENVIRONMENT", &args::ENVIRONMENT)
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

fn see_also() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("parlour-bridge(1), unix(7), fifo(7), systemd.socket(5), ssh(1)")]);
    roff
}
