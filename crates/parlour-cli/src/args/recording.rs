//! The arguments of `parlour record` and `parlour replay`.

use std::path::PathBuf;
use std::time::Duration;

use super::values::{bytes, duration};

/// Record the messages of a running server into a file
///
/// The file has the format MCAP (mcap.dev), which many tools read. Each client has a channel for each direction,
/// /NAME/CLIENT/in (to the server) and /NAME/CLIENT/out (to the client), with the times of the messages. Messages that
/// are JSON are marked as such. Messages that were lost, because this process was too slow, are counted in the channel
/// /NAME/lost. Of a message of more than 1 MiB, the beginning is recorded.
///
/// A long recording has several files: after --split bytes, and when the index of a file would take more than 64 MiB of
/// memory, the recording goes on in another file, with .2, .3 and so on before the extension of FILE.
///
/// The server is not stopped, delayed or restarted, and logs that it is tapped. It must run as the same user; root
/// names another one with --server-uid.
///
/// Ends with exit code 0 after --count messages, at SIGINT, SIGTERM or SIGHUP, and when the server ends. The file is
/// complete then. After a hand-over, the recording goes on with both servers, and the clients of the second one are
/// numbered from 1000001 on.
///
/// Example: `parlour record echo echo.mcap --count 1000`
#[derive(Debug, clap::Args)]
pub(crate) struct Record {
    /// Name of the server, optionally with a directory
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    /// The file to write; it must not exist
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Replace the file if it exists
    #[arg(long)]
    pub(crate) force: bool,

    /// Length of a file in bytes, or with the suffix K, M or G (powers of 1024), after which the next one begins
    /// [default: no limit]
    #[arg(long, value_name = "BYTES", value_parser = length)]
    pub(crate) split: Option<u64>,

    /// Number of messages to record [default: no limit]
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,

    /// Numeric user id that the server must have [default: that of this process, or root]
    #[arg(long, value_name = "UID")]
    pub(crate) server_uid: Option<u32>,
}

/// Play the clients of a recording against a server
///
/// Connects as often as there are clients in a recording of `parlour record`, and sends their messages in the order and
/// at the pace of the recording. With --compare, receives each answer where the recording has it, and prints the
/// answers that differ. A recording from a server that works, replayed against its next version, is thus a test.
///
/// The files of a recording that has several are given in their order.
///
/// A recording with messages that were lost cannot be compared. One with messages of more than 1 MiB, or with
/// descriptors from clients, cannot be replayed. The files are read into memory.
///
/// Exit code 1 means that answers differ, among other errors.
///
/// Example: `parlour replay echo.mcap echo-next --compare --speed 0`
#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// The files of the recording
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,

    /// Name of the server, optionally with a directory
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    /// Compare the answers with the recorded ones
    #[arg(long)]
    pub(crate) compare: bool,

    /// Speed relative to the recording; 0 sends without pauses
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = speed)]
    pub(crate) speed: f64,

    /// Time to wait for an answer, and for space to send
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// Parses the length of a file.
fn length(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        0 => Err("a file has at least one byte".to_owned()),
        length => Ok(length as u64),
    }
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if speed == 0.0 || (1e-6..=1e6).contains(&speed) => Ok(speed),
        _ => Err("a speed is 0, or a number from 0.000001 to 1000000".to_owned()),
    }
}
