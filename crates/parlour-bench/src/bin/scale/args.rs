//! What can be typed.

use clap::{Parser, Subcommand, ValueEnum};
use parlour::Transport;

/// Holds thousands of connections, has all of them echo, and prints what that took.
#[derive(Debug, Parser)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    /// How many connections. By default 10,000 over `unix` and `packet` and 1,000 over `fifo` and `shm`
    #[arg(long, short = 'n')]
    pub(crate) connections: Option<usize>,
    /// Over which transports. By default over all
    #[arg(long, value_delimiter = ',')]
    pub(crate) transports: Vec<Transport>,
    /// Held by which servers. By default by each
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) servers: Vec<ServerKind>,
    /// How many processes the clients are in
    #[arg(long, default_value_t = 4)]
    pub(crate) processes: usize,
    /// Fails if an idle connection takes more of the server's memory, in bytes. Not for `shm`, whose connections have memory
    /// of their own in any case
    #[arg(long)]
    pub(crate) memory_max: Option<usize>,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

/// What a child process is told to be.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    #[command(hide = true)]
    Serve(Serve),
    #[command(hide = true)]
    Clients(Clients),
}

/// The process that holds the connections.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    pub(crate) kind: ServerKind,
    pub(crate) address: String,
    pub(crate) connections: usize,
}

/// A process with this many clients.
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
