//! The program `parlour-bridge`.

mod program;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use parlour_bridge::files::certificates::{self, Created};
use parlour_bridge::files::finding::{Finding, Severity};
use parlour_bridge::identity::Host;

/// Lets the clients of this host reach servers of other hosts under the same names
#[derive(Debug, Parser)]
#[command(name = "parlour-bridge", version, max_term_width = 110)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the bridge of this host until SIGTERM or SIGINT
    Run(Configured),
    /// Find every mistake of the configuration that can be found without the other hosts
    Check(Configured),
    /// Print the hosts, names, conversations and refusals of the bridge that runs here
    Status(Shown),
    /// Show three hosts on this machine, with a server that is killed and one that takes over, in some seconds
    Demo,
    /// Create certificates
    #[command(subcommand)]
    Cert(Cert),
    /// Print the completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page in roff format
    Man,
    /// Run one bridge of the demo
    #[command(hide = true)]
    DemoBridge { config: PathBuf },
    /// Run one server of the demo
    #[command(hide = true)]
    DemoServer { host: String },
}

#[derive(Debug, clap::Args)]
struct Configured {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/parlour/bridge.toml")]
    config: PathBuf,
}

/// The form of the status.
#[derive(Debug, clap::Args)]
struct Shown {
    /// Print one JSON document
    #[arg(long, conflicts_with = "openmetrics")]
    json: bool,
    /// Print the text format of OpenMetrics
    #[arg(long)]
    openmetrics: bool,
}

#[derive(Debug, Subcommand)]
enum Cert {
    /// Create the authority of a realm: ca.pem, for every host, and ca.key, which stays here
    Init {
        /// The directory, which is created if it does not exist
        #[arg(long, value_name = "DIRECTORY", default_value = ".")]
        dir: PathBuf,
    },
    /// Create the certificate and the key of one host: NAME.pem and NAME.key, for that host
    Host {
        /// The DNS name of the host, in lower case
        name: String,
        /// The directory of the authority
        #[arg(long, value_name = "DIRECTORY", default_value = ".")]
        dir: PathBuf,
        /// The validity in days
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..))]
        days: u16,
    },
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Run(Configured { config }) => program::run::run(&config),
        Command::Check(Configured { config }) => program::run::check(&config),
        Command::Status(Shown { json, openmetrics }) => program::status::run(json, openmetrics),
        Command::Demo => program::demo::run(),
        Command::Completions { shell } => program::man::completions(shell, Args::command()),
        Command::Man => program::man::man(Args::command()),
        Command::DemoBridge { config } => program::demo::bridge(&config),
        Command::DemoServer { host } => program::demo::server(&host),
        Command::Cert(Cert::Init { dir }) => certificates::init(&dir).map_err(one).and_then(show),
        Command::Cert(Cert::Host { name, dir, days }) => host(&name, &dir, days),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(findings) => {
            findings.iter().for_each(program::note);
            ExitCode::FAILURE
        }
    }
}

fn one(finding: Finding) -> Vec<Finding> {
    vec![finding]
}

fn show(created: Created) -> Result<(), Vec<Finding>> {
    program::print(&format!("{}\n{}\n", created.certificate.display(), created.key.display()))
}

fn host(name: &str, dir: &Path, days: u16) -> Result<(), Vec<Finding>> {
    let mistake = |problem, remedy: &str| {
        let (place, remedy) = (format!("{name:?}"), remedy.to_owned());
        vec![Finding { severity: Severity::Mistake, place, problem, remedy }]
    };
    let host = Host::parse(name).map_err(|problem| mistake(problem, "write a DNS name such as a.example"))?;
    let valid = Duration::from_secs(u64::from(days) * 24 * 3600);
    certificates::host(dir, &host, valid).map_err(one).and_then(show)
}
