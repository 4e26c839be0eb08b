//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use parlour::Transport;

/// Hold thousands of connections, make round trips over all of them, and print the costs
#[derive(Debug, Parser)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    /// Number of connections [default: 10,000 over `unix` and `packet`, 1,000 over `fifo` and `shm`]
    #[arg(long, short = 'n')]
    pub(crate) connections: Option<usize>,
    /// Transports [default: all]
    #[arg(long, value_delimiter = ',')]
    pub(crate) transports: Vec<Transport>,
    /// Servers that hold the connections [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) servers: Vec<ServerKind>,
    /// Number of client processes
    #[arg(long, default_value_t = 4)]
    pub(crate) processes: usize,
    /// Fail if an idle connection takes more than this many bytes of the server's allocated memory
    #[arg(long)]
    pub(crate) memory_max: Option<usize>,
    /// Measure `parlour top` of this program instead, with 1,000 connections over `unix` unless -n states another
    /// number
    #[arg(long, value_name = "PROGRAM", conflicts_with_all = ["transports", "servers", "processes", "memory_max"])]
    pub(crate) top: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

/// The roles of child processes.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    #[command(hide = true)]
    Serve(Serve),
    #[command(hide = true)]
    Clients(Clients),
}

/// The role of the process that holds the connections.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    pub(crate) kind: ServerKind,
    pub(crate) address: String,
    pub(crate) connections: usize,
}

/// The role of a process with many clients.
#[derive(Debug, clap::Args)]
pub(crate) struct Clients {
    pub(crate) address: String,
    pub(crate) count: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServerKind {
    /// `parlour::Hub`, in one thread
    Hub,
    /// `parlour::tokio::Server`, a task for each client on a runtime of one thread
    Tokio,
}

impl ServerKind {
    pub(crate) const ALL: &[Self] = &[Self::Hub, Self::Tokio];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::Tokio => "tokio",
        }
    }
}
