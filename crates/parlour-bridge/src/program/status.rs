//! `status`: asks the bridge of this host.

use std::time::Duration;

use parlour::{ConnectOptions, ErrorKind};
use parlour_bridge::status::{NAME, Status, openmetrics, text};

use super::{Done, failed, print};

/// The time for the answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Prints the status in one of three forms.
pub(crate) fn run(json: bool, openmetrics: bool) -> Done {
    let answer = ask(NAME).map_err(|error| {
        let remedy = match error.kind() {
            ErrorKind::NoServer => "start the bridge, or ask as the user and with the PARLOUR_DIR of the bridge",
            _ => "see the log of the bridge",
        };
        failed("status", error, remedy)
    })?;
    let unreadable = |error| failed("status", error, "ask with the parlour-bridge of the version that runs");
    let status = Status::parse(&answer).map_err(unreadable)?;
    print(&match (json, openmetrics) {
        // As the bridge has sent it, with the fields of its version.
        (true, _) => String::from_utf8_lossy(&answer).into_owned() + "\n",
        (false, true) => openmetrics::exposition(&status),
        (false, false) => text::lines(&status),
    })
}

/// Returns the answer of the bridge that has a name.
pub(crate) fn ask(address: &str) -> parlour::Result<Vec<u8>> {
    let mut bridge = ConnectOptions::new().timeout(TIMEOUT).connect(address)?;
    bridge.send("status")?;
    Ok(bridge.recv_timeout(TIMEOUT)?.map(|message| message.to_vec()).unwrap_or_default())
}
