//! What can be typed.

use clap::{Parser, Subcommand, ValueEnum};
use parlour::Transport;

/// Floods a server as one user, and prints what an honest client of another user notices of it.
#[derive(Debug, Parser)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    /// How long each row is measured, in seconds
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u64,
    /// Over which transports. By default over all
    #[arg(long, value_delimiter = ',')]
    pub(crate) transports: Vec<Transport>,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

/// What a child process is told to be.
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
    /// Those that a server has by default, but for 100 connections of a user, which fit into its 1,024 descriptors
    On,
    /// So high that they are never reached
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flood {
    None,
    /// Connects as often as it can, and keeps what it gets
    Connects,
    /// Connects and says what nobody may say
    Junk,
}
