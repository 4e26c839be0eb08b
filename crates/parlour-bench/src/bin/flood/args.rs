//! The command line.

use clap::{Parser, Subcommand, ValueEnum};
use parlour::Transport;

/// Flood a server as one user, and print the effect on an honest client of another user
#[derive(Debug, Parser)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    /// Length of the measurement for each row, in seconds
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u64,
    /// Transports [default: all]
    #[arg(long, value_delimiter = ',')]
    pub(crate) transports: Vec<Transport>,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

/// The roles of child processes.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    #[command(hide = true)]
    Serve(Serve),
    #[command(hide = true)]
    Honest(Honest),
    #[command(hide = true)]
    Attack(Attack),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    pub(crate) address: String,
    pub(crate) limits: Limits,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Honest {
    pub(crate) address: String,
    pub(crate) uid: u32,
    pub(crate) seconds: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Attack {
    pub(crate) address: String,
    pub(crate) transport: Transport,
    pub(crate) uid: u32,
    pub(crate) kind: Flood,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Limits {
    /// The defaults of a server, but 100 connections for each user, which fit into its 1,024 descriptors
    On,
    /// Limits that are too high to be reached
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flood {
    None,
    /// Connect as often as possible, and keep the connections
    Connects,
    /// Connect and send invalid bytes
    Junk,
}
